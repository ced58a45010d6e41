"""A helper process: lines to its standard input, lines from its standard output.

Knows lines, not their content. Its standard error goes to the log, line by line. It is
a process like an application, with an id of its own in place of a session's. So it ends
with the process that has started it, killed or not, and leaves nothing behind.
"""

from __future__ import annotations

from chimirror.builtin_modules import os
from chimirror.process.application_process import RUNNING, ApplicationProcess
from chimirror.process.children import describe
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.process.spawner import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.process.application_process import SpawnBackend

    class HelperOwner(Protocol):
        """Callbacks of a HelperProcess."""

        def on_helper_ready(self) -> None:
            """Called when it can take lines, again or for the first time."""

        def on_helper_line(self, line: bytes) -> None:
            """Called with a line of its standard output, without its line end."""

        def on_helper_fault(self, text: str) -> None:
            """Called when its output is not lines of a bounded length."""

        def on_helper_stderr(self, line: bytes) -> None:
            """Called with a line of its standard error."""

        def on_helper_end(self, reason: str) -> None:
            """Called when it has ended, or could not be started."""

        def on_error(self, error: Exception) -> None: ...


MAX_STDERR_LINE = 4096  # bytes: a longer line is cut


class HelperTimeouts:
    """Timeouts of the end of a helper, in seconds."""

    linger_timeout = 0.5
    stop_grace = 1.0
    kill_grace = 1.0


class HelperProcess:
    """One run of a helper.

    Args:
        owner: called on every event.
        loop: event loop of this process.
        spawner: starts it.
        max_line: largest line of its output, in bytes.
    """

    __slots__ = ("_max_line", "_owner", "_partial", "_process", "_stderr")

    def __init__(
        self,
        owner: HelperOwner,
        loop: EventLoop,
        spawner: SpawnBackend,
        max_line: int,
    ) -> None:
        self._owner = owner
        self._max_line = max_line
        self._partial = b""  # the beginning of a line
        self._stderr = b""
        session = os.urandom(16).hex()
        timeouts = HelperTimeouts()
        self._process = ApplicationProcess(self, loop, spawner, timeouts, session)

    def start(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Start it. `on_helper_ready` or `on_helper_end` follows, possibly at once."""
        # `from_file`: the zygote does not know this program from the command line.
        program = Program(argv, from_file=True)
        variables = {**environment, SESSION_VARIABLE: self._process.session}
        self._process.start(program, variables, keep_stderr=True)

    @property
    def is_ready(self) -> bool:
        """Whether it runs and takes lines."""
        process = self._process
        return process.phase == RUNNING and not process.is_input_full

    @property
    def has_closed_input(self) -> bool:
        """Whether it runs, but has closed its standard input."""
        return self._process.phase == RUNNING and self._process.stdin < 0

    def write(self, line: bytes) -> None:
        """Write a line, which has its line end."""
        self._process.write([line])

    def kill(self) -> None:
        """Kill it. `on_helper_end` follows."""
        self._process.kill()

    def stop(self) -> None:
        """End its input. It is killed if it does not exit."""
        self._process.stop()
        self._process.end_input()

    # Callbacks of the process

    def on_application_started(self) -> None:
        """Called when it runs."""
        self._owner.on_helper_ready()

    def on_application_failed(self, reason: str, shortage: bool) -> None:
        """Called when it could not be started."""
        self._process.clear_handler()
        self._owner.on_helper_end(f"cannot be started: {reason}")

    def on_stdin_buffer_low(self) -> None:
        """Called when it has read lines."""
        self._owner.on_helper_ready()

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Called with output."""
        if stream == "stderr":
            self._read_stderr(chunk)
            return
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            if len(line) > self._max_line:
                self._refuse_line()
                return
            self._owner.on_helper_line(line)
        if len(self._partial) > self._max_line:
            self._refuse_line()

    def _refuse_line(self) -> None:
        self._partial = b""
        text = f"it wrote a line of more than {self._max_line} bytes"
        self._owner.on_helper_fault(text)

    def on_late_output(self, stream: str, chunk: bytes) -> None:
        """Called with output after `kill` or `stop`. No answer is awaited any more."""
        if stream == "stderr":
            self._read_stderr(chunk)

    def _read_stderr(self, chunk: bytes) -> None:
        *lines, rest = (self._stderr + chunk).split(b"\n")
        if len(rest) > MAX_STDERR_LINE:
            lines, rest = [*lines, rest], b""
        self._stderr = rest
        for line in lines:
            if line.strip():
                for at in range(0, len(line), MAX_STDERR_LINE):
                    piece = line[at : at + MAX_STDERR_LINE]
                    self._owner.on_helper_stderr(piece)

    def on_control_channel(self) -> None:
        """Never called: it has none."""

    def on_application_end(self, status: int) -> None:
        """Called when it has ended, and its output is read."""
        if self._stderr.strip():
            self._owner.on_helper_stderr(self._stderr)
        self._process.clear_handler()
        self._owner.on_helper_end(f"has ended: {describe(status)}")

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self._owner.on_error(error)
