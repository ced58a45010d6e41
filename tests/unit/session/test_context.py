"""The context of sessions without any session: peers, environment, limits, statuses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, cast

import pytest

from chimirror import apps, program, session
from chimirror.config import parser
from chimirror.control import ControlRegistry
from chimirror.io.loop import EventLoop
from chimirror.protocol import CLOSED_BY_OPERATOR, DRAIN, INTERNAL_ERROR
from chimirror.session import NoLimits, Peer, SessionContext
from session_harness import FakeSpawner, RecordingEventLog


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (Peer("127.0.0.1", 4711), "127.0.0.1:4711"),
        (Peer("::1", 4711), "[::1]:4711"),
        (Peer("198.51.100.9", 0), "198.51.100.9"),
        (Peer("", 0, 1000), "unix:1000"),
        (Peer("", 0, 0), "unix:0"),
        (Peer("", 0), "unix"),
    ],
)
def test_peers_in_records(peer: Peer, text: str) -> None:
    assert peer.text == text
    assert peer.endpoint == (peer.address, peer.port)


INHERITED = {
    "PATH": "/bin",
    "LANG": "C",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/",
    "USER": "me",
    "CREDENTIALS_DIRECTORY": "/run/credentials/x",
    "LISTEN_FDS": "1",
    "NOTIFY_SOCKET": "/run/x",
    "INVOCATION_ID": "0",
    "HTTP_PROXY": "http://evil",
    "http_proxy": "http://evil",
    "LD_PRELOAD": "evil.so",
    "SECRET": "s",
    "OTHER": "o",
}


def environment(*arguments: str) -> dict[str, str]:
    return apps.application_environment(
        INHERITED, parser.parse_bridge([*arguments, "--", "program"])
    )


def test_inherited_environment() -> None:
    names = "PATH LANG LC_ALL TZ HOME USER CREDENTIALS_DIRECTORY".split()
    kept = {name: INHERITED[name] for name in names}
    assert environment() == {**kept, "PYTHONUNBUFFERED": "1"}


def test_configured_environment(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_text("FROM_FILE='a b'\nBOTH=file\n")
    found = environment(
        "--pass-env=SECRET,MISSING",
        "--env=BOTH=line",
        f"--env-file={file}",
        "--env=PYTHONUNBUFFERED=",
        "--env=PATH=/usr/bin",
    )
    added = {name: found[name] for name in ("SECRET", "FROM_FILE", "BOTH", "PATH")}
    assert added == {
        "SECRET": "s",
        "FROM_FILE": "a b",
        "BOTH": "line",
        "PATH": "/usr/bin",
    }
    assert found["PYTHONUNBUFFERED"] == ""
    assert not {"MISSING", "OTHER", "HTTP_PROXY"} & set(found)


@pytest.fixture
def shared() -> Iterator[SessionContext]:
    loop = EventLoop()
    made = 0

    def make() -> Any:
        nonlocal made
        made += 1
        assert made == 1
        return RecordingEventLog()

    config = parser.parse_bridge(["--", "program", "an argument"])
    yield SessionContext(
        config,
        program.open_catalog(config, {}),
        loop,
        cast("Any", FakeSpawner()),
        make,
        ControlRegistry,
    )
    loop.close_all()


def test_event_log_is_opened_once(shared: SessionContext) -> None:
    assert shared.event_log is shared.event_log


def test_process_of_one_session_has_no_limits() -> None:
    admission = NoLimits()
    peer = Peer("", 0)
    app = apps.Application("", parser.parse_bridge(["cat"]), {})
    admission.acquire(peer, app)
    admission.release(peer, app)
    assert admission.retry_after("drain") == 1


def test_error_responses(shared: SessionContext) -> None:
    drain = shared.termination_error(DRAIN)
    assert (drain.status, drain.cause) == (503, "drain")
    assert drain.headers == (("Retry-After", "1"),)
    internal = shared.termination_error(INTERNAL_ERROR)
    assert internal.status == 500
    assert b"error internal" not in internal.response()
    closed = shared.termination_error(CLOSED_BY_OPERATOR)
    assert (closed.status, closed.cause, closed.headers) == (503, "ended", ())
    for cause in ("max-sessions", "max-rate", "start-shortage"):
        refusal = shared.capacity_error(cause)
        assert (refusal.status, refusal.cause) == (503, cause)


def test_policy() -> None:
    config = parser.parse_bridge(
        "--framing lines --subprotocol mcp=lines --host a.example "
        "--origin https://b.example --trusted-proxy 192.0.2.0/24 -- x".split()
    )
    policy = apps.make_policy(config)
    assert policy.subprotocols == {b"chimirror.lines.v1": "lines", b"mcp": "lines"}
    assert policy.hosts == {"a.example"}
    assert policy.trusted is not None
    assert policy.trusted("192.0.2.7")
    assert not policy.trusted("198.51.100.9")
    assert apps.make_policy(parser.parse_bridge(["x"])).trusted is None


def test_session_ids_have_the_form_of_invocation_ids() -> None:
    ids = {session.new_session_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)


@pytest.mark.parametrize(
    ("count", "timeout", "text"),
    [
        (0, 30.0, "stopping: 0 sessions"),
        (1, 0.25, "draining: 1 session, at most 0.25 s; again to end them now"),
        (3, 30.0, "draining: 3 sessions, at most 30 s; again to end them now"),
        (3, None, "ending 3 sessions now"),
    ],
)
def test_the_effect_of_a_stop_signal(
    count: int, timeout: float | None, text: str
) -> None:
    assert program.describe_stop("draining", count, "session", timeout) == text


@pytest.mark.parametrize("off", [signal.SIGINT, signal.SIGHUP])
def test_ignored_signals_stay_ignored(off: signal.Signals) -> None:
    """Ignored by nohup(1), or by a shell without job control after `&`."""
    everything = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    assert set(program.termination_signals()) == everything
    before = signal.signal(off, signal.SIG_IGN)
    try:
        assert set(program.termination_signals()) == everything - {off}
    finally:
        signal.signal(off, before)


def test_failed_system_calls_at_startup() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        os.chdir("/nonexistent")
    text = "/nonexistent: No such file or directory"
    assert program.describe_os_error(missing.value) == (text, os.EX_UNAVAILABLE)
    with pytest.raises(OSError) as bad:
        os.fstat(1 << 20)
    assert program.describe_os_error(bad.value) == ("Bad file descriptor", os.EX_OSERR)
    assert program.describe_os_error(OSError("odd")) == ("odd", os.EX_OSERR)
