"""An application's output: bytes out of two pipes, and their ends.

Knows when a pipe may be read, not what the bytes mean: there are two reasons not to
read, each by itself. Back-pressure holds both streams; whoever steers the session may
pause either. In both cases the pipe fills, and then whoever writes has to wait.
"""

from __future__ import annotations

from chimirror.system.inlet import STDERR, STDIN, STDOUT, Inlet
from chimirror.system.lean import os
from chimirror.system.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Loop

HELD = 8  # beside the streams that are paused: by back-pressure
READ_SIZE = 64 * 1024


class Outlet(Inlet):
    """All three pipes; a subclass says what becomes of output.

    Attributes:
        stdout, stderr: the pipes; -1 before they are there and once they have ended.
    """

    __slots__ = ("stderr", "stdout")

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.stdout = self.stderr = -1

    # For the subclass to define

    def on_chunk(self, stream: str, chunk: bytes) -> None:
        """There is output."""
        raise NotImplementedError

    def on_output_ended(self) -> None:
        """One of the two has ended."""
        raise NotImplementedError

    def on_output_waiting(self, waiting: bool) -> None:
        """Output that is still open is no longer read, or is all read again."""
        raise NotImplementedError

    # Pausing

    @property
    def paused(self) -> int:
        """The streams that have been paused, as bits."""
        return self._paused & (STDIN | STDOUT | STDERR)

    def _pause(self, streams: int) -> None:
        """Pause what is among these bits; HELD is one of them."""
        if streams & STDIN:
            self._pause_input()
        self._keep_output(self._paused | streams)

    def _resume(self, streams: int) -> None:
        """Go on with them, unless there is another reason not to."""
        if self._paused & streams & STDIN:
            self._resume_input()
        self._keep_output(self._paused & ~streams)

    def _keep_output(self, paused: int) -> None:
        if paused == self._paused:
            return
        before, self._paused = self._waiting, paused
        self._watch_output()
        if self._waiting != before:
            self.on_output_waiting(not before)

    @property
    def _waiting(self) -> bool:
        """Whether there is output, or may be, that is not read."""
        paused = self._paused
        return (self.stdout >= 0 and paused & (HELD | STDOUT) > 0) or (
            self.stderr >= 0 and paused & (HELD | STDERR) > 0
        )

    def _watch_output(self) -> None:
        paused = self._paused
        for fd, held in ((self.stdout, HELD | STDOUT), (self.stderr, HELD | STDERR)):
            if fd >= 0:
                self._loop.watch(fd, self, 0 if paused & held else READ)

    # Reading

    def _read(self, fd: int) -> bool:
        """Read once; whether there was anything."""
        try:
            chunk = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:  # EIO: of a terminal that nobody has open any more
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
        """Read nothing more, whatever is left."""
        for fd in (self.stdout, self.stderr):
            if fd >= 0:
                self._loop.close(fd)
        self.stdout = self.stderr = -1
