"""After a session nothing is left, however either side ends it.

Law: no process (wherever it fled to), no descriptor, no zombie, within the graces;
an application says `up` when it has made all the trouble that it means to make.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cable import Cable
from launch import Bridge, Service, server
from peers import Closed, Peer, Sender, stdin, text
from settling import descendants, ended, marked, until

GRACES = ("--stop-grace", "50ms", "--kill-grace", "100ms", "--linger-timeout", "100ms")
PINGS = ("--ping-interval", "200ms", "--ping-timeout", "200ms")
SOON = 10.0  # seconds: the graces and the pings, and a slow machine

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
    """FIN, and RST on what still comes."""
    peer.close()


def half_close(peer: Peer) -> None:
    """FIN, while we still read: it is the end of the client all the same."""
    peer.half_close()
    peer.stream.read()
    peer.close()


def close_frame(peer: Peer) -> None:
    peer.send_close()
    peer.story()
    peer.close()


VANISHINGS = [reset, reset_while_sending, finish, half_close, close_frame]


def chooser() -> list[str]:
    """One program for all applications: the query names the one to be."""
    cases = "".join(f"{name}) {play};;\n" for name, play in APPLICATIONS.items())
    return ["bash", "-c", f"case $QUERY_STRING in\n{cases}esac"]


def join(service: Service, name: str, cable: Cable | None = None) -> Peer:
    """An open session whose application has said `up`."""
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
            assert name == "exits"  # the application was faster
        assert ended(bridge.pid, SOON)
        assert marked(bridge.mark) == []
        status, said = bridge.finish()
        assert (status, b"Traceback" in said) == (0, False)


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Service]:
    """A server for all applications that has served all of them once."""
    with server(tmp_path, chooser(), *GRACES, "--workers", "2") as service:
        with ExitStack() as stack:
            for name in [*APPLICATIONS] * 3:
                stack.enter_context(join(service, name))
        until(lambda: not service.applications(), "the first sessions have gone")
        yield service
        assert "Traceback" not in service.log.read_text()


def settled(service: Service, before: int) -> None:
    """The counts are back, and it still serves."""
    until(lambda: not service.applications(), "no application", SOON)
    until(lambda: service.held() <= before, f"{before} again", SOON)
    with join(service, "obedient") as peer:
        peer.send_close()
        assert peer.story().closed == Closed(1000, "")


@pytest.mark.timeout(180)
def test_a_thousand_in_a_row(crowd: Service) -> None:
    before = crowd.held()
    pairs = itertools.cycle(itertools.product(VANISHINGS, APPLICATIONS))
    for vanish, name in itertools.islice(pairs, 1000):
        with join(crowd, name) as peer:
            try:
                vanish(peer)
            except ConnectionError:
                assert name == "exits"
    settled(crowd, before)


def test_a_hundred_at_once(crowd: Service) -> None:
    before = crowd.held()
    names = itertools.islice(itertools.cycle(APPLICATIONS), 100)
    with ExitStack() as stack:
        peers = [stack.enter_context(join(crowd, name)) for name in names]
        assert len(crowd.applications()) >= 90
        for vanish, peer in zip(itertools.cycle([reset, finish]), peers, strict=False):
            vanish(peer)
    settled(crowd, before)


def test_clients_whose_cable_is_pulled(tmp_path: Path) -> None:
    options = (*GRACES, *PINGS, "--workers", "1")
    with Cable() as cable, ExitStack() as stack:
        service = stack.enter_context(
            server(tmp_path, chooser(), *options, listen=f"{cable.near}:0")
        )
        with join(service, "obedient", cable):
            pass
        service.await_ends(1)
        before = service.held()
        for name in APPLICATIONS:
            stack.enter_context(join(service, name, cable))
        cable.pull()
        until(lambda: not service.applications(), "no application", SOON)
        until(lambda: service.held() <= before, f"{before} again", SOON)


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
        story = peer.story()
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
        assert peer.story().closed == Closed(1011, "exit 5")


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
        with Bridge(program, *GRACES, tcp=True) as bridge, Peer(bridge.socket) as peer:
            assert peer.open().status == 101
            with Sender(peer, [text({"n": "x" * 500}) * 64], endless=True):
                story = peer.story()
            assert (story.stdout, story.closed) == (b"bye", Closed(1011, "exit 6"))


def test_term_ends_the_bridge_with_1001() -> None:
    program = ["sh", "-c", APPLICATIONS["ignores-term"]]
    with Bridge(program, *GRACES) as bridge, Peer(bridge.socket) as peer:
        assert peer.open().status == 101
        assert peer.output(3) == b"up\n"
        bridge.process.send_signal(signal.SIGTERM)
        assert peer.story().closed == Closed(1001, "drain")
        assert ended(bridge.pid, SOON)
        assert marked(bridge.mark) == []


@pytest.mark.parametrize("again", [False, True])
def test_term_drains_the_server(tmp_path: Path, *, again: bool) -> None:
    """A second one ends at once what the first one would have waited for."""
    patience = "1h" if again else "100ms"
    options = (*GRACES, "--drain-timeout", patience)
    with server(tmp_path, chooser(), *options) as service, ExitStack() as stack:
        peers = [stack.enter_context(join(service, name)) for name in APPLICATIONS]
        service.process.send_signal(signal.SIGTERM)
        if again:
            until(lambda: not accepts(service), "the listener is closed", SOON)
            service.process.send_signal(signal.SIGTERM)
        for name, peer in zip(APPLICATIONS, peers, strict=True):
            if name not in ("exits", "floods"):
                assert peer.story().closed == Closed(1001, "drain"), name
        peers[-2].close()
        assert ended(service.pid, SOON)
        assert marked(service.mark) == [] == descendants(service.pid)


def accepts(service: Service) -> bool:
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return False
    return True
