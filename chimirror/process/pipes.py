"""The three pipes of an application: buffered input, two streams of output.

Knows when a pipe may be read, not the meaning of its bytes. There are four independent
reasons not to read. Back-pressure holds both streams, the log holds a stream of which
lines wait, and control peers may pause either. The window of its client holds a
terminal. In all cases the pipe fills and the application waits in write(2).
"""

from __future__ import annotations

from chimirror.builtin_modules import os
from chimirror.io.loop import READ, WRITE
from chimirror.io.write_buffer import HIGH, LOW, WriteBuffer, write_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop

STDIN, STDOUT, STDERR = 1, 2, 4  # streams that can be paused, as bits
BACKPRESSURE = 8  # another bit: both output streams, for back-pressure
SIGNALLING = 16  # another bit: the client sends signals faster than they are taken
LOG_BITS = {"stdout": 32, "stderr": 64}  # more bits: streams that wait for the log
LOG = 96  # both
WINDOW = 128  # another bit: stdout, which has filled the window of its client
# the reasons not to read a stream
STDOUT_REASONS = BACKPRESSURE | WINDOW | STDOUT | LOG_BITS["stdout"]
STDERR_REASONS = BACKPRESSURE | STDERR | LOG_BITS["stderr"]
READ_SIZE = 64 * 1024
# The same in a turn that is late: output in short lines costs time for each line.
LATE_READ_SIZE = 2048


class ProcessPipes:
    """The three pipes of an application. A subclass handles output and events.

    Attributes:
        stdin_buffer: input that the application has not read yet, or None.
        stdin: the pipe, or -1 before the start and once closed.
        stdout, stderr: the pipes, or -1 before the start and once ended.
    """

    __slots__ = (
        "_input_ended",
        "_loop",
        "_paused",
        "stderr",
        "stdin",
        "stdin_buffer",
        "stdout",
    )

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._input_ended = False
        self._paused = 0
        self.stdin_buffer: WriteBuffer | None = None
        self.stdin = self.stdout = self.stderr = -1

    # For the subclass to define

    def on_stdin_buffer_low(self) -> None:
        """Called when the stdin buffer is low, or discarded because stdin is closed."""
        raise NotImplementedError

    def on_input_read(self) -> None:
        """Called when the application has read part of the stdin buffer."""
        raise NotImplementedError

    def on_event(self, fd: int, events: int) -> None:
        """Called when one of the pipes is ready."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        raise NotImplementedError

    def on_chunk(self, stream: str, chunk: bytes) -> None:
        """Called with output."""
        raise NotImplementedError

    def on_output_ended(self) -> None:
        """Called when one of the two output streams has ended."""
        raise NotImplementedError

    def on_output_waiting(self, waiting: bool) -> None:
        """Called when reading of open output streams stops or goes on."""
        raise NotImplementedError

    # Input

    @property
    def queued_input(self) -> int:
        """Bytes in the stdin buffer."""
        return self.stdin_buffer.size if self.stdin_buffer else 0

    @property
    def is_input_full(self) -> bool:
        """True if the client should wait: too much input is queued, or signals are."""
        return self.queued_input > HIGH or self._paused & SIGNALLING > 0

    def write(self, chunks: list[bytes]) -> None:
        """Write input. It is discarded if stdin is closed."""
        if self.stdin < 0:
            return
        if self.stdin_buffer is not None:
            self.stdin_buffer.append(chunks)
            return
        if self._paused & STDIN:
            block = b"".join(chunks)
            self.stdin_buffer = WriteBuffer(block) if block else None
            return
        try:
            rest = write_now(self.stdin, chunks)
        except OSError:
            self.close_input()
            return
        if rest:
            self.stdin_buffer = WriteBuffer(rest)
            self._loop.watch(self.stdin, self, WRITE)

    def flush_input(self) -> None:
        """Write the stdin buffer, as far as the pipe takes it."""
        stdin_buffer = self.stdin_buffer
        if stdin_buffer is None:
            return
        before = stdin_buffer.size
        try:
            is_empty = stdin_buffer.flush(self.stdin)
        except OSError:
            self.close_input()
            return
        if stdin_buffer.size < before:
            self.on_input_read()
        if is_empty:
            self.stdin_buffer = None
            self._loop.watch(self.stdin, self, 0)
            if self._input_ended:
                self.finish_input()
        if stdin_buffer.size <= LOW:
            self.on_stdin_buffer_low()

    def _pause_input(self) -> None:
        """Write no input until `_resume_input`, and do not close stdin either."""
        self._paused |= STDIN
        if self.stdin_buffer is not None:
            self._loop.watch(self.stdin, self, 0)

    def _resume_input(self) -> None:
        """Continue writing input, in order."""
        self._paused &= ~STDIN
        if self.stdin_buffer is not None:
            self._loop.watch(self.stdin, self, WRITE)
        elif self._input_ended:
            self.finish_input()

    def end_input(self) -> None:
        """Close stdin once all input before is written."""
        self._input_ended = True
        if self.stdin_buffer is None and not self._paused & STDIN:
            self.finish_input()

    def finish_input(self) -> None:
        """Called when all input is written. Closes the pipe."""
        self.close_input()

    def close_input(self) -> None:
        """Close stdin: it has ended, or the application reads no more."""
        if self.stdin < 0:
            return
        self._loop.close(self.stdin)
        self.stdin = -1
        if self.stdin_buffer is not None:
            self.stdin_buffer = None
            self.on_stdin_buffer_low()

    # Pausing

    @property
    def paused(self) -> int:
        """The streams that are paused, as bits."""
        return self._paused & (STDIN | STDOUT | STDERR)

    def _pause(self, streams: int) -> None:
        """Pause these streams, as bits. BACKPRESSURE may be one of them."""
        if streams & STDIN:
            self._pause_input()
        self._set_paused(self._paused | streams)

    def _resume(self, streams: int) -> None:
        """Continue these streams, unless another reason still holds."""
        if self._paused & streams & STDIN:
            self._resume_input()
        self._set_paused(self._paused & ~streams)

    def _set_paused(self, paused: int) -> None:
        if paused == self._paused:
            return
        before, self._paused = self._has_unread_output, paused
        self._watch_output()
        if self._has_unread_output != before:
            self.on_output_waiting(not before)

    @property
    def _has_unread_output(self) -> bool:
        """True if an open output stream is not being read.

        Streams that wait for the log do not count: no session waits for the log.
        """
        paused = self._paused
        return (self.stdout >= 0 and paused & (BACKPRESSURE | WINDOW | STDOUT) > 0) or (
            self.stderr >= 0 and paused & (BACKPRESSURE | STDERR) > 0
        )

    def _watch_output(self) -> None:
        paused = self._paused
        for fd, reasons in (
            (self.stdout, STDOUT_REASONS),
            (self.stderr, STDERR_REASONS),
        ):
            if fd >= 0:
                self._loop.watch(fd, self, 0 if paused & reasons else READ)

    # Reading

    def read_now(self) -> None:
        """Read stdout once, before the loop reports it. Reads nothing while paused."""
        if self.stdout >= 0 and not self._paused & STDOUT_REASONS:
            self._read(self.stdout)

    def _read(self, fd: int, size: int = READ_SIZE) -> bool:
        """Read once. Returns True if there was data."""
        try:
            chunk = os.read(fd, size)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no process has the terminal open any more
            chunk = b""
        if not chunk:
            self._end_output(fd)
            return False
        self.on_chunk("stdout" if fd == self.stdout else "stderr", chunk)
        return True

    def _end_output(self, fd: int) -> None:
        self._loop.close(fd)
        if fd == self.stdout:
            self.stdout = -1
        else:
            self.stderr = -1
        self.on_output_ended()

    def _close_output(self) -> None:
        """Close the output streams without reading the rest."""
        for fd in (self.stdout, self.stderr):
            if fd >= 0:
                self._loop.close(fd)
        self.stdout = self.stderr = -1
