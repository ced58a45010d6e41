"""The process of a session: three pipes, an exit status and the stop sequence.

Knows bytes, not messages. The handler is told of output, of room for input and of the
end. Back-pressure is which pipes are polled. Each stream is closed by itself. The end
is reported once, when the process is reaped and its output is drained.

The stop sequence: end of input. After the stop grace TERM and CONT to the process
group. After the kill grace KILL. Each step follows only if the one before did not help.
"""

from __future__ import annotations

from chimirror.builtin_modules import signal
from chimirror.io.loop import ERROR, HANGUP, NEVER, READ
from chimirror.io.write_buffer import HIGH
from chimirror.process.children import SIGNALS
from chimirror.process.pipes import (
    BACKPRESSURE,
    LATE_READ_SIZE,
    LOG,
    LOG_BITS,
    READ_SIZE,
    SIGNALLING,
    ProcessPipes,
)
from chimirror.process.spawner import SpawnRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.process.spawner import Pipes, Program

    class SpawnBackend(Protocol):
        """Starts processes for sessions: Spawner, or ZygoteClient in a worker."""

        def start(self, request: SpawnRequest) -> None: ...

        def signal(self, pid: int, number: int) -> bool:
            """Send a signal. False: it waits already, `on_signals_taken` follows."""

        def end_session(self, pid: int, session: str, survivors: bool) -> None: ...

    class StopTimeouts(Protocol):
        """Timeouts of the end of an application, in seconds."""

        @property
        def linger_timeout(self) -> float: ...

        @property
        def stop_grace(self) -> float: ...

        @property
        def kill_grace(self) -> float: ...

    class ProcessHandler(Protocol):
        """Callbacks of an ApplicationProcess."""

        def on_application_started(self) -> None: ...

        def on_application_failed(self, reason: str, shortage: bool) -> None: ...

        def on_output(self, stream: str, chunk: bytes) -> None: ...

        def on_late_output(self, stream: str, chunk: bytes) -> None: ...

        def on_stdin_buffer_low(self) -> None: ...

        def on_control_channel(self) -> None: ...

        def on_application_end(self, status: int) -> None: ...

        def on_error(self, error: Exception) -> None: ...


IDLE, STARTING, RUNNING, EXITED, ENDED = range(5)  # phases
NONE, END_OF_INPUT, TERMINATED, KILLED = range(4)  # steps of the stop sequence

# of READ_SIZE: the most that a pipe can hold at the end of the linger timeout
MAX_LAST_READS = 16


class ApplicationProcess(ProcessPipes):
    """One application process and its pipes.

    Args:
        handler: called on every event.
        loop: event loop of this process.
        spawner: starts the process. All sessions share it.
        stop_timeouts: timeouts of its end. They may be replaced before the start.
        session: id of the session, which stray processes carry in their environment.

    Attributes:
        control_fd: its control channel until it is detached, or -1.
        output_observer: called with stream and chunk of all output, after the handler.
            None if no control peer follows the output. Never raises.
        phase: IDLE, STARTING, RUNNING, EXITED or ENDED.
        pid, status: of the process, 0 before they are known.
    """

    __slots__ = (
        "_linger_left",
        "_handler",
        "_spawner",
        "_step",
        "_has_survivors",
        "armed",
        "control_fd",
        "deadline",
        "output_observer",
        "stop_timeouts",
        "phase",
        "pid",
        "session",
        "status",
    )
    max_queued = HIGH  # bytes of output that wait for the client until reading stops

    def __init__(
        self,
        handler: ProcessHandler,
        loop: EventLoop,
        spawner: SpawnBackend,
        stop_timeouts: StopTimeouts,
        session: str,
    ) -> None:
        super().__init__(loop)
        self._handler = handler
        self._spawner = spawner
        self.stop_timeouts = stop_timeouts
        self.session = session
        self._linger_left = 0.0
        self._step = NONE
        self._has_survivors = False
        self.armed = 0
        self.deadline = NEVER
        self.phase = IDLE
        self.pid = 0
        self.status = 0
        self.control_fd = -1
        self.output_observer: Callable[[str, bytes], None] | None = None

    # Starting

    def start(
        self,
        program: Program,
        environment: Mapping[str, str],
        keep_stderr: bool,
        size: Sequence[int] | None = None,
    ) -> None:
        """Start the process.

        `on_application_started` or `on_application_failed` follows, possibly later.

        Args:
            program, environment, keep_stderr, size: as in `SpawnRequest`.
        """
        self.phase = STARTING
        self._spawner.start(
            SpawnRequest(self, program, environment, keep_stderr=keep_stderr, size=size)
        )

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """Called when the process runs. Continues a stop that began meanwhile."""
        self.phase = RUNNING
        self.pid = pid
        self.stdin, self.stdout, self.stderr, self.control_fd = pipes
        if self.control_fd >= 0:
            self._loop.watch(self.control_fd, self, READ)
        if self._step == KILLED:
            self._spawner.signal(pid, signal.SIGKILL)
        elif self._step:
            self._loop.set_timer(self, self._loop.now + self.stop_timeouts.stop_grace)
        if self._input_ended:
            self.finish_input()
        try:
            self._handler.on_application_started()
        finally:  # not before the response, which it would delay
            self._watch_output()

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """Called when the process could not be started."""
        self.phase = ENDED
        self._spawner.end_session(0, self.session, survivors=False)
        self._handler.on_application_failed(reason, shortage)

    def on_input_read(self) -> None:
        """Called when the application has read input. Restarts the stop grace.

        During the stop it still reads the input sent before.
        """
        if self._step == END_OF_INPUT:
            self._loop.set_timer(self, self._loop.now + self.stop_timeouts.stop_grace)

    def on_stdin_buffer_low(self) -> None:
        """Called when the stdin buffer is low. Passes it to the handler."""
        self._handler.on_stdin_buffer_low()

    # Output

    def pause_output(self) -> None:
        """Read no output until `resume_output`. The pipe fills and the writer waits."""
        if not (self._paused & BACKPRESSURE or self._step):
            self._pause(BACKPRESSURE)

    def resume_output(self) -> None:
        """Read output again."""
        if self._paused & BACKPRESSURE:
            self._resume(BACKPRESSURE)

    def pause_stream(self, stream: str) -> None:
        """Read no more of one output stream: its lines wait for the log."""
        self._pause(LOG_BITS[stream])

    def resume_stream(self, stream: str) -> None:
        """Read one output stream again: its lines are in the log."""
        self._resume(LOG_BITS[stream])

    def on_output_waiting(self, waiting: bool) -> None:
        """Called when reading stops or goes on. The linger timeout pauses meanwhile."""
        if self.phase != EXITED:
            return
        if waiting:
            self._linger_left = self.deadline - self._loop.now
            self._loop.cancel_timer(self)
        else:
            self._loop.set_timer(self, self._loop.now + self._linger_left)

    def on_chunk(self, stream: str, chunk: bytes) -> None:
        """Called with output. During the stop it reaches no client."""
        if not self._step:
            self._handler.on_output(stream, chunk)
        else:
            self._handler.on_late_output(stream, chunk)
        if self.output_observer is not None:
            self.output_observer(stream, chunk)

    def on_output_ended(self) -> None:
        """Called when one of the two output streams has ended."""
        if self.phase == EXITED and self.stdout < 0 and self.stderr < 0:
            self._finish()

    # Pausing, requested by control peers

    def pause(self, streams: int) -> None:
        """Pause these streams (STDIN, STDOUT, STDERR, as bits) until `resume`.

        This is independent of back-pressure. Nothing is lost: the end is reported after
        all output.
        """
        if self.phase in (RUNNING, EXITED) and not self._step:
            self._pause(streams)

    def resume(self, streams: int) -> None:
        """Continue paused streams."""
        self._resume(streams & self.paused)

    # Signals and the end

    def resize(self, columns: int, rows: int) -> None:
        """Set the window size. Only a terminal has one."""

    def set_window(self, size: int) -> bool:
        """Limit the output for the client. Only a terminal has such a window.

        Args:
            size: bytes of output since the start.

        Returns:
            False if it is less than before. Then nothing has changed.
        """
        return True

    def signal(self, name: str, *, backpressure: bool = False) -> None:
        """Send a signal (`INT`) to the process group, while the pid is valid.

        Args:
            name: without SIG.
            backpressure: True if the client has asked. If the same signal still waits,
                `is_input_full` holds until it is taken.
        """
        if self.phase != RUNNING:
            return
        is_new = self._spawner.signal(self.pid, SIGNALS[name])
        if backpressure and not is_new:
            self._paused |= SIGNALLING

    def on_signals_taken(self) -> None:
        """Called when signals can be sent again. Resumes reading from the client."""
        if self._paused & SIGNALLING:
            self._paused &= ~SIGNALLING
            self._handler.on_stdin_buffer_low()

    def stop(self) -> None:
        """Begin the stop sequence. Output reaches no client from now on."""
        if self._step or self.phase in (IDLE, ENDED):
            return
        self._step = END_OF_INPUT
        self._resume(self._paused & ~LOG)
        if self.phase == EXITED:
            self._drain()
        elif self.phase == RUNNING:
            self._loop.set_timer(self, self._loop.now + self.stop_timeouts.stop_grace)

    def kill(self) -> None:
        """Go to the last step of the stop sequence at once."""
        self.stop()
        if self._step:
            self._step = KILLED
            self._loop.cancel_timer(self)
        if self.phase == RUNNING:
            self._spawner.signal(self.pid, signal.SIGKILL)

    def on_timer(self, now: float) -> None:
        """Called when a timeout is over. Takes the next step."""
        if self.phase == EXITED:
            self._drain()
        elif self._step == END_OF_INPUT:
            self._step = TERMINATED
            self._spawner.signal(self.pid, signal.SIGTERM)
            self._spawner.signal(self.pid, signal.SIGCONT)
            self._loop.set_timer(self, now + self.stop_timeouts.kill_grace)
        else:
            self.kill()

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the process is reaped. Its output is still drained.

        Only a descendant can hold the pipes open now. It gets the linger timeout, which
        pauses while output is not read.
        """
        self.phase = EXITED
        self.status = status
        self._has_survivors = survivors
        self.close_input()
        if self._step or (self.stdout < 0 and self.stderr < 0):
            self._drain()
        elif self._has_unread_output:
            self._linger_left = self.stop_timeouts.linger_timeout
            self._loop.cancel_timer(self)
        else:
            self._loop.set_timer(
                self, self._loop.now + self.stop_timeouts.linger_timeout
            )

    def _drain(self) -> None:
        """Read the current content of the pipes, and end.

        Called after the linger timeout, or when the process has exited in the stop
        sequence. Its last words go to the log.
        """
        for fd in (self.stdout, self.stderr):
            for _ in range(MAX_LAST_READS):
                if fd < 0 or self.phase == ENDED or not self._read(fd):
                    break
        if self.phase != ENDED:
            self._finish()

    def _finish(self) -> None:
        self.phase = ENDED
        self._loop.cancel_timer(self)
        self.close_input()
        self._close_output()
        if self.control_fd >= 0:
            self._loop.close(self.detach_control_fd())
        self._spawner.end_session(self.pid, self.session, self._has_survivors)
        self._handler.on_application_end(self.status)

    def detach_control_fd(self) -> int:
        """Return the control channel, or -1. The caller owns it from now on."""
        control_fd, self.control_fd = self.control_fd, -1
        if control_fd >= 0:
            self._loop.watch(control_fd, self, 0)
        return control_fd

    def clear_handler(self) -> None:
        """Drop the reference to the handler, which breaks a reference cycle."""
        del self._handler

    # Callbacks of the loop

    def on_event(self, fd: int, events: int) -> None:
        """Called when one of the pipes is ready."""
        if fd == self.control_fd:
            self._handler.on_control_channel()
        elif fd != self.stdin:
            # A hang-up alone is not the end: poll(2) checks for data first, and a
            # process may have written and exited in between.
            self._read(fd, LATE_READ_SIZE if self._loop.is_late else READ_SIZE)
        elif events & (ERROR | HANGUP):
            self.close_input()
        else:
            self.flush_input()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Passes it to the handler."""
        self._handler.on_error(error)
