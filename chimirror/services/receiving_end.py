"""The end of a service in one process that receives values.

It moves bytes from its FIFO to the core without I/O, and never waits. The flows in
`pipe_core` wait. Follows pipe(7), fifo(7).
"""

from __future__ import annotations

import os
import select
from enum import Enum
from typing import Any, Final

from chimirror.services.errors import InvalidMessage
from chimirror.services.line_parser import (
    Fault,
    Line,
    LineParser,
    Reference,
    format_reference,
)
from chimirror.services.memory import InvalidMemory, map_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.services.codec import Decoder
    from chimirror.services.memory import MemorySocket

READ_SIZE = 1 << 16  # the capacity of a pipe


class Nothing(Enum):
    """The type of NOTHING."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING  # no value has arrived: None can be a value


class ReceivingEnd:
    """The end that receives values.

    Args:
        service: name, for errors.
        fd: non-blocking read end of the FIFO. It now belongs to this object.
        decoder: of the values.
        memory: where descriptors of shared memory arrive.
        max_message: of one message, in bytes.
        retire: called before the end, so that the FIFO is not opened again.
    """

    def __init__(
        self,
        service: str,
        fd: int,
        decoder: Decoder,
        memory: MemorySocket,
        max_message: int,
        retire: Callable[[], None],
    ) -> None:
        self.fd = fd  # -1 after the end
        self.is_closed = False  # by this process
        self._service = service
        self._decoder = decoder
        self._memory = memory
        self._max = max_message
        self._retire = retire
        self._parser = LineParser(max_message)
        self._fault: Fault | None = None  # the last event

    def __del__(self) -> None:
        # Unread messages stay readable after the target has ended.
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def has_ended(self) -> bool:
        """Whether no further bytes arrive."""
        return self.fd < 0

    def fill(self) -> bool:
        """Read once, unless values can be taken. Returns False if nothing arrived."""
        if self.has_ended:
            return False
        if not self._parser.needs_data:
            return True
        data = _read(self.fd)
        # Before the other side has opened the FIFO, there is nothing to read either.
        if data == b"" and _has_hung_up(self.fd):
            self._retire()
            data = _read(self.fd)  # of a writer that was faster
            if data == b"":
                self.end()
                return True
        if data:
            self._parser.receive_data(data)
        return bool(data)

    def require_writer(self) -> None:
        """End the stream if nothing has opened the FIFO for writing."""
        data = _read(self.fd)
        if data:
            self._parser.receive_data(data)
        elif data is not None:
            self.end()

    def end(self) -> None:
        """Take the end of the stream. Values that have arrived can still be taken."""
        if not self.has_ended:
            self._fault = self._parser.receive_end()
            self._close_fd()

    def close(self) -> None:
        """Drop all further messages."""
        self.is_closed = True
        self._close_fd()
        self._memory.stop_receiving()

    def _close_fd(self) -> None:
        if self.fd >= 0:
            self._retire()
            fd, self.fd = self.fd, -1
            os.close(fd)

    def take(self) -> Any:
        """Return the next value, or NOTHING if more bytes are needed.

        Raises:
            InvalidMessage: The next message is no value. It has been taken.
        """
        event = self._parser.next_event()
        if isinstance(event, Line):
            return self._decoder.decode_json(event.data)
        if isinstance(event, Reference):
            return self._take_memory(event)
        if event is None:
            event, self._fault = self._fault, None
        if event is not None:
            raise InvalidMessage(self._service, event.reason, event.evidence)
        return NOTHING

    def _take_memory(self, reference: Reference) -> Any:
        kind, size = reference
        fd = self._memory.receive()
        try:
            if fd < 0:
                raise InvalidMemory("there is no descriptor for this reference")
            if size > self._max:
                raise InvalidMemory(f"{size} bytes are more than {self._max}")
            view = map_memory(fd, size)
        except InvalidMemory as error:
            line = format_reference(kind, size)
            raise InvalidMessage(self._service, str(error), line) from None
        finally:
            if fd >= 0:
                os.close(fd)
        try:
            if kind == "bytes":
                return self._decoder.decode_bytes(view)
            return self._decoder.decode_json(view)
        except InvalidMessage:
            view.release()  # the traceback of the error must not keep the memory
            raise


def _read(fd: int) -> bytes | None:
    """Read once. Returns None if there is nothing to read yet."""
    try:
        return os.read(fd, READ_SIZE)
    except BlockingIOError:
        return None


def _has_hung_up(fd: int) -> bool:
    """Return whether a FIFO had a writer, and has none any more."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
