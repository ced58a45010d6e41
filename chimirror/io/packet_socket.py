"""Packets that may carry descriptors, over a Unix socket (unix(7)).

Knows SOCK_SEQPACKET and SCM_RIGHTS, not the content of packets. Descriptors to send are
owned and closed here. Received descriptors belong to the handler. The end of the peer
is reported once, after all packets before it.

Packets that the kernel does not take are queued. Senders keep that queue short. A peer
that lets it grow to its bounds counts as lost.
"""

from __future__ import annotations

from array import array
from collections import deque
from errno import EMSGSIZE, ENOBUFS, ENOMEM
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from chimirror.builtin_modules import os, socket
from chimirror.io.loop import NEVER, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from chimirror.io.loop import EventLoop

    class PacketHandler(Protocol):
        """Callbacks of a PacketSocket."""

        def on_packet(
            self, link: PacketSocket, packet: bytes, fds: list[int]
        ) -> None: ...

        def on_lost(self, link: PacketSocket) -> None: ...

        def on_error(self, error: Exception) -> None: ...


MAX_PACKET = 1 << 19  # bytes. net.core.wmem_max may allow less
SEND_BUFFER = 1 << 20  # requested size in bytes. net.core.wmem_max may allow less
MAX_QUEUED_PACKETS = 10_000
MAX_QUEUED_BYTES = 1 << 24
MAX_PACKETS = 16  # per turn, so that other handlers are served in between
_OVERHEAD = 32  # bytes of the send buffer that no packet may use (unix_dgram_sendmsg)
_SPACE = socket.CMSG_SPACE(4 * array("i").itemsize)
# One buffer for all links. Only pages that were ever used take memory.
_buffer = mmap(-1, MAX_PACKET, MAP_PRIVATE | MAP_ANONYMOUS)


class PacketError(ValueError):
    """A received packet that cannot be used. The text says why."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class PacketSocket:
    """One end of a link between two processes.

    Args:
        loop: reports readiness.
        handler: receives packets and the end of the link.
        handle: the socket. Owned by this object from now on.

    Attributes:
        fd: the descriptor, or -1 once closed.
        has_overflowed: True if the queue has reached a bound.
        queued_bytes: size of the packets that the kernel has not taken yet.
    """

    __slots__ = (
        "_handle",
        "_handler",
        "_loop",
        "_max_packet",
        "_queue",
        "armed",
        "deadline",
        "fd",
        "has_overflowed",
        "queued_bytes",
    )

    def __init__(
        self, loop: EventLoop, handler: PacketHandler, handle: socket.socket
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._handle = handle
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self.queued_bytes = 0
        self.has_overflowed = False
        self.armed = 0
        self.deadline = NEVER
        handle.setblocking(False)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        allowed = handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _OVERHEAD
        self._max_packet = min(MAX_PACKET, allowed)
        self.fd = handle.fileno()
        loop.watch(self.fd, self, READ)

    @property
    def queued_packets(self) -> int:
        """Packets that the kernel has not taken yet."""
        return len(self._queue)

    def send(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a packet, or queue it while the kernel takes no more.

        With MAX_QUEUED_PACKETS or MAX_QUEUED_BYTES in the queue, the peer counts as
        lost. `on_lost` follows in a later turn.

        Args:
            packet: the content.
            fds: descriptors to pass. They are closed here once sent.

        Raises:
            OSError: EMSGSIZE only. `on_lost` reports a lost peer.
        """
        try:
            if len(packet) > self._max_packet:
                raise OSError(EMSGSIZE, os.strerror(EMSGSIZE))
            is_sent = self.fd < 0 or (not self._queue and self._send(packet, fds))
        except OSError:
            _close(fds)
            raise
        if is_sent:
            _close(fds)
            return
        self._queue.append((packet, fds))
        self.queued_bytes += len(packet)
        if (
            len(self._queue) > MAX_QUEUED_PACKETS
            or self.queued_bytes > MAX_QUEUED_BYTES
        ):
            self.close()
            self.has_overflowed = True
            self._loop.set_timer(self, self._loop.now)
        else:
            self._loop.watch(self.fd, self, READ | WRITE)

    def _send(self, packet: bytes, fds: tuple[int, ...]) -> bool:
        """Try to send. Returns True if the packet is sent or can never be sent.

        If the kernel has no room for descriptors in flight, the packet goes without
        them, and the receiver notices that they are missing. If it has no memory, the
        packet is tried again.
        """
        try:
            self._handle.sendmsg((packet,), _rights(fds))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == EMSGSIZE:
                raise
            if error.errno in (ENOBUFS, ENOMEM):
                return False
            if fds:
                return self._send(packet, ())
        return True

    def _flush(self) -> None:
        while self._queue:
            packet, fds = self._queue[0]
            try:
                if not self._send(packet, fds):
                    return
            except OSError:
                pass  # never: `send` has checked the size
            self._queue.popleft()
            self.queued_bytes -= len(packet)
            _close(fds)
        self._loop.watch(self.fd, self, READ)

    def on_timer(self, now: float) -> None:
        """Called after the queue has reached a bound. Reports the peer as lost."""
        self._handler.on_lost(self)

    def on_event(self, fd: int, events: int) -> None:
        """Called when packets have arrived, or can be sent."""
        if events & WRITE:
            self._flush()
        if events & ~WRITE:
            self.receive(MAX_PACKETS)

    def receive(self, max_packets: int) -> None:
        """Receive at most `max_packets` packets that are waiting."""
        for _ in range(max_packets):
            if self.fd < 0 or not self._receive_one():
                return

    def _receive_one(self) -> bool:
        flags = 0
        try:
            size, control, flags, _ = self._handle.recvmsg_into(
                (_buffer,), _SPACE, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError:
            size, control = 0, []
        if not size:
            self.close()
            self._handler.on_lost(self)
            return False
        fds = _received_fds(control)
        if flags & socket.MSG_TRUNC:
            _close(fds)
            raise PacketError(f"it is larger than {MAX_PACKET} bytes")
        self._handler.on_packet(self, _buffer[:size], fds)
        return True

    def close(self) -> None:
        """Close this end. Queued packets are dropped."""
        if self.fd < 0:
            return
        self._loop.close(self._handle.detach())
        self.fd = -1
        self.queued_bytes = 0
        while self._queue:
            _close(self._queue.popleft()[1])

    def release_after_fork(self) -> None:
        """Close the descriptor in a forked child. The parent keeps watching it."""
        if self.fd >= 0:
            os.close(self._handle.detach())
            self.fd = -1

    def on_error(self, error: Exception) -> None:
        """Called on an internal error or a PacketError. Passes it to the handler."""
        self._handler.on_error(error)


def _rights(fds: tuple[int, ...]) -> tuple[tuple[int, int, array[int]], ...]:
    if not fds:
        return ()
    return ((socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds)),)


def _received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a packet."""
    found = array("i")
    for level, kind, numbers in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(numbers[: len(numbers) // found.itemsize * found.itemsize])
    return found.tolist()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
