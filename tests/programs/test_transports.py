"""Tests a session behind every service: its input, its output and its end.

Each test runs unchanged through socat, socat with pipes, xinetd,
systemd-socket-activate (fd 3, and --inetd) and chimirror-server (TCP, Unix socket).
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from processes import Memory, parent_of, steady, until, written
from serve import SERVICES, Service, ServiceFactory
from websocket_peer import Closed, Peer, Sender, dump, frame, stdin, text

FLAT = 8 << 20  # bytes by which a serving process may grow


@pytest.fixture(scope="session")
def bulk(*, full: bool) -> bytes:
    """Returns several times the allowed growth of a process and the size of sockets."""
    megabytes = 100 if full else 25
    return random.Random(30747).randbytes(megabytes * 1_000_000)


@pytest.fixture(scope="session")
def bulk_file(bulk: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("bulk") / "bytes"
    path.write_bytes(bulk)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def bulk_frames(bulk: bytes) -> list[bytes]:
    """The same bytes as masked stdio frames, small and large ones in turn."""
    frames, start = [], 0
    for size in (16 << 10, 256 << 10) * 1000:
        if start < len(bulk):
            frames.append(text(stdin(bulk[start : start + size])))
            start += size
    return frames


@pytest.fixture(params=list(SERVICES.values()), ids=list(SERVICES))
def way(request: pytest.FixtureRequest) -> ServiceFactory:
    chosen: ServiceFactory = request.param
    return chosen


def shell(program: str) -> list[str]:
    return ["/bin/sh", "-c", program]


@contextmanager
def session(
    way: ServiceFactory,
    directory: Path,
    program: str,
    *options: str,
    framing: str = "json",
) -> Iterator[tuple[Service, Peer]]:
    """An open session with a shell program behind one service."""
    with (
        way(directory, shell(program), *options) as service,
        Peer(service.connect()) as peer,
    ):
        assert peer.open(framing=framing).status == 101
        yield service, peer


def serving(service: Service, application: int) -> list[int]:
    """Return the processes to measure: those of the server, or the session's bridge."""
    parent = parent_of(application)
    own = service.serving()
    return own if service.pid in own else [parent]


def said_pid(peer: Peer) -> int:
    """Return the pid of an application that begins with `echo $$`."""
    line = b""
    while not line.endswith(b"\n"):
        line += peer.output(1)
    return int(line)


def test_echo(way: ServiceFactory, tmp_path: Path) -> None:
    message = {"verb": "look", "at": "the ¨umlaut"}
    with session(way, tmp_path, "exec cat") as (_, peer):
        peer.send(message)
        assert peer.output(len(dump(message)) + 1) == dump(message) + b"\n"
        peer.send(b'{\n"two": \r\n"lines"}')
        assert peer.output(19) == b'{ "two":   "lines"}\n'
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


def test_echo_by_lsp(way: ServiceFactory, tmp_path: Path) -> None:
    """`cat` returns the messages, although its pipes split large ones."""
    large = '"é"'.replace("é", "é" * 300_000).encode()
    messages = [b'{"jsonrpc":\r\n"2.0"}', large, b"[]", dump("x" * 9999)]
    options = ("--framing=json,lsp",)
    with session(way, tmp_path, "exec cat", *options, framing="lsp") as (_, peer):
        with Sender(peer, [text(message) for message in messages]):
            assert [peer.receive() for _ in messages] == messages
        peer.send(b"no JSON")
        assert peer.receive() == Closed(1007, "not JSON: no JSON")


def test_a_message_in_the_segment_of_the_handshake(
    way: ServiceFactory, tmp_path: Path
) -> None:
    with way(tmp_path, ["cat"]) as service, Peer(service.connect()) as peer:
        assert peer.open(first=text([1]) + text([2])).status == 101
        assert peer.output(8) == b"[1]\n[2]\n"


def test_messages_before_the_close_are_delivered(
    way: ServiceFactory, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.touch()  # the application may open the file after its client has closed
    with session(way, tmp_path, f"exec cat >{kept}") as (_, peer):
        peer.send_raw(b"".join(text([i]) for i in range(5000)) + frame(8, b"\x03\xe8"))
        assert peer.transcript().closed == Closed(1000, "")
        wanted = b"".join(b"[%d]\n" % i for i in range(5000))
        until(lambda: kept.read_bytes() == wanted, "all of it in the file")


@pytest.mark.full
def test_bulk_out(
    way: ServiceFactory, tmp_path: Path, bulk: bytes, bulk_file: Path
) -> None:
    program = f"echo $$; read go; cat {bulk_file}; read go"
    with session(way, tmp_path, program, framing="stdio") as (service, peer):
        memory = Memory(serving(service, said_pid(peer)))
        peer.send(stdin(b"\n"))
        assert peer.output(len(bulk)) == bulk
        assert memory.growth() < FLAT
        peer.send(stdin(b"\n"))
        assert peer.transcript().closed == Closed(1000, "exit 0")


@pytest.mark.full
def test_bulk_out_while_the_reader_sleeps(
    way: ServiceFactory, tmp_path: Path, bulk: bytes, bulk_file: Path
) -> None:
    program = f"echo $$; read go; exec cat {bulk_file}"
    with session(way, tmp_path, program, framing="stdio") as (service, peer):
        application = said_pid(peer)
        memory = Memory(serving(service, application))
        peer.send(stdin(b"\n"))
        until(
            steady(lambda: written(application)), "the application waits for the reader"
        )
        assert memory.growth() < FLAT
        digest = hashlib.sha256(peer.output(len(bulk))).digest()
        assert digest == hashlib.sha256(bulk).digest()
        assert peer.transcript().closed == Closed(1000, "exit 0")


@pytest.mark.full
def test_bulk_in(
    way: ServiceFactory, tmp_path: Path, bulk: bytes, bulk_frames: list[bytes]
) -> None:
    program = f"echo $$; head -c {len(bulk)} | sha256sum; read go; exit 3"
    with session(way, tmp_path, program, framing="stdio") as (service, peer):
        memory = Memory(serving(service, said_pid(peer)))
        for data in bulk_frames:
            peer.send_raw(data)
        assert peer.output(68)[:64].decode() == hashlib.sha256(bulk).hexdigest()
        assert memory.growth() < FLAT
        peer.send({"type": "eof"})
        story = peer.transcript()
        assert story.messages[-1] == {"type": "exit", "code": 3}
        assert story.closed == Closed(1011, "exit 3")


@pytest.mark.full
def test_bulk_in_while_the_application_sleeps(
    way: ServiceFactory, tmp_path: Path, bulk: bytes, bulk_frames: list[bytes]
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = f"echo $$; read go <{gate}; exec sha256sum"
    with session(way, tmp_path, program, framing="stdio") as (service, peer):
        memory = Memory(serving(service, said_pid(peer)))
        with Sender(peer, bulk_frames) as sender:
            until(steady(lambda: sender.sent), "both sides' buffers are full")
            assert sender.sent < len(bulk) // 2
            assert memory.growth() < FLAT
            gate.write_bytes(b"\n")
            sender.join()
        peer.send({"type": "eof"})
        assert peer.output(68)[:64].decode() == hashlib.sha256(bulk).hexdigest()
        assert peer.transcript().closed == Closed(1000, "exit 0")


def test_stderr_stays_away_when_it_is_logged(
    way: ServiceFactory, tmp_path: Path
) -> None:
    program = "echo out; echo err >&2; read go; echo more >&2; printf last"
    with session(way, tmp_path, program, "--stderr", "log") as (_, peer):
        assert peer.output(4) == b"out\n"
        peer.send({})
        story = peer.transcript()
        assert (story.stdout, story.stderr) == (b"last", b"")
        assert story.closed == Closed(1000, "exit 0")


LINES = b"".join(bytes([letter]) * 4096 + b"\n" for letter in b"abcdefgh") * 4
ENDINGS: dict[str, tuple[str, bytes, bytes, Closed]] = {
    "silent": ("exit 0", b"", b"", Closed(1000, "exit 0")),
    "ok": ("echo a; printf b; exit 0", b"a\nb", b"", Closed(1000, "exit 0")),
    "three": ("printf c; echo d >&2; exit 3", b"c", b"d\n", Closed(1011, "exit 3")),
    "last": ("printf e >&2; printf f", b"f", b"e", Closed(1000, "exit 0")),
    "killed": ("printf g; kill -KILL $$", b"g", b"", Closed(1011, "signal KILL")),
    "term": ("printf h; kill -TERM $$", b"h", b"", Closed(1011, "signal TERM")),
    "real-time": ("kill -40 $$", b"", b"", Closed(1011, "signal 40")),
    "lines": ("cat lines >&2; exit 4", b"", LINES, Closed(1011, "exit 4")),
    "much": ("cat lines; cat lines; exit 5", LINES * 2, b"", Closed(1011, "exit 5")),
    "both": ("cat lines & cat lines >&2; wait", LINES, LINES, Closed(1000, "exit 0")),
    "deaf": (
        "exec <&-; cat lines; printf i",
        LINES + b"i",
        b"",
        Closed(1000, "exit 0"),
    ),
}


def chooser(directory: Path) -> str:
    """Return one program for all kinds of exit: the query string names the one."""
    (directory / "lines").write_bytes(LINES)
    cases = "".join(f"{name}) {told[0]};;\n" for name, told in ENDINGS.items())
    return f"cd {directory}\ncase $QUERY_STRING in\n{cases}esac"


@pytest.mark.parametrize("flood", [False, True], ids=["quiet", "flood"])
@pytest.mark.parametrize("framing", ["json", "stdio"])
def test_endings(
    way: ServiceFactory, tmp_path: Path, framing: str, *, flood: bool
) -> None:
    """Close code and reason come after all output, independently of the client."""
    with way(tmp_path, shell(chooser(tmp_path))) as service, ExitStack() as stack:
        peers = [stack.enter_context(Peer(service.connect())) for _ in ENDINGS]
        for peer, (name, (_, *said, closed)) in zip(
            peers, ENDINGS.items(), strict=True
        ):
            assert peer.open(f"/?{name}", framing=framing).status == 101
            with Sender(peer, [text(stdin(b"flood\n")) * 64], endless=flood):
                story = peer.transcript(wait=False)
            assert ([story.stdout, story.stderr], story.closed) == (said, closed), name
            check_messages(story.messages, framing, closed)
        for peer in peers:
            peer.end()


def check_messages(
    messages: list[dict[str, object]], framing: str, closed: Closed
) -> None:
    """Return the overhead besides stdout and stderr: none, or that of stdio frames."""
    if framing == "json":
        assert messages == []
        return
    begin, end = messages
    assert begin["type"] == "session"
    kind, _, value = closed.reason.partition(" ")
    told = {"code": int(value)} if kind == "exit" else {"signal": value}
    assert end == {"type": "exit", **told}
