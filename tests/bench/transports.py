"""Ways to pass a value between two processes, or two threads, of one machine.

Each is a pair of endpoints. The peer has one of them and serves it with `serve`. It
reads each value to its last byte, as an application does, and answers by its first
byte. Knows nothing of rounds or figures. Manual pages: pipe(7), unix(7), eventfd(2),
memfd_create(2).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import queue
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar

ECHO, PART, LAST, STOP = b"EPLS"  # the first byte of a value
ANSWER = b"\n"  # to LAST
find_end = re.compile(rb"\n").search
find_end_of_text = re.compile("\n").search
BUFFER = 1 << 20  # the largest pipe buffer that any user may set
MAX_SLOTS = 64
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
SEALABLE = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING

Value = bytes | memoryview
V = TypeVar("V")


class Endpoint(Protocol[V]):
    """One side of a transport."""

    def send(self, value: V) -> None: ...

    def receive(self, size: int) -> V:
        """Return the next value, which is valid until the next call."""

    def close(self) -> None: ...


class ServicePipe(Protocol[V]):
    """The part of a pipe of chimirror.services that is measured."""

    def send(self, value: V) -> None: ...

    def receive(self) -> V: ...

    def close(self) -> None: ...


Pair = tuple[Endpoint[Value], Endpoint[Value]]
Opened = Callable[[int], AbstractContextManager[Endpoint[Value]]]


def value_of(kind: int, size: int) -> bytes:
    """Return a value of this size, with its kind first and its end last."""
    return bytes([kind]) + b"x" * (size - 2) + b"\n"


def read(value: object) -> int:
    """Read a value to its end. Returns its kind."""
    if isinstance(value, str):
        assert find_end_of_text(value)
        return ord(value[0])
    assert isinstance(value, bytes | memoryview)
    assert find_end(value)
    return value[0]


def serve(endpoint: Endpoint[V], size: int, answer: V) -> None:
    """Answer values of this size until STOP."""
    while True:
        value = endpoint.receive(size)
        kind = read(value)
        if kind == ECHO:
            endpoint.send(value)
        elif kind == LAST:
            endpoint.send(answer)
        elif kind == STOP:
            return


class StreamEndpoint:
    """Two descriptors of a byte stream. They may be the same one."""

    def __init__(self, reading: int, writing: int, size: int) -> None:
        self._reading = reading
        self._writing = writing
        self._buffer = memoryview(bytearray(size))

    def send(self, value: Value) -> None:
        view = memoryview(value)
        while view:
            view = view[os.write(self._writing, view) :]

    def receive(self, size: int) -> Value:
        found = 0
        while found < size:
            count = os.readv(self._reading, [self._buffer[found:size]])
            if not count:
                raise EOFError
            found += count
        return self._buffer[:size]

    def close(self) -> None:
        for fd in {self._reading, self._writing}:
            os.close(fd)


class Slots:
    """Shared memory of one direction. Two eventfds count its full and free slots."""

    def __init__(self, memory: memoryview, size: int, full: int, free: int) -> None:
        self._memory = memory
        self._size = size
        self._full = full
        self._free = free
        self._count = len(memory) // size
        self._next = 0
        self._held = False

    @classmethod
    def pair(cls, size: int) -> tuple[Slots, Slots]:
        """Return the same slots for a sender and for a receiver."""
        count = max(2, min(MAX_SLOTS, BUFFER // size))
        memory = memoryview(mmap.mmap(-1, count * size))
        full = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        free = os.eventfd(count, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        receiver = cls(memory, size, os.dup(full), os.dup(free))
        return cls(memory, size, full, free), receiver

    def _slot(self, size: int) -> memoryview:
        start = self._next * self._size
        self._next = (self._next + 1) % self._count
        return self._memory[start : start + size]

    def put(self, value: Value) -> None:
        os.eventfd_read(self._free)
        self._slot(len(value))[:] = value
        os.eventfd_write(self._full, 1)

    def get(self, size: int) -> memoryview:
        """Free the slot of the last call, and wait for the next full one."""
        if self._held:
            os.eventfd_write(self._free, 1)
        os.eventfd_read(self._full)
        self._held = True
        return self._slot(size)

    def close(self) -> None:
        os.close(self._full)
        os.close(self._free)


class SharedMemoryEndpoint:
    """Shared memory, mapped once by both sides. Values are used in place."""

    def __init__(self, outgoing: Slots, incoming: Slots) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    def send(self, value: Value) -> None:
        self._outgoing.put(value)

    def receive(self, size: int) -> Value:
        return self._incoming.get(size)

    def close(self) -> None:
        self._outgoing.close()
        self._incoming.close()


class MemfdEndpoint:
    """A sealed memfd for each value, passed over a socket and mapped there."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        # The queue of the socket limits the memory that is on its way.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def send(self, value: Value) -> None:
        fd = os.memfd_create("value", SEALABLE)
        try:
            view = memoryview(value)
            while view:
                view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            socket.send_fds(self._link, [b"@"], [fd])
        finally:
            os.close(fd)

    def receive(self, size: int) -> Value:
        message, (fd,), _, _ = socket.recv_fds(self._link, 1, 1)
        try:
            assert message == b"@"
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALS
            assert os.fstat(fd).st_size == size
            return memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ))
        finally:
            os.close(fd)

    def close(self) -> None:
        self._link.close()


class LibraryEndpoint(Generic[V]):
    """A pipe of chimirror.services, in the server or in the target."""

    def __init__(self, pipe: ServicePipe[V]) -> None:
        self._pipe = pipe

    def send(self, value: V) -> None:
        self._pipe.send(value)

    def receive(self, size: int) -> V:
        return self._pipe.receive()

    def close(self) -> None:
        self._pipe.close()


class QueueEndpoint:
    """Two queues between threads. They pass references, so nothing is copied."""

    def __init__(
        self, outgoing: queue.SimpleQueue[Value], incoming: queue.SimpleQueue[Value]
    ) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    def send(self, value: Value) -> None:
        self._outgoing.put(value)

    def receive(self, size: int) -> Value:
        value = self._incoming.get()
        assert len(value) == size
        return value

    def close(self) -> None:
        """Nothing is open."""


def pipes(size: int, buffer: int = 0) -> Pair:
    there, back = os.pipe(), os.pipe()
    for _, writing in (there, back) if buffer else ():
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, buffer)
    ours = StreamEndpoint(back[0], there[1], size)
    return ours, StreamEndpoint(there[0], back[1], size)


def socket_pair(size: int) -> Pair:
    first, second = (end.detach() for end in socket.socketpair())
    return StreamEndpoint(first, first, size), StreamEndpoint(second, second, size)


def shared_memory(size: int) -> Pair:
    (sent, received), (answers, answered) = Slots.pair(size), Slots.pair(size)
    ours = SharedMemoryEndpoint(sent, answered)
    return ours, SharedMemoryEndpoint(answers, received)


def memfds(size: int) -> Pair:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return MemfdEndpoint(first), MemfdEndpoint(second)


def forked(pair: Callable[[int], Pair]) -> Opened:
    """Serve the other endpoint in a process of its own."""

    @contextmanager
    def opened(size: int) -> Iterator[Endpoint[Value]]:
        ours, theirs = pair(size)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                ours.close()
                serve(theirs, size, ANSWER)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        try:
            yield ours
            ours.send(value_of(STOP, size))
            _, status = os.waitpid(pid, 0)
            assert status == 0
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            ours.close()

    return opened


@contextmanager
def threaded(size: int) -> Iterator[Endpoint[Value]]:
    """Serve the other endpoint in a thread of this process."""
    there: queue.SimpleQueue[Value] = queue.SimpleQueue()
    back: queue.SimpleQueue[Value] = queue.SimpleQueue()
    ours = QueueEndpoint(there, back)
    peer = threading.Thread(
        target=serve, args=(QueueEndpoint(back, there), size, ANSWER)
    )
    peer.start()
    try:
        yield ours
    finally:
        ours.send(value_of(STOP, size))
        peer.join()


TRANSPORTS: dict[str, Opened] = {
    "pipe": forked(pipes),
    "pipe of 1 MiB": forked(partial(pipes, buffer=BUFFER)),
    "socket pair": forked(socket_pair),
    "shared memory, eventfd": forked(shared_memory),
    "sealed memfd, socket": forked(memfds),
    "queue in one process": threaded,
}
