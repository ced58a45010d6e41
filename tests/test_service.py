"""What sessions share, without any session: peers, environment, limits, statuses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, cast

import pytest

from chimirror import apps, options, service
from chimirror.service import Peer, Service, Unlimited
from chimirror.system.loop import Loop
from stage import Notebook, Troupe


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
    return apps.allowed(INHERITED, options.bridge([*arguments, "--", "program"]))


def test_what_an_application_inherits() -> None:
    names = "PATH LANG LC_ALL TZ HOME USER CREDENTIALS_DIRECTORY".split()
    kept = {name: INHERITED[name] for name in names}
    assert environment() == {**kept, "PYTHONUNBUFFERED": "1"}


def test_what_the_operator_adds(tmp_path: Any) -> None:
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
def shared() -> Iterator[Service]:
    loop = Loop()
    made = 0

    def make() -> Any:
        nonlocal made
        made += 1
        assert made == 1
        return Notebook()

    config = options.bridge(["--", "program", "an argument"])
    yield Service(
        config, service.applications(config, {}), loop, cast("Any", Troupe()), make
    )
    loop.close_all()


def test_records_are_made_once(shared: Service) -> None:
    assert shared.records is shared.records


def test_the_process_of_one_session_has_room() -> None:
    admission = Unlimited()
    peer = Peer("", 0)
    app = apps.App("", options.bridge(["cat"]), {})
    admission.enter(peer, app)
    admission.leave(peer, app)
    assert admission.retry_after("drain") == 1


def test_refusals(shared: Service) -> None:
    drain = shared.interruption("drain")
    assert (drain.status, drain.cause) == (503, "drain")
    assert drain.headers == (("Retry-After", "1"),)
    assert shared.interruption("error internal").status == 500
    assert b"error internal" not in shared.interruption("error internal").response()
    for cause in ("max-sessions", "max-rate", "start-shortage"):
        refusal = shared.no_room(cause)
        assert (refusal.status, refusal.cause) == (503, cause)


def test_policy() -> None:
    config = options.bridge(
        "--framing lines --subprotocol mcp=lines --host a.example "
        "--origin https://b.example --trusted-proxy 192.0.2.0/24 -- x".split()
    )
    policy = apps.make_policy(config)
    assert policy.subprotocols == {b"chimirror.lines.v1": "lines", b"mcp": "lines"}
    assert policy.hosts == {"a.example"}
    assert policy.trusted is not None
    assert policy.trusted("192.0.2.7")
    assert not policy.trusted("198.51.100.9")
    assert apps.make_policy(options.bridge(["x"])).trusted is None


def test_identities_are_as_systemd_writes_them() -> None:
    ids = {service.new_identity() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)


@pytest.mark.parametrize("off", [signal.SIGINT, signal.SIGHUP])
def test_signals_that_were_switched_off_stay_so(off: signal.Signals) -> None:
    """nohup(1) does it, and a shell without job control with `&`."""
    everything = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    assert set(service.endings()) == everything
    before = signal.signal(off, signal.SIG_IGN)
    try:
        assert set(service.endings()) == everything - {off}
    finally:
        signal.signal(off, before)


def test_system_calls_that_fail_at_the_start() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        os.chdir("/nonexistent")
    text = "/nonexistent: No such file or directory"
    assert service.explain(missing.value) == (text, os.EX_UNAVAILABLE)
    with pytest.raises(OSError) as bad:
        os.fstat(1 << 20)
    assert service.explain(bad.value) == ("Bad file descriptor", os.EX_OSERR)
    assert service.explain(OSError("odd")) == ("odd", os.EX_OSERR)
