"""Secrets of a unit, read by one user and handed down to another."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chimirror.system import credentials
from chimirror.system.lean import environment


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a unit with one credential."""
    directory = tmp_path / "given"
    directory.mkdir()
    (directory / "token").write_bytes(b"secret\0")
    variables = {b"CREDENTIALS_DIRECTORY": str(directory).encode()}
    monkeypatch.setattr("posix.environ", variables)
    return directory


def test_handed_down(given: Path, tmp_path: Path) -> None:
    secrets = credentials.read()
    assert secrets == {"token": b"secret\0"}
    credentials.hand_down(secrets, str(tmp_path))
    directory = Path(environment()["CREDENTIALS_DIRECTORY"])
    assert directory == tmp_path / f"credentials-{os.getuid()}"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o500
    assert stat.S_IMODE((directory / "token").stat().st_mode) == 0o400
    assert (directory / "token").read_bytes() == b"secret\0"
    with pytest.raises(FileExistsError):
        credentials.hand_down(secrets, str(tmp_path))


def test_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("posix.environ", {})
    assert credentials.read() == {}
    credentials.hand_down({}, str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert not environment()
