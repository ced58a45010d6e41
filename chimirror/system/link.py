"""A link: packets that may carry descriptors, over a Unix socket (unix(7)).

Knows SOCK_SEQPACKET and SCM_RIGHTS, not what a packet says. What it is given to send it
owns and closes; what arrives is its owner's. The end of the peer is told once, after
everything that came before it.
"""

from __future__ import annotations

from array import array
from collections import deque
from errno import EMSGSIZE
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from chimirror.system.lean import os, socket
from chimirror.system.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.system.loop import Loop

    class Owner(Protocol):
        """Who is told."""

        def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None: ...

        def on_lost(self, link: Link) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


LARGEST = 1 << 19  # bytes of a packet: more than the kernel lets anybody send
ROOM = 1 << 20  # asked for as send buffer; net.core.wmem_max may allow less
PACKETS = 16  # per turn, so that others are served in between
_SPACE = socket.CMSG_SPACE(4 * array("i").itemsize)
# One for all links; of its pages, only those that were ever used are there.
_buffer = mmap(-1, LARGEST, MAP_PRIVATE | MAP_ANONYMOUS)


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a new link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Link:
    """One end of a link.

    Args:
        loop: reports readiness.
        owner: told of packets and of the end.
        handle: the socket; ours from now on.
    """

    __slots__ = ("_handle", "_loop", "_owner", "_queue", "fd")

    def __init__(self, loop: Loop, owner: Owner, handle: socket.socket) -> None:
        self._loop = loop
        self._owner = owner
        self._handle = handle
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        handle.setblocking(False)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        self.fd = handle.fileno()
        loop.watch(self.fd, self, READ)

    @property
    def backlog(self) -> int:
        """Packets that wait for the peer to read."""
        return len(self._queue)

    def send(self, packet: bytes, pipes: tuple[int, ...] = ()) -> None:
        """Send a packet, or keep what the kernel does not take now.

        Raises:
            OSError: EMSGSIZE, and nothing else: a lost peer is told by `on_lost`.
        """
        try:
            done = self.fd < 0 or (not self._queue and self._send(packet, pipes))
        except OSError:
            _close(pipes)
            raise
        if done:
            _close(pipes)
            return
        self._queue.append((packet, pipes))
        self._loop.watch(self.fd, self, READ | WRITE)

    def _send(self, packet: bytes, pipes: tuple[int, ...]) -> bool:
        """Whether it has gone, or never will.

        Where the kernel has no room for descriptors in flight, the packet goes without
        them, and the receiver knows that they are missing.
        """
        try:
            self._handle.sendmsg((packet,), _rights(pipes))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == EMSGSIZE:
                raise
            if pipes:
                return self._send(packet, ())
        return True

    def _flush(self) -> None:
        while self._queue:
            packet, pipes = self._queue[0]
            if not self._send(packet, pipes):
                return
            self._queue.popleft()
            _close(pipes)
        self._loop.watch(self.fd, self, READ)

    def on_event(self, fd: int, events: int) -> None:
        """Packets have come, or can go."""
        if events & WRITE:
            self._flush()
        if events & ~WRITE:
            self.receive(PACKETS)

    def receive(self, most: int) -> None:
        """Take up to so many packets that wait."""
        for _ in range(most):
            if self.fd < 0 or not self._receive_one():
                return

    def _receive_one(self) -> bool:
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            size, control, _, _ = self._handle.recvmsg_into((_buffer,), _SPACE, flags)
        except BlockingIOError:
            return False
        except OSError:
            size, control = 0, []
        if not size:
            self.close()
            self._owner.on_lost(self)
            return False
        self._owner.on_packet(self, _buffer[:size], _pipes(control))
        return True

    def close(self) -> None:
        """Close our end; what waits to be sent is dropped."""
        if self.fd < 0:
            return
        self._loop.close(self._handle.detach())
        self.fd = -1
        while self._queue:
            _close(self._queue.popleft()[1])

    def abandon(self) -> None:
        """In a forked child: let go of it; the parent's loop goes on watching it."""
        if self.fd >= 0:
            os.close(self._handle.detach())
            self.fd = -1

    def on_fault(self, error: Exception) -> None:
        """A bug of ours while serving this link: its owner answers for it."""
        self._owner.on_fault(error)


def _rights(pipes: tuple[int, ...]) -> tuple[tuple[int, int, array[int]], ...]:
    if not pipes:
        return ()
    return ((socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", pipes)),)


def _pipes(control: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that a packet brought."""
    found = array("i")
    for level, kind, numbers in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(numbers[: len(numbers) // found.itemsize * found.itemsize])
    return found.tolist()


def _close(pipes: tuple[int, ...]) -> None:
    for fd in pipes:
        os.close(fd)
