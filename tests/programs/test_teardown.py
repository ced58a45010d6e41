"""Tests that a session leaves nothing behind, however either side ends it.

No process (even one that left its session), descriptor or zombie remains after the stop
timeouts. Each application writes `up` when its preparations are complete.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from network_cable import Cable
from processes import descendants, ended, marked, until
from serve import Bridge, Service, server
from websocket_peer import Closed, Peer, Sender, stdin, text

GRACES = ("--stop-grace", "50ms", "--kill-grace", "100ms", "--linger-timeout", "100ms")
PINGS = ("--ping-interval", "200ms", "--ping-timeout", "600ms")
SOON = 200.0  # seconds; longer than stop timeouts and pings on a slow machine

APPLICATIONS = {
    "obedient": "echo up; exec cat",
    "ignores-term": "trap '' TERM HUP INT; echo up; exec sleep 1000",
    "grandchildren": "sleep 1000 & (sleep 1000 & sleep 1000 &); echo up; wait",
    "own-group": "set -m; sleep 1000 & echo up; exec cat",
    "own-session": "setsid sh -c 'trap \"\" TERM; echo up; exec sleep 1000' & exec cat",
    "daemon": "setsid -f sleep 1000; echo up; exec cat",
    "closes-stdout": "echo up; exec sleep 1000 >&- 2>&-",
    "never-reads": "echo up; exec sleep 1000",
    "never-reaps": "sleep 0 & exec sh -c 'echo up; exec sleep 1000'",
    "stopped": "echo up; kill -STOP $$",
    "floods": "echo up; exec yes",
    "exits": "echo up; exit 3",
}


def reset(peer: Peer) -> None:
    peer.reset()


def reset_while_sending(peer: Peer) -> None:
    peer.send_raw(text(stdin(b"x" * 9999)) * 20 + text("cut")[:-1])
    peer.reset()


def finish(peer: Peer) -> None:
    """Close the socket: FIN, and RST as response to further data."""
    peer.close()


def half_close(peer: Peer) -> None:
    """Shut down one direction only. Nevertheless it is the end of the client."""
    peer.half_close()
    peer.stream.read()
    peer.close()


def close_frame(peer: Peer) -> None:
    peer.send_close()
    peer.transcript()
    peer.close()


VANISHINGS = [reset, reset_while_sending, finish, half_close, close_frame]


def chooser() -> list[str]:
    """Return one program for all applications. The query string names one."""
    cases = "".join(f"{name}) {play};;\n" for name, play in APPLICATIONS.items())
    return ["bash", "-c", f"case $QUERY_STRING in\n{cases}esac"]


def join(service: Service, name: str, cable: Cable | None = None) -> Peer:
    """Open a session and wait until the application has written `up`."""
    host = f"Host: {cable.near}" if cable else "Host: localhost"
    peer = Peer(cable.connect(service.port) if cable else service.connect())
    assert peer.open(f"/?{name}", fields=(host,)).status == 101
    assert peer.output(3)[:3] == b"up\n"
    return peer


@pytest.mark.parametrize("vanish", VANISHINGS)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_bridge(name: str, vanish: Callable[[Peer], None]) -> None:
    with Bridge(["bash", "-c", APPLICATIONS[name]], *GRACES, tcp=True) as bridge:
        peer = Peer(bridge.socket)
        assert peer.open().status == 101
        assert peer.output(3)[:3] == b"up\n"
        try:
            vanish(peer)
        except ConnectionError:
            assert name == "exits"  # the application ended first
        assert ended(bridge.pid, SOON)
        assert marked(bridge.mark) == []
        status, said = bridge.finish()
        assert (status, b"Traceback" in said) == (0, False)


@pytest.fixture
def used_server(tmp_path: Path) -> Iterator[Service]:
    """A server for all applications that has run each of them before."""
    with server(tmp_path, chooser(), *GRACES, "--workers", "2") as service:
        service.await_workers(2)
        with ExitStack() as stack:
            for name in [*APPLICATIONS] * 3:
                stack.enter_context(join(service, name))
        until(lambda: not service.applications(), "the first sessions have gone")
        yield service
        assert "Traceback" not in service.log.read_text()


def assert_no_leftovers(service: Service, before: int) -> None:
    """Check that all counts are as before and that the server still serves."""
    until(lambda: not service.applications(), "no application", SOON)
    until(lambda: service.resource_count() <= before, f"{before} again", SOON)
    with join(service, "obedient") as peer:
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


@pytest.mark.full
@pytest.mark.timeout(300)
def test_one_after_another(used_server: Service, *, full: bool) -> None:
    """Each application with each end of a client, and a thousand at full size."""
    before = used_server.resource_count()
    pairs = [*itertools.product(VANISHINGS, APPLICATIONS)]
    count = 1000 if full else len(pairs)
    for vanish, name in itertools.islice(itertools.cycle(pairs), count):
        with join(used_server, name) as peer:
            try:
                vanish(peer)
            except ConnectionError:
                assert name == "exits"
    assert_no_leftovers(used_server, before)


@pytest.mark.full
def test_all_at_once(used_server: Service, *, full: bool) -> None:
    before = used_server.resource_count()
    names = [*APPLICATIONS] * (8 if full else 3)
    with ExitStack() as stack:
        peers = [stack.enter_context(join(used_server, name)) for name in names]
        assert len(used_server.applications()) >= 0.9 * len(names)
        for vanish, peer in zip(itertools.cycle([reset, finish]), peers, strict=False):
            vanish(peer)
    assert_no_leftovers(used_server, before)


def test_clients_whose_cable_is_pulled(tmp_path: Path) -> None:
    options = (*GRACES, *PINGS, "--workers", "1")
    with Cable() as cable, ExitStack() as stack:
        service = stack.enter_context(
            server(tmp_path, chooser(), *options, listen=f"{cable.near}:0")
        )
        with join(service, "obedient", cable):
            pass
        service.await_ends(1)
        before = service.resource_count()
        for name in APPLICATIONS:
            stack.enter_context(join(service, name, cable))
        cable.pull()
        until(lambda: not service.applications(), "no application", SOON)
        until(lambda: service.resource_count() <= before, f"{before} again", SOON)


def test_bridge_whose_cable_is_pulled() -> None:
    command = ["bash", "-c", APPLICATIONS["ignores-term"]]
    with Cable() as cable:
        pair = cable.pair()
        with Bridge(command, *GRACES, *PINGS, pair=pair) as bridge:
            peer = Peer(bridge.socket)
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
            cable.pull()
            assert ended(bridge.pid, SOON)
            assert marked(bridge.mark) == []
            peer.close()


@pytest.mark.parametrize(
    "keep",
    [
        "sleep 1000 &",
        "setsid -f sleep 1000;",
        "setsid -f sh -c 'trap \"\" TERM; cat' &",
    ],
)
def test_a_grandchild_that_holds_the_output(tmp_path: Path, keep: str) -> None:
    program = ["sh", "-c", f"{keep} printf last; exit 3"]
    with server(tmp_path, program, *GRACES) as service, Peer(service.connect()) as peer:
        assert peer.open().status == 101
        story = peer.transcript()
        assert (story.stdout, story.closed) == (b"last", Closed(1011, "exit 3"))
        until(lambda: not service.applications(), "no grandchild", SOON)


def test_an_application_without_output_still_hears_and_is_heard_of() -> None:
    program = "echo up; exec >&- 2>&-; read line; read line; exit 5"
    with Bridge(["sh", "-c", program], *GRACES) as bridge, Peer(bridge.socket) as peer:
        assert peer.open().status == 101
        assert peer.output(3) == b"up\n"
        peer.send([1])
        assert not ended(bridge.pid, 0.3)
        peer.send([2])
        assert peer.transcript().closed == Closed(1011, "exit 5")


def test_term_comes_before_kill_and_is_heeded(tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = f"trap 'echo term >{said}; exit' TERM; echo up; while :; do sleep 1; done"
    options = ("--stop-grace=50ms", "--kill-grace=20")
    with Bridge(["sh", "-c", program], *options) as bridge, Peer(bridge.socket) as peer:
        assert peer.open().status == 101
        assert peer.output(3) == b"up\n"
        peer.close()
        assert ended(bridge.pid, SOON)
    assert said.read_text() == "term\n"


def test_an_application_that_exits_while_the_client_sends() -> None:
    program = ["sh", "-c", "read line; printf bye; exit 6"]
    for _ in range(10):
        with Bridge(program, tcp=True) as bridge, Peer(bridge.socket) as peer:
            assert peer.open().status == 101
            with Sender(peer, [text({"n": "x" * 500}) * 64], endless=True):
                story = peer.transcript()
            assert (story.stdout, story.closed) == (b"bye", Closed(1011, "exit 6"))


def test_term_ends_the_bridge_with_1001() -> None:
    program = ["sh", "-c", APPLICATIONS["ignores-term"]]
    with Bridge(program, *GRACES) as bridge, Peer(bridge.socket) as peer:
        assert peer.open().status == 101
        assert peer.output(3) == b"up\n"
        bridge.process.send_signal(signal.SIGTERM)
        assert peer.transcript().closed == Closed(1001, "drain")
        assert ended(bridge.pid, SOON)
        assert marked(bridge.mark) == []


@pytest.mark.parametrize("again", [False, True])
def test_term_drains_the_server(tmp_path: Path, *, again: bool) -> None:
    """A second SIGTERM ends the sessions at once that the first one waited for."""
    patience = "1h" if again else "100ms"
    options = (*GRACES, "--drain-timeout", patience)
    with server(tmp_path, chooser(), *options) as service, ExitStack() as stack:
        peers = [stack.enter_context(join(service, name)) for name in APPLICATIONS]
        service.process.send_signal(signal.SIGTERM)
        if again:
            until(service.refuses, "the listener is closed", SOON)
            service.process.send_signal(signal.SIGTERM)
        for name, peer in zip(APPLICATIONS, peers, strict=True):
            if name not in ("exits", "floods"):
                assert peer.transcript().closed == Closed(1001, "drain"), name
        peers[-2].close()
        assert ended(service.pid, SOON)
        until(lambda: not marked(service.mark), "all processes have ended", SOON)
        assert descendants(service.pid) == []
