"""Where a running chimirror can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror.system import runtime


@pytest.mark.parametrize(
    ("environ", "uid", "place"),
    [
        ({}, 0, "/run/chimirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/chimirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/chimirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/7", "INVOCATION_ID": "1"}, 7, "/run/chimirror"),
        ({"XDG_RUNTIME_DIR": "relative"}, 7, None),
        ({}, 7, None),
    ],
)
def test_the_place_of_a_process(
    environ: dict[str, str], uid: int, place: str | None
) -> None:
    assert runtime.directory(environ, uid) == place


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("0123456789abcdef" * 2, True),
        ("0123456789abcdef" * 2 + "\n", False),
        ("0123456789abcdef", False),
        ("0123456789ABCDEF" * 2, False),
        ("../" + "0" * 29, False),
        ("", False),
    ],
)
def test_what_may_be_a_file_of_a_session(name: str, may: bool) -> None:
    assert runtime.is_session(name) == may


def test_what_is_there_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setattr(runtime, "SYSTEM", str(tmp_path / "system"))
    environ = {"XDG_RUNTIME_DIR": str(own)}
    assert runtime.every(environ, 7) == []
    (own / "chimirror").mkdir(parents=True)
    assert runtime.every(environ, 7) == [str(own / "chimirror")]
    assert runtime.every(environ, 0) == []
    (tmp_path / "system").mkdir()
    assert runtime.every(environ, 7) == [
        str(tmp_path / "system"),
        str(own / "chimirror"),
    ]
    assert runtime.every({}, 7) == [str(tmp_path / "system")]
