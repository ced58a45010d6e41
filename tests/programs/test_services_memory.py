"""Large values by sealed memory, and descriptors that are not such memory."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chimirror.services import InvalidMessage, PeerClosed, sending_end
from chimirror.services.codec import BYTES_THRESHOLD
from chimirror.services.memory import SEALS, MemorySocket, create_memory
from service_apis import Api, directory_of, python
from service_fixtures import api, runtime, serve, stdin

__all__ = ["api", "runtime", "serve", "stdin"]

BIG = bytes(range(256)) * (BYTES_THRESHOLD // 256)
NUMBERS = list(range(300_000))
Serve = Callable[..., Any]


def test_bytes_are_not_copied(api: Api, serve: Serve) -> None:
    _, pipe = serve(a={"receive": memoryview, "send": bytes})
    with api.connect("a", receive=memoryview, send=memoryview) as peer:
        for sender, receiver in ((peer, pipe), (pipe, peer)):
            sender.send(memoryview(BIG))
            sender.send(b"small")
            view = receiver.receive()
            assert isinstance(view.obj, mmap.mmap)
            assert view.readonly
            assert view == BIG
            assert receiver.receive() == b"small"
            view.release()


def test_other_values(api: Api, serve: Serve) -> None:
    _, pipe = serve(a={"receive": list[int], "send": bytes})
    with api.connect("a", receive=bytes, send=list[int]) as peer:
        for _ in range(3):
            peer.send(NUMBERS)
            assert pipe.receive() == NUMBERS
            pipe.send(BIG)
            found = peer.receive()
            assert type(found) is bytes
            assert found == BIG


def test_a_view_outlives_its_pipe(api: Api, serve: Serve) -> None:
    server, pipe = serve(a={"receive": memoryview})
    with api.connect("a", send=bytes) as peer:
        peer.send(BIG)
        view = pipe.receive()
    server.close()
    assert view[-1] == 255
    view.release()


def test_many_values_in_a_row(api: Api, serve: Serve) -> None:
    """More than the socket holds: the sender waits, and the order stays."""
    _, pipe = serve(a={"receive": memoryview})
    with api.connect("a", send=bytes) as peer:

        def send() -> None:
            for number in range(40):
                peer.send(bytes([number]) * BYTES_THRESHOLD)
                peer.send(bytes([number]))

        sender = threading.Thread(target=send)
        sender.start()
        for number in range(40):
            assert pipe.receive()[-1] == number
            assert pipe.receive() == bytes([number])
        sender.join()


def memory_in_flight(pipe: Any) -> int:
    """Send large values until the pipe is full. Returns their number."""
    for number in range(1000):
        try:
            pipe.send(BIG, timeout=0)
        except TimeoutError:
            return number
    raise AssertionError("a pipe that is never full")


def test_memory_in_flight_is_bounded(api: Api, serve: Serve) -> None:
    _, pipe = serve(a={"receive": memoryview, "send": bytes})
    with api.connect("a", receive=memoryview, send=bytes) as peer:
        for sender in (peer, pipe):
            assert 0 < memory_in_flight(sender) < 64


def test_the_receiver_closes_while_the_sender_waits(api: Api, serve: Serve) -> None:
    _, pipe = serve(a={"receive": memoryview, "send": bytes})
    with api.connect("a", receive=memoryview, send=bytes) as peer:
        for sender, receiver in ((peer, pipe), (pipe, peer)):
            memory_in_flight(sender)
            errors: list[PeerClosed] = []
            thread = threading.Thread(target=fill, args=(sender, errors))
            thread.start()
            receiver.close_receive()
            thread.join()
            assert len(errors) == 1


def fill(sender: Any, errors: list[PeerClosed]) -> None:
    """Send until a send fails."""
    try:
        while True:
            sender.send(BIG)
    except PeerClosed as error:
        errors.append(error)


def test_without_memory(api: Api, tmp_path: Path) -> None:
    script = """
import os
from chimirror.services import connect
assert not os.path.exists(os.environ["CHIMIRROR_SERVICES"] + "/a.memory")
with connect("a", receive=memoryview, send=bytes) as pipe:
    pipe.send(bytes(2 << 20))
    assert type(pipe.receive().obj) is bytes
"""
    server = api.server(python(script), memory=False)
    server.pipe("a", receive=bytes, send=bytes).handler(bytes)
    server.run().check()


# Peers that are not this library


class Peer:
    """A peer that opens the files of the service `a` by itself."""

    def __init__(self, directory: str, *, with_socket: bool) -> None:
        self.input = os.open(f"{directory}/a.in", os.O_WRONLY | os.O_NONBLOCK)
        self.output = os.open(f"{directory}/a.out", os.O_RDONLY)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if with_socket:
            directory_fd = os.open(directory, os.O_RDONLY)
            self.socket.connect(f"/proc/self/fd/{directory_fd}/a.memory")
            os.close(directory_fd)

    def refer(self, line: str, *fds: int) -> None:
        """Pass descriptors, then write a line."""
        if fds:
            socket.send_fds(self.socket, [b"-"], fds)
        for fd in fds:
            os.close(fd)
        os.write(self.input, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self.input)
        os.close(self.output)
        self.socket.close()


@contextmanager
def foreign_peer(server: Any, *, with_socket: bool) -> Iterator[Peer]:
    peer = Peer(directory_of(server), with_socket=with_socket)
    try:
        yield peer
    finally:
        peer.close()


def test_a_peer_without_socket_gets_lines(api: Api, serve: Serve) -> None:
    server, pipe = serve(a={"receive": bytes, "send": list[int]})
    with foreign_peer(server, with_socket=False) as peer:
        sender = threading.Thread(target=pipe.send, args=(NUMBERS,))
        sender.start()
        data = b""
        while not data.endswith(b"\n"):
            data += os.read(peer.output, 1 << 16)
        assert data.startswith(b"[0,1,2,")
        sender.join()
        peer.refer("@bytes 5")
        peer.refer('"aGk="')
        with pytest.raises(InvalidMessage, match="no descriptor"):
            pipe.receive()
        assert pipe.receive() == b"hi"


def test_a_peer_with_socket_gets_memory(api: Api, serve: Serve) -> None:
    server, pipe = serve(a={"receive": bytes, "send": list[int]})
    with foreign_peer(server, with_socket=True) as peer:
        pipe.send(NUMBERS)
        line = os.read(peer.output, 100)
        _, (fd,), _, _ = socket.recv_fds(peer.socket, 1, 1)
        assert line == b"@json %d\n" % os.fstat(fd).st_size
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
        os.close(fd)


def memory(content: bytes, seals: int) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_forged_memory(api: Api, serve: Serve, tmp_path: Path) -> None:
    server, pipe = serve(a={"receive": bytes, "send": int, "max_message": 1000})
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "empty").touch()
    with foreign_peer(server, with_socket=True) as peer:
        peer.refer("@bytes 5", memory(b"12345", 0))
        peer.refer("@bytes 5", memory(b"12345", SEALS & ~fcntl.F_SEAL_WRITE))
        peer.refer("@bytes 5", memory(b"12345", SEALS & ~fcntl.F_SEAL_SHRINK))
        peer.refer("@bytes 5", os.open(file, os.O_RDWR))
        peer.refer("@bytes 5", os.open("/dev/zero", os.O_RDWR))
        peer.refer("@bytes 6", create_memory(b"12345"))
        peer.refer("@bytes 4", create_memory(b"12345"))
        peer.refer("@bytes 1001", create_memory(b"1" * 1001))
        peer.refer("@json 3", create_memory(b"[1]"))
        peer.refer("@json 2", create_memory(b"\xff\xff"))
        peer.refer("@bytes 0", create_memory(b""))
        reasons = []
        for _ in range(11):
            with pytest.raises(InvalidMessage) as caught:
                pipe.receive()
            reasons.append(caught.value.reason)
        assert reasons[:3] == ["the shared memory is not sealed"] * 3
        assert reasons[3:5] == ["the descriptor is not that of shared memory"] * 2
        assert reasons[5:8] == [
            "the shared memory has 5 bytes, not 6",
            "the shared memory has 5 bytes, not 4",
            "1001 bytes are more than 1000",
        ]
        assert "wrong type" in reasons[8]
        assert "not UTF-8" in reasons[9]
        assert "neither JSON nor a reference" in reasons[10]


def test_descriptors_without_order(api: Api, serve: Serve) -> None:
    """Several in one packet, none in a packet, a packet without a reference."""
    server, pipe = serve(a={"receive": bytes, "send": int})
    with foreign_peer(server, with_socket=True) as peer:
        peer.refer("@bytes 3", create_memory(b"abc"), create_memory(b"def"))
        assert pipe.receive() == b"abc"
        peer.socket.send(b"x")
        for _ in range(2):
            peer.refer("@bytes 3")
            with pytest.raises(InvalidMessage, match="no descriptor"):
                pipe.receive()
        peer.refer("@bytes 3", create_memory(b"ghi"))
        assert pipe.receive() == b"ghi"
        socket.send_fds(peer.socket, [b"-"], [peer.input])


def test_a_peer_that_closes_its_socket(api: Api, serve: Serve) -> None:
    server, pipe = serve(a={"receive": bytes, "send": bytes})
    with foreign_peer(server, with_socket=True) as peer:
        peer.socket.close()
        with pytest.raises(PeerClosed):
            pipe.send(BIG)


@pytest.mark.parametrize("where", ["memory", "passing"])
def test_without_memory_or_descriptors(
    api: Api, serve: Serve, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Values then travel as lines."""

    def fail(*_: object) -> None:
        raise OSError(errno.ETOOMANYREFS, "too many")

    if where == "memory":
        monkeypatch.setattr(sending_end, "create_memory", fail)
    else:
        monkeypatch.setattr(MemorySocket, "send", fail)
    _, pipe = serve(a={"receive": memoryview, "send": list[int]})
    with api.connect("a", receive=list[int], send=bytes) as peer:
        for sender, receiver, value in ((peer, pipe, BIG), (pipe, peer, NUMBERS)):
            thread = threading.Thread(target=sender.send, args=(value,))
            thread.start()
            assert receiver.receive() == value
            thread.join()
