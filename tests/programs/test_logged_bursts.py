"""Bursts of lines on standard error with --stderr log, from ten sessions at once.

The log is a file, or a pipe that is first not read. No line is lost or reordered, and
other sessions go on meanwhile. Records: chimirror(7), JOURNAL.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chimirror.log.records import APPLICATION_OUTPUT, SESSION_ENDED, SESSION_STARTED
from serve import Service, argv_of, running, server
from websocket_peer import Closed, Peer

SESSIONS = 10
# After a line of input, writes a burst of lines or answers.
BURST = """
while read -r line; do
    case $line in
        [1-9]*) seq 1 "$line" >&2; exit 3;;
        *) echo "$line";;
    esac
done
"""
OPTIONS = ("--stderr=log", "--workers=2")

Record = dict[str, str]


@pytest.fixture
def count(*, full: bool) -> int:
    """Lines of a session: several times what a pipe and a read hold."""
    return 15_000 if full else 5_000


def join(service: Service, stack: ExitStack) -> Peer:
    peer = stack.enter_context(Peer(service.connect()))
    assert peer.open().status == 101
    return peer


def echo(peer: Peer) -> None:
    peer.send("a")
    assert peer.output(4) == b'"a"\n'


def records(path: Path) -> list[Record]:
    """Return the records of a log, all of which are JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(path: Path, count: int) -> None:
    """Check that the log has all lines of all sessions, in their order."""
    found: dict[str, list[Record]] = {}
    for record in records(path):
        assert "CHIMIRROR_DROPPED" not in record
        if "CHIMIRROR_SESSION" in record:
            found.setdefault(record["CHIMIRROR_SESSION"], []).append(record)
    numbers = [str(number) for number in range(1, count + 1)]
    bursts = 0
    for first, *lines, last in found.values():
        assert first["MESSAGE_ID"] == SESSION_STARTED
        assert last["MESSAGE_ID"] == SESSION_ENDED
        if last["CHIMIRROR_REASON"] == "exit 3":
            assert {line["MESSAGE_ID"] for line in lines} == {APPLICATION_OUTPUT}
            assert [line["MESSAGE"] for line in lines] == numbers
            bursts += 1
    assert (bursts, len(found)) == (SESSIONS, SESSIONS + 1)


def burst(peers: list[Peer], count: int) -> None:
    for peer in peers:
        peer.send(count)


@pytest.mark.full
def test_into_a_file(tmp_path: Path, count: int) -> None:
    command = ["sh", "-c", BURST]
    with server(tmp_path, command, *OPTIONS) as service, ExitStack() as stack:
        neighbor = join(service, stack)
        peers = [join(service, stack) for _ in range(SESSIONS)]
        burst(peers, count)
        echo(neighbor)
        for peer in peers:
            assert peer.receive() == Closed(1011, "exit 3")
        neighbor.send_close(1000)
        service.await_ends(SESSIONS + 1)
    check(service.log, count)


@contextmanager
def logging_to(fd: int, path: Path, read: int) -> Iterator[Service]:
    """Run a server whose log is a pipe. Its address is in the first line."""
    mark = uuid.uuid4().hex
    options = ("--listen", f"unix:{path.parent / 'socket'}", *OPTIONS)
    argv = argv_of("server", ["sh", "-c", BURST], options, mark)
    with running(path.parent, argv, mark, stderr=fd) as service:
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(read, 1)
        assert b'"MESSAGE":"listening on unix:' in said
        service.address = str(path.parent / "socket")
        service.log = path
        yield service


@pytest.mark.full
def test_into_a_pipe_that_is_not_read_at_first(tmp_path: Path, count: int) -> None:
    log = tmp_path / "log"
    read, write = os.pipe()
    with logging_to(write, log, read) as service, ExitStack() as stack:
        os.close(write)
        neighbor = join(service, stack)
        peers = [join(service, stack) for _ in range(SESSIONS)]
        burst(peers, count)
        echo(neighbor)
        with log.open("wb") as kept:
            reader = subprocess.Popen(["cat"], stdin=read, stdout=kept)
        os.close(read)
        for peer in peers:
            assert peer.receive() == Closed(1011, "exit 3")
        neighbor.send_close(1000)
        service.await_ends(SESSIONS + 1)
        service.stop()
        assert reader.wait(60) == 0
    check(log, count)
