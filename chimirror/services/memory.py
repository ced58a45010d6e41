"""Large values in shared memory: sealed memfds, and the socket that passes them.

The sender seals the memory: nobody can change or shrink it afterwards. The receiver
checks the seals and the size before it maps it, since a mapping of a file that shrinks
ends the process by SIGBUS. Follows memfd_create(2), F_GET_SEALS in fcntl(2), unix(7).
Knows no messages.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket

from chimirror.services.names import MEMORY

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
# The kernel raises this to its minimum, a few packets: the memory in flight is bounded.
SEND_BUFFER = 1


class InvalidMemory(Exception):
    """A descriptor that is not sealed memory of the announced size."""


def create_memory(content: bytes | bytearray | memoryview) -> int:
    """Return a descriptor of sealed memory with this content.

    Raises:
        OSError: There is not enough memory, or no free descriptor.
    """
    fd = os.memfd_create("chimirror-services", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_memory(fd: int, size: int) -> memoryview:
    """Return a read-only view of sealed memory.

    Raises:
        InvalidMemory: The descriptor is not that of sealed memory of this size.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise InvalidMemory("the descriptor is not that of shared memory") from None
    if seals & SEALS != SEALS:
        raise InvalidMemory("the shared memory is not sealed")
    found = os.fstat(fd).st_size
    if found != size:
        raise InvalidMemory(f"the shared memory has {found} bytes, not {size}")
    # A shared mapping of memory sealed against writing needs Linux 6.7.
    try:
        mapping = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        raise InvalidMemory(f"the shared memory cannot be mapped: {error}") from None
    return memoryview(mapping)


class MemorySocket:
    """One end of the socket that passes descriptors.

    The end of the server listens until the other end has connected. A peer that is not
    this library does not connect.
    """

    __slots__ = ("_listener", "_socket")

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None

    @classmethod
    def listen(cls, directory: int, name: str) -> MemorySocket:
        """Create the socket of a service, in a directory given by its descriptor."""
        made = cls()
        made._listener = listener = _new_socket()
        try:
            # By this path, the length of the directory's name does not matter.
            listener.bind(f"/proc/self/fd/{directory}/{name}{MEMORY}")
            listener.listen(1)
        except OSError:
            listener.close()
            raise
        return made

    @classmethod
    def connect(cls, directory: int, name: str) -> MemorySocket:
        """Connect to the socket of a service. Without one, no memory is passed."""
        made = cls()
        connecting = _new_socket()
        try:
            connecting.connect(f"/proc/self/fd/{directory}/{name}{MEMORY}")
        except OSError:
            connecting.close()
        else:
            made._socket = connecting
        return made

    def fileno(self) -> int:
        """Return the descriptor of the connection, -1 without one."""
        return -1 if self._socket is None else self._socket.fileno()

    def is_connected(self) -> bool:
        """Return whether the other end takes descriptors."""
        if self._socket is None and self._listener is not None:
            try:
                self._socket, _ = self._listener.accept()
            except BlockingIOError:
                return False
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._listener.close()
            self._listener = None
        return self._socket is not None

    def send(self, fd: int) -> bool:
        """Pass a descriptor. Returns False if the socket is full.

        Raises:
            OSError: The other end has closed the socket.
        """
        assert self._socket is not None
        try:
            socket.send_fds(self._socket, [b"-"], [fd])
        except BlockingIOError:
            return False
        return True

    def receive(self) -> int:
        """Return the next descriptor. -1 if none has been passed."""
        if not self.is_connected():
            return -1
        assert self._socket is not None
        try:
            _, fds, _, _ = socket.recv_fds(self._socket, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return -1
        return fds[0] if fds else -1

    def stop_receiving(self) -> None:
        """Refuse further descriptors: the other end must not wait for this one."""
        if self.is_connected():
            assert self._socket is not None
            try:
                self._socket.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # the other end has closed it

    def close(self) -> None:
        """Close both sockets."""
        for each in (self._listener, self._socket):
            if each is not None:
                each.close()
        self._listener = self._socket = None


def _new_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return made
