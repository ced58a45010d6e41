"""A session through every way in: what goes in and comes out, and how it ends.

Law: each test here runs unchanged through socat, socat with pipes, xinetd,
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

from launch import WAYS, Service, Way
from peers import Closed, Peer, Sender, dump, frame, stdin, text
from settling import Memory, parent_of, steady, until, written

MEGABYTES = 100
FLAT = 8 << 20  # bytes that a serving process may grow by


@pytest.fixture(scope="module")
def bulk() -> bytes:
    return random.Random(30747).randbytes(MEGABYTES * 1_000_000)


@pytest.fixture(scope="module")
def bulk_file(bulk: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("bulk") / "bytes"
    path.write_bytes(bulk)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def bulk_frames(bulk: bytes) -> list[bytes]:
    """The same bytes as masked stdio frames, small and large ones in turn."""
    frames, start = [], 0
    for size in (16 << 10, 256 << 10) * 1000:
        if start < len(bulk):
            frames.append(text(stdin(bulk[start : start + size])))
            start += size
    return frames


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen


def shell(program: str) -> list[str]:
    return ["/bin/sh", "-c", program]


@contextmanager
def session(
    way: Way, directory: Path, program: str, *options: str, framing: str = "json"
) -> Iterator[tuple[Service, Peer]]:
    """One open session with a shell program behind one way in."""
    with (
        way(directory, shell(program), *options) as service,
        Peer(service.connect()) as peer,
    ):
        assert peer.open(framing=framing).status == 101
        yield service, peer


def serving(service: Service, application: int) -> list[int]:
    """Whose memory counts: the server's processes, or the session's one bridge."""
    parent = parent_of(application)
    own = service.serving()
    return own if service.pid in own else [parent]


def said_pid(peer: Peer) -> int:
    """The pid of an application that begins with `echo $$`."""
    line = b""
    while not line.endswith(b"\n"):
        line += peer.output(1)
    return int(line)


def test_echo(way: Way, tmp_path: Path) -> None:
    message = {"verb": "look", "at": "the ¨umlaut"}
    with session(way, tmp_path, "exec cat") as (_, peer):
        peer.send(message)
        assert peer.output(len(dump(message)) + 1) == dump(message) + b"\n"
        peer.send(b'{\n"two": \r\n"lines"}')
        assert peer.output(19) == b'{ "two":   "lines"}\n'
        peer.send_close()
        assert peer.story().closed == Closed(1000, "")


def test_echo_by_lsp(way: Way, tmp_path: Path) -> None:
    """`cat` speaks it fluently, however its pipes cut what is large."""
    large = '"é"'.replace("é", "é" * 300_000).encode()
    messages = [b'{"jsonrpc":\r\n"2.0"}', large, b"[]", dump("x" * 9999)]
    options = ("--framing=json,lsp",)
    with session(way, tmp_path, "exec cat", *options, framing="lsp") as (_, peer):
        with Sender(peer, [text(message) for message in messages]):
            assert [peer.receive() for _ in messages] == messages
        peer.send(b"no JSON")
        assert peer.receive() == Closed(1007, "not JSON")


def test_a_message_in_the_segment_of_the_handshake(way: Way, tmp_path: Path) -> None:
    with way(tmp_path, ["cat"]) as service, Peer(service.connect()) as peer:
        assert peer.open(first=text([1]) + text([2])).status == 101
        assert peer.output(8) == b"[1]\n[2]\n"


def test_messages_before_the_close_are_delivered(way: Way, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with session(way, tmp_path, f"exec cat >{kept}") as (_, peer):
        peer.send_raw(b"".join(text([i]) for i in range(5000)) + frame(8, b"\x03\xe8"))
        assert peer.story().closed == Closed(1000, "")
        wanted = b"".join(b"[%d]\n" % i for i in range(5000))
        until(lambda: kept.read_bytes() == wanted, "all of it in the file")


def test_bulk_out(way: Way, tmp_path: Path, bulk: bytes, bulk_file: Path) -> None:
    program = f"echo $$; read go; cat {bulk_file}; read go"
    with session(way, tmp_path, program, framing="stdio") as (service, peer):
        memory = Memory(serving(service, said_pid(peer)))
        peer.send(stdin(b"\n"))
        assert peer.output(len(bulk)) == bulk
        assert memory.growth() < FLAT
        peer.send(stdin(b"\n"))
        assert peer.story().closed == Closed(1000, "exit 0")


def test_bulk_out_while_the_reader_sleeps(
    way: Way, tmp_path: Path, bulk: bytes, bulk_file: Path
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
        assert peer.story().closed == Closed(1000, "exit 0")


def test_bulk_in(
    way: Way, tmp_path: Path, bulk: bytes, bulk_frames: list[bytes]
) -> None:
    program = f"echo $$; head -c {len(bulk)} | sha256sum; read go; exit 3"
    with session(way, tmp_path, program, framing="stdio") as (service, peer):
        memory = Memory(serving(service, said_pid(peer)))
        for data in bulk_frames:
            peer.send_raw(data)
        assert peer.output(68)[:64].decode() == hashlib.sha256(bulk).hexdigest()
        assert memory.growth() < FLAT
        peer.send({"type": "eof"})
        story = peer.story()
        assert story.messages[-1] == {"type": "exit", "code": 3}
        assert story.closed == Closed(1011, "exit 3")


def test_bulk_in_while_the_application_sleeps(
    way: Way, tmp_path: Path, bulk: bytes, bulk_frames: list[bytes]
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
        assert peer.story().closed == Closed(1000, "exit 0")


def test_stderr_stays_away_when_it_is_logged(way: Way, tmp_path: Path) -> None:
    program = "echo out; echo err >&2; read go; echo more >&2; printf last"
    with session(way, tmp_path, program, "--stderr", "log") as (_, peer):
        assert peer.output(4) == b"out\n"
        peer.send({})
        story = peer.story()
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
    """One program for all endings: the query names the one to play."""
    (directory / "lines").write_bytes(LINES)
    cases = "".join(f"{name}) {told[0]};;\n" for name, told in ENDINGS.items())
    return f"cd {directory}\ncase $QUERY_STRING in\n{cases}esac"


@pytest.mark.parametrize("flood", [False, True], ids=["quiet", "flood"])
@pytest.mark.parametrize("framing", ["json", "stdio"])
def test_endings(way: Way, tmp_path: Path, framing: str, *, flood: bool) -> None:
    """Close code and reason come after all output, whatever the client does."""
    with way(tmp_path, shell(chooser(tmp_path))) as service, ExitStack() as stack:
        peers = [stack.enter_context(Peer(service.connect())) for _ in ENDINGS]
        for peer, (name, (_, *said, closed)) in zip(
            peers, ENDINGS.items(), strict=True
        ):
            assert peer.open(f"/?{name}", framing=framing).status == 101
            with Sender(peer, [text(stdin(b"flood\n")) * 64], endless=flood):
                story = peer.story(wait=False)
            assert ([story.stdout, story.stderr], story.closed) == (said, closed), name
            check_messages(story.messages, framing, closed)
        for peer in peers:
            peer.end()


def check_messages(
    messages: list[dict[str, object]], framing: str, closed: Closed
) -> None:
    """What is neither stdout nor stderr: nothing, or the stdio frame around them."""
    if framing == "json":
        assert messages == []
        return
    begin, end = messages
    assert begin["type"] == "session"
    kind, _, value = closed.reason.partition(" ")
    told = {"code": int(value)} if kind == "exit" else {"signal": value}
    assert end == {"type": "exit", **told}
