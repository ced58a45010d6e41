"""The end of a service in one process that sends values.

It moves encoded values to its FIFO, and never waits. The flows in `pipe_core` wait.
Follows pipe(7), fifo(7).
"""

from __future__ import annotations

import errno
import os
import select
from collections import deque

from chimirror.services.codec import BINARY, JSON_THRESHOLD
from chimirror.services.line_parser import format_reference
from chimirror.services.memory import create_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.services.codec import Encoder, Message
    from chimirror.services.memory import MemorySocket


class Outgoing:
    """A message on its way.

    Attributes:
        is_sent: Whether all of it is in the FIFO.
        has_begun: Whether a part of it has been sent, so that the rest has to follow.
    """

    __slots__ = ("_encode", "fd", "has_begun", "is_sent", "rest")

    def __init__(
        self, line: bytes, fd: int = -1, encode: Callable[[], bytes] = bytes
    ) -> None:
        self.rest = memoryview(line)
        self._encode = encode
        self.fd = fd  # of shared memory, which is passed before the line
        self.has_begun = False
        self.is_sent = False

    def become_line(self) -> None:
        """Carry the value itself instead of a reference to it."""
        self.rest = memoryview(self._encode())

    def drop(self) -> None:
        """Release the shared memory."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class SendingEnd:
    """The end that sends values.

    Args:
        fd: non-blocking write end of the FIFO. It now belongs to this object.
        encoder: of the values.
        memory: where descriptors of shared memory are passed.
        retire: called before the end, so that the FIFO is not opened again.
    """

    def __init__(
        self,
        fd: int,
        encoder: Encoder,
        memory: MemorySocket,
        retire: Callable[[], None],
    ) -> None:
        self.fd = fd  # -1 after the end
        self.is_closed = False  # by this process
        self._encoder = encoder
        self._memory = memory
        self._retire = retire
        self._queue: deque[Outgoing] = deque()
        self._is_socket_full = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing reads any more, or this process has closed the end."""
        return self.fd < 0

    @property
    def is_busy(self) -> bool:
        """Whether messages wait until the FIFO has room."""
        return bool(self._queue)

    def add(self, value: object) -> Outgoing:
        """Queue a value.

        Raises:
            TypeError: It cannot be encoded.
        """
        memory = isinstance(value, BINARY) and self._memory.is_connected()
        message = self._encoder.encode(value, memory=memory)
        is_large = message.kind == "bytes" or len(message.content) >= JSON_THRESHOLD
        found = None
        if is_large and self._memory.is_connected():
            found = self._create_memory(message, value)
        if found is None:
            found = Outgoing(self._encode_line(value, message))
        self._queue.append(found)
        return found

    def _encode_line(self, value: object, message: Message) -> bytes:
        if message.kind == "bytes":
            message = self._encoder.encode(value, memory=False)
        return b"%s\n" % message.content

    def _create_memory(self, message: Message, value: object) -> Outgoing | None:
        kind, content = message
        try:
            fd = create_memory(content)
        except OSError:
            return None  # a line needs no descriptor
        line = format_reference(kind, len(content))
        return Outgoing(line, fd, lambda: self._encode_line(value, message))

    def remove(self, message: Outgoing) -> bool:
        """Take a message back. Returns False if a part of it has been sent."""
        if message.has_begun or message.is_sent:
            return False
        if message in self._queue:
            self._queue.remove(message)
        message.drop()
        return True

    def flush(self) -> None:
        """Write as much as the FIFO takes."""
        while self._queue and not self.has_ended:
            message = self._queue[0]
            try:
                if not self._write(message):
                    return
            except OSError:  # nothing reads any more
                self.end()
                return
            message.is_sent = True
            self._queue.popleft()

    def _write(self, message: Outgoing) -> bool:
        """Send a message. Returns False if the rest has to wait."""
        if message.fd >= 0:
            try:
                self._is_socket_full = not self._memory.send(message.fd)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                # the user has too many descriptors in flight
                message.become_line()
                self._is_socket_full = False
            if self._is_socket_full:
                return False
            message.has_begun = True
            message.drop()
        try:
            while message.rest:
                message.rest = message.rest[os.write(self.fd, message.rest) :]
                message.has_begun = True
        except BlockingIOError:
            return False
        return True

    def wait_events(self) -> dict[int, int]:
        """Return the events of poll(2) after which `flush` can continue."""
        if self.has_ended:
            return {}
        if self._is_socket_full:
            return {self._memory.fileno(): select.POLLOUT, self.fd: 0}
        return {self.fd: select.POLLOUT}

    def end(self) -> None:
        """Drop all messages: nothing reads any more."""
        if self.fd >= 0:
            self._retire()
            fd, self.fd = self.fd, -1
            os.close(fd)
        while self._queue:
            self._queue.popleft().drop()

    def close(self) -> None:
        """End the direction. Messages in the FIFO still arrive."""
        self.is_closed = True
        self.end()
