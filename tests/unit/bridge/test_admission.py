"""The limit of sessions among bridges, and failures to get a user."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest

from chimirror.apps import Application
from chimirror.bridge import admission, users
from chimirror.config import Config, parser
from chimirror.host import cgroup, runtime_dir
from chimirror.session import Peer
from session_harness import SessionHarness
from websocket_peer import upgrade

SESSION = "5" * 32
FORMER = "6" * 32
TABLE = 99
PEER = Peer("127.0.0.1", 4711)
APP = Application("", parser.parse_bridge(["cat"]), {})


class ThreeInstances:
    """Three instances of the template."""

    template = b"chimirror@"

    def count(self) -> int:
        return 3


class FakeTable:
    """A table of locks: POSIX locks do not exclude the process that has them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locked: set[int] = set()
        monkeypatch.setattr(users, "lock_byte", self.lock)
        monkeypatch.setattr(users, "is_byte_free", self.is_free)

    def is_free(self, fd: int, offset: int) -> bool:
        assert fd == TABLE
        return offset not in self.locked

    def lock(self, fd: int, offset: int) -> bool:
        is_free = self.is_free(fd, offset)
        self.locked.add(offset)
        return is_free


def places(limit: int, template: bytes = b"chimirror@") -> admission.TemplateAdmission:
    instances = ThreeInstances()
    instances.template = template
    return admission.TemplateAdmission(cast("Any", instances), limit, TABLE)


def config(*argv: str) -> Config:
    return parser.parse_bridge([*argv, "cat"])


def refusal(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str]:
    """Return the exit status and the message on standard error."""
    with pytest.raises(SystemExit) as caught:
        admission.prepare_process(config(*argv), SESSION)
    return caught.value.code, json.loads(capfd.readouterr().err)["MESSAGE"]


@pytest.mark.parametrize(("limit", "cause"), [("2", "max-sessions"), ("3", None)])
def test_limit(limit: str, cause: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "TemplateInstances", ThreeInstances)
    limits = admission.prepare_process(config("--max-sessions", limit), SESSION)
    assert limits
    assert limits.acquire(PEER, APP) == cause
    assert limits.retry_after("max-sessions") == 5
    limits.release(PEER, APP)


def test_each_session_takes_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances without a session take none."""
    table = FakeTable(monkeypatch)
    limits = [places(40) for _ in range(41)]
    causes = [one.acquire(PEER, APP) for one in limits]
    assert causes == [None] * 40 + ["max-sessions"]
    assert len(table.locked) == 40
    other = places(1, b"other@")
    assert other.acquire(PEER, APP) is None
    assert other.acquire(PEER, APP) == "max-sessions"


def test_a_check_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    table = FakeTable(monkeypatch)
    for _ in range(2):
        assert places(1).find_exceeded(PEER, APP) is None
    assert not table.locked
    assert places(1).acquire(PEER, APP) is None
    assert places(1).find_exceeded(PEER, APP) == "max-sessions"
    assert places(2).find_exceeded(PEER, APP) is None


def test_lower_limit_holds_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTable(monkeypatch)
    for _ in range(20):
        assert places(1000).acquire(PEER, APP) is None
    assert places(20).acquire(PEER, APP) == "max-sessions"


@pytest.mark.parametrize("limit", [1, 31, 32, 33, 64, 1000])
def test_all_places_are_tried(limit: int) -> None:
    assert set(admission._places(limit)) == set(range(limit))


# The end of bridges without a session


@pytest.mark.parametrize("head", [b"", upgrade("/", "nothing", ())])
def test_crowd_of_instances(head: bytes) -> None:
    with SessionHarness() as harness:
        harness.peer.send_raw(head)
        harness.settle()
        admission.CrowdGuard(harness.context, places(2))
        harness.wait(0.9)
        assert harness.context.all_connections()
        harness.wait(0.2)
        assert not harness.context.all_connections()
        assert harness.peer.refusal().status == (400 if head else 408)


def test_crowd_that_comes_later() -> None:
    with SessionHarness() as harness:
        limits = places(3)
        admission.CrowdGuard(harness.context, limits)
        harness.wait(1.1)
        limits._limit = 2
        harness.wait(1.8)
        assert harness.context.all_connections(), "the wait has doubled"
        harness.wait(0.2)
        assert not harness.context.all_connections()


def test_crowd_ends_no_session() -> None:
    with SessionHarness() as harness:
        guard = admission.CrowdGuard(harness.context, places(2))
        harness.open()
        harness.wait(5)
        assert harness.context.sessions
        assert guard.armed == 0


def test_crowd_that_cannot_be_counted() -> None:
    class Broken(ThreeInstances):
        def count(self) -> int:
            raise FileNotFoundError

    with SessionHarness() as harness:
        limits = admission.TemplateAdmission(cast("Any", Broken()), 1, TABLE)
        admission.CrowdGuard(harness.context, limits)
        harness.wait(1.1)
        assert harness.context.all_connections()
        assert harness.event_log.of("note")


def test_no_template(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> None:
        raise cgroup.NotATemplateUnit

    monkeypatch.setattr(cgroup, "TemplateInstances", nowhere)
    status, said = refusal(capfd, "--max-sessions", "1")
    assert status == os.EX_USAGE
    assert said.startswith("chimirror-bridge: --max-sessions counts instances")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (users.NoFreeUser(), os.EX_TEMPFAIL, "every user of --user-range is taken"),
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
def test_no_free_user(
    error: Exception,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(first: int, last: int) -> None:
        assert (first, last) == (5, 7)
        raise error

    monkeypatch.setattr(users, "switch_to_free_user", fail)
    told = refusal(capfd, "--user-range", "5-7")
    assert told == (status, f"chimirror-bridge: {text}")


def test_a_user_and_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last session of this number was killed, and left its files."""

    class User:
        def record_session(self, session: str) -> str:
            assert session == SESSION
            return FORMER

        fd = TABLE

    monkeypatch.setattr(runtime_dir, "SYSTEM", str(tmp_path))
    monkeypatch.setattr(users, "switch_to_free_user", lambda first, last: User())
    for name in (FORMER, "other"):
        (tmp_path / "sessions" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "sessions" / name).touch()
    for _ in range(2):
        assert admission.prepare_process(config("--user-range", "5-7"), SESSION) is None
        assert [one.name for one in (tmp_path / "sessions").iterdir()] == ["other"]
