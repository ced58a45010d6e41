"""One bridge among many: whether there is room for it, or why it cannot be one."""

from __future__ import annotations

import os

import pytest

from chimirror import crowd, options
from chimirror.service import Peer
from chimirror.system import cgroup, users

SOMEBODY = Peer("127.0.0.1", 4711)


class Three:
    """There are three of us."""

    def count(self) -> int:
        return 3


def config(*argv: str) -> options.Config:
    return options.bridge([*argv, "cat"])


def join(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str]:
    """The status it ends with, and what it says."""
    with pytest.raises(SystemExit) as caught:
        crowd.join(config(*argv))
    return caught.value.code, capfd.readouterr().err


@pytest.mark.parametrize(("limit", "cause"), [("2", "max-sessions"), ("3", None)])
def test_room(limit: str, cause: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "Siblings", Three)
    admission = crowd.join(config("--max-sessions", limit))
    assert admission
    assert admission.enter(SOMEBODY) == cause
    assert admission.retry_after("max-sessions") == 5
    admission.leave(SOMEBODY)


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


def test_a_user_and_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "become_one_of", lambda first, last: first)
    assert crowd.join(config("--user-range", "5-7")) is None
