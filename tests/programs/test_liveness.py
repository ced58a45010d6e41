"""Tests that pings disconnect dead peers and no slow ones.

`LONG` is twice the time after which a silent peer is disconnected. A slow client
and a slow application stay connected, on TCP (where the kernel has its own timeout) and
on a Unix socket.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from network_cable import Cable
from processes import ended, marked, silent, steady, until, written
from serve import Bridge, server
from websocket_peer import PING, PONG, Closed, Peer, Sender, frame, stdin, text

INTERVAL, TIMEOUT = 0.3, 0.6
PINGS = (f"--ping-interval={INTERVAL}", f"--ping-timeout={TIMEOUT}")
LONG = 2 * (INTERVAL + TIMEOUT)
GRACES = ("--stop-grace=50ms", "--kill-grace=100ms")
PAIRS = pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])


def opened(bridge: Bridge, framing: str = "stdio") -> Peer:
    peer = Peer(bridge.socket)
    assert peer.open(framing=framing).status == 101
    return peer


def pid_said(peer: Peer) -> int:
    line = b""
    while not line.endswith(b"\n"):
        line += peer.output(1)
    return int(line)


@PAIRS
def test_a_client_that_does_not_read_lives_on(*, tcp: bool) -> None:
    program = ["sh", "-c", "echo $$; read go; exec head -c 30000000 /dev/zero"]
    with Bridge(program, *PINGS, tcp=tcp) as bridge, opened(bridge) as peer:
        application = pid_said(peer)
        peer.send(stdin(b"\n"))
        until(steady(lambda: written(application)), "the client has to read")
        assert not ended(bridge.pid, LONG)
        assert len(peer.output(30_000_000)) == 30_000_000
        assert peer.transcript().closed == Closed(1000, "exit 0")


@PAIRS
def test_a_client_that_reads_slowly_lives_on(*, tcp: bool) -> None:
    """The client reads more slowly than pings come. Pings wait behind output."""
    program = ["sh", "-c", "exec head -c 30000000 /dev/zero"]
    with Bridge(program, *PINGS, tcp=tcp) as bridge, opened(bridge) as peer:
        for _ in range(5):
            assert not ended(bridge.pid, INTERVAL + TIMEOUT)
            peer.output(100_000)
        assert peer.transcript().closed == Closed(1000, "exit 0")


@PAIRS
def test_an_application_that_does_not_read_lets_its_client_live(
    tmp_path: Path, *, tcp: bool
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = ["sh", "-c", f"read go <{gate}; exec wc -c"]
    frames = [text(stdin(b"x" * 65536))] * 160
    with Bridge(program, *PINGS, tcp=tcp) as bridge, opened(bridge) as peer:
        with Sender(peer, frames) as sender:
            until(steady(lambda: sender.sent), "the application has to read")
            assert not ended(bridge.pid, LONG)
            gate.write_bytes(b"\n")
            sender.join()
        peer.send({"type": "eof"})
        story = peer.transcript()
        assert int(story.stdout) == 160 * 65536
        assert story.closed == Closed(1000, "exit 0")


@PAIRS
def test_a_client_that_answers_pings_lives_on(*, tcp: bool) -> None:
    with Bridge(["cat"], *PINGS, tcp=tcp) as bridge, opened(bridge, "json") as peer:
        limit = time.monotonic() + LONG
        pings = 0
        while time.monotonic() < limit:
            got = peer.read_frame()
            assert got is not None
            assert got[0] == PING
            peer.send_raw(frame(PONG, got[1]))
            pings += 1
        assert pings >= 3
        peer.send([1])
        assert peer.output(4) == b"[1]\n"


@PAIRS
def test_anything_that_a_client_sends_is_life(*, tcp: bool) -> None:
    """The client never answers a ping, but sends data."""
    with Bridge(["cat"], *PINGS, tcp=tcp) as bridge, opened(bridge, "json") as peer:
        for number in range(12):
            assert not ended(bridge.pid, LONG / 12)
            peer.send([number])
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


@PAIRS
def test_a_client_that_answers_no_ping_is_dead(*, tcp: bool) -> None:
    began = time.monotonic()
    with Bridge(["cat"], *PINGS, *GRACES, tcp=tcp) as bridge, opened(bridge) as peer:
        peer.message()
        seen = []
        while (got := peer.read_frame()) is not None:
            seen.append(got[0])
        assert seen == [PING]
        assert time.monotonic() - began > INTERVAL + TIMEOUT
        assert ended(bridge.pid, 30)
        assert marked(bridge.mark) == []


def test_without_pings_a_silent_client_lives_on() -> None:
    options = ("--ping-interval=0", f"--ping-timeout={TIMEOUT}")
    with Bridge(["cat"], *options) as bridge, opened(bridge, "json") as peer:
        assert silent(peer.socket.fileno(), LONG)
        peer.send([1])
        assert peer.output(4) == b"[1]\n"


DEAD = {
    "idle": ("echo up; exec cat", 0),
    "output blocked": ("echo up; exec yes", 0),
    "input blocked": ("echo up; exec sleep 1000", 200),
    "both blocked": ("echo up; yes & exec sleep 1000", 200),
}


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_peer_is_noticed(tmp_path: Path, name: str) -> None:
    """The cable is pulled in each state of a session."""
    program, count = DEAD[name]
    with Cable() as cable:
        listen = f"{cable.near}:0"
        options = (*PINGS, *GRACES)
        with (
            server(tmp_path, ["sh", "-c", program], *options, listen=listen) as service,
            Peer(cable.connect(service.port)) as peer,
        ):
            host = (f"Host: {cable.near}",)
            assert peer.open(fields=host, framing="stdio").status == 101
            assert peer.output(3)[:3] == b"up\n"
            with Sender(peer, [text(stdin(b"x" * 65536))] * count) as sender:
                if count:
                    until(steady(lambda: sender.sent), "the buffers are full")
                cable.pull()
                until(lambda: not service.applications(), "no application")
                peer.socket.shutdown(socket.SHUT_RDWR)
