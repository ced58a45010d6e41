"""The process half of a session: three pipes, an exit status and the stop ladder.

Knows bytes, not messages. Its owner is told of output, of room for input and of the
end; back-pressure is which pipes are polled. Each stream is closed by itself, and the
end is told once: when the process is reaped and its output drained.

The ladder (each step only if the one before did not help): end of input, after the
stop grace TERM and CONT to the process group, after the kill grace KILL.
"""

from __future__ import annotations

from chimirror.system.children import SIGNALS
from chimirror.system.lean import signal
from chimirror.system.loop import ERROR, HANGUP, NEVER, READ
from chimirror.system.outlet import HELD, Outlet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from chimirror.system.child import Client, Pipes, Program
    from chimirror.system.loop import Loop

    class Starter(Protocol):
        """Who starts processes: child.Starter, or one that asks somebody to."""

        def start(
            self,
            client: Client,
            program: Program,
            environment: Mapping[str, str],
            keep_stderr: bool,
        ) -> None: ...

        def signal(self, pid: int, number: int) -> None: ...

        def finish(self, pid: int, session: str, survivors: bool) -> None: ...

    class Graces(Protocol):
        """The timings of an end, in seconds."""

        @property
        def linger_timeout(self) -> float: ...

        @property
        def stop_grace(self) -> float: ...

        @property
        def kill_grace(self) -> float: ...

    class Owner(Protocol):
        """Who is told."""

        def on_application_started(self) -> None: ...

        def on_application_failed(self, reason: str, shortage: bool) -> None: ...

        def on_output(self, stream: str, chunk: bytes) -> None: ...

        def on_input_room(self) -> None: ...

        def on_channel(self) -> None: ...

        def on_application_end(self, status: int) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


IDLE, STARTING, RUNNING, EXITED, ENDED = range(5)  # phases
NONE, END_OF_INPUT, TERMINATED, KILLED = range(4)  # steps of the stop ladder

LAST_READS = 16  # of READ_SIZE: what a pipe may still hold when its linger is over


class Application(Outlet):
    """One application process and its pipes.

    Args:
        owner: told of everything that happens.
        loop, starter: of this process; shared by all sessions.
        graces: the timings of its end, till it is started under others.
        session: the id that strays carry in their environment.
    """

    __slots__ = (
        "_linger_left",
        "_owner",
        "_starter",
        "_step",
        "_survivors",
        "armed",
        "channel",
        "deadline",
        "graces",
        "phase",
        "pid",
        "session",
        "status",
    )

    def __init__(
        self, owner: Owner, loop: Loop, starter: Starter, graces: Graces, session: str
    ) -> None:
        super().__init__(loop)
        self._owner = owner
        self._starter = starter
        self.graces = graces
        self.session = session
        self._linger_left = 0.0
        self._step = NONE
        self._survivors = False
        self.armed = 0
        self.deadline = NEVER
        self.phase = IDLE
        self.pid = 0
        self.status = 0
        self.channel = -1  # its control channel, until somebody takes it

    # Starting

    def start(
        self, program: Program, environment: Mapping[str, str], keep_stderr: bool
    ) -> None:
        """Ask for the process; `on_application_started` or `_failed` is the answer."""
        self.phase = STARTING
        self._starter.start(self, program, environment, keep_stderr)

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """The starter's answer; a client that went meanwhile: the ladder begins."""
        self.phase = RUNNING
        self.pid = pid
        self.stdin, self.stdout, self.stderr, self.channel = pipes
        self._watch_output()
        if self.channel >= 0:
            self._loop.watch(self.channel, self, READ)
        if self._step == KILLED:
            self._starter.signal(pid, signal.SIGKILL)
        elif self._step:
            self._loop.arm(self, self._loop.now + self.graces.stop_grace)
        if self._input_ended:
            self.finish_input()
        self._owner.on_application_started()

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """The starter's other answer."""
        self.phase = ENDED
        self._owner.on_application_failed(reason, shortage)

    def on_input_read(self) -> None:
        """It still reads what was sent before the end: the grace begins anew."""
        if self._step == END_OF_INPUT:
            self._loop.arm(self, self._loop.now + self.graces.stop_grace)

    def on_input_room(self) -> None:
        """So may whoever sends."""
        self._owner.on_input_room()

    # Output

    def pause_output(self) -> None:
        """Read no output until `resume_output`: the pipe fills and the writer waits."""
        if not (self._paused & HELD or self._step):
            self._pause(HELD)

    def resume_output(self) -> None:
        """Read again."""
        if self._paused & HELD:
            self._resume(HELD)

    def on_output_waiting(self, waiting: bool) -> None:
        """The linger stands still while we do not read."""
        if self.phase != EXITED:
            return
        if waiting:
            self._linger_left = self.deadline - self._loop.now
            self._loop.disarm(self)
        else:
            self._loop.arm(self, self._loop.now + self._linger_left)

    def on_chunk(self, stream: str, chunk: bytes) -> None:
        """It has written; on the ladder that is nobody's any more."""
        if not self._step:
            self._owner.on_output(stream, chunk)

    def on_output_ended(self) -> None:
        """One of its two streams has ended."""
        if self.phase == EXITED and self.stdout < 0 and self.stderr < 0:
            self._end()

    # Pausing, by whoever steers the session

    def pause(self, streams: int) -> None:
        """Pass nothing on of these (inlet.STDIN and so on, as bits) until `resume`.

        That is beside back-pressure. Nothing is lost: an exit waits for its output.
        """
        if self.phase in (RUNNING, EXITED) and not self._step:
            self._pause(streams)

    def resume(self, streams: int) -> None:
        """Go on where it stopped."""
        self._resume(streams & self.paused)

    # Signals and the end

    def resize(self, columns: int, rows: int) -> None:
        """Only a terminal has a size."""

    def signal(self, name: str) -> None:
        """Send a signal (`INT`) to its process group, while the number is its own."""
        if self.phase == RUNNING:
            self._starter.signal(self.pid, SIGNALS[name])

    def stop(self) -> None:
        """Begin the stop ladder; output is read and discarded from now on."""
        if self._step or self.phase in (IDLE, ENDED):
            return
        self._step = END_OF_INPUT
        self._resume(self._paused)
        if self.phase == EXITED:
            self._end()
        elif self.phase == RUNNING:
            self._loop.arm(self, self._loop.now + self.graces.stop_grace)

    def kill(self) -> None:
        """Go to the ladder's last step at once."""
        self.stop()
        if self._step:
            self._step = KILLED
            self._loop.disarm(self)
        if self.phase == RUNNING:
            self._starter.signal(self.pid, signal.SIGKILL)

    def on_timer(self, now: float) -> None:
        """A grace is over."""
        if self.phase == EXITED:
            self._drain()
        elif self._step == END_OF_INPUT:
            self._step = TERMINATED
            self._starter.signal(self.pid, signal.SIGTERM)
            self._starter.signal(self.pid, signal.SIGCONT)
            self._loop.arm(self, now + self.graces.kill_grace)
        else:
            self.kill()

    def on_exit(self, status: int, survivors: bool) -> None:
        """The process has ended and is reaped; what it wrote is still drained.

        Only a descendant can hold the pipes open now: it is given the linger timeout,
        which stands still while we do not read.
        """
        self.phase = EXITED
        self.status = status
        self._survivors = survivors
        self.close_input()
        if self._step or (self.stdout < 0 and self.stderr < 0):
            self._end()
        elif self._waiting:
            self._linger_left = self.graces.linger_timeout
            self._loop.disarm(self)
        else:
            self._loop.arm(self, self._loop.now + self.graces.linger_timeout)

    def _drain(self) -> None:
        """The linger is over: take what the pipes hold now, and no more."""
        for fd in (self.stdout, self.stderr):
            for _ in range(LAST_READS):
                if fd < 0 or self.phase == ENDED or not self._read(fd):
                    break
        if self.phase != ENDED:
            self._end()

    def _end(self) -> None:
        self.phase = ENDED
        self._loop.disarm(self)
        self.close_input()
        self._close_output()
        if self.channel >= 0:
            self._loop.close(self.take_channel())
        self._starter.finish(self.pid, self.session, self._survivors)
        self._owner.on_application_end(self.status)

    def take_channel(self) -> int:
        """Its control channel, which is the caller's from now on; or -1."""
        channel, self.channel = self.channel, -1
        if channel >= 0:
            self._loop.watch(channel, self, 0)
        return channel

    def forget(self) -> None:
        """Let go of the owner: it is over, and so are we."""
        del self._owner

    # The loop's side

    def on_event(self, fd: int, events: int) -> None:
        """One of the pipes is ready."""
        if fd == self.channel:
            self._owner.on_channel()
        elif fd != self.stdin:
            # A hang-up alone is not the end: poll(2) looks for data first, and a
            # writer may have written and gone in between.
            self._read(fd)
        elif events & (ERROR | HANGUP):
            self.close_input()
        else:
            self.flush_input()

    def on_fault(self, error: Exception) -> None:
        """A bug of ours while serving this process: the owner answers for it."""
        self._owner.on_fault(error)
