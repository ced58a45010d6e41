"""One bridge among many: whether there is room for it, or why it cannot be one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimirror import crowd, options
from chimirror.apps import App
from chimirror.service import Peer
from chimirror.system import cgroup, runtime, users

SESSION = "5" * 32
SOMEBODY = Peer("127.0.0.1", 4711)
APP = App("", options.bridge(["cat"]), {})


class Three:
    """There are three of us."""

    def count(self) -> int:
        return 3


def config(*argv: str) -> options.Config:
    return options.bridge([*argv, "cat"])


def join(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str]:
    """The status it ends with, and what it says."""
    with pytest.raises(SystemExit) as caught:
        crowd.join(config(*argv), SESSION)
    return caught.value.code, capfd.readouterr().err


@pytest.mark.parametrize(("limit", "cause"), [("2", "max-sessions"), ("3", None)])
def test_room(limit: str, cause: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "Siblings", Three)
    admission = crowd.join(config("--max-sessions", limit), SESSION)
    assert admission
    assert admission.enter(SOMEBODY, APP) == cause
    assert admission.retry_after("max-sessions") == 5
    admission.leave(SOMEBODY, APP)


def test_no_template(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> None:
        raise cgroup.NoTemplate

    monkeypatch.setattr(cgroup, "Siblings", nowhere)
    status, said = join(capfd, "--max-sessions", "1")
    assert status == os.EX_USAGE
    assert said.startswith("chimirror-bridge: --max-sessions counts instances")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (users.NoUser(), os.EX_TEMPFAIL, "every user of --user-range is taken"),
        (
            FileNotFoundError(2, "No such file or directory", "/run/chimirror/users"),
            os.EX_UNAVAILABLE,
            "--user-range: /run/chimirror/users: No such file or directory",
        ),
        (
            PermissionError(1, "Operation not permitted"),
            os.EX_OSERR,
            "--user-range: Operation not permitted",
        ),
    ],
)
def test_no_user(
    error: Exception,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(first: int, last: int) -> None:
        assert (first, last) == (5, 7)
        raise error

    monkeypatch.setattr(users, "become_one_of", fail)
    told = join(capfd, "--user-range", "5-7")
    assert told == (status, f"chimirror-bridge: {text}\n")


def test_a_user_and_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whose number was somebody's before, who was killed."""

    class User:
        def sign(self, session: str) -> str:
            assert session == SESSION
            return "left"

    monkeypatch.setattr(runtime, "SYSTEM", str(tmp_path))
    monkeypatch.setattr(users, "become_one_of", lambda first, last: User())
    for name in ("left", "other"):
        (tmp_path / "sessions" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "sessions" / name).touch()
    for _ in range(2):
        assert crowd.join(config("--user-range", "5-7"), SESSION) is None
        assert [one.name for one in (tmp_path / "sessions").iterdir()] == ["other"]
