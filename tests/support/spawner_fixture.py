"""Real applications for tests: a loop, a spawner, and clients that read output.

All started processes have ended when the context is left.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from chimirror.io.loop import EventLoop
from chimirror.process import _fast_spawn, children, fast_spawner
from chimirror.process.fast_spawner import FastSpawner
from chimirror.process.reaper import StraySweeper
from chimirror.process.spawner import Program, Spawner, SpawnRequest
from loops import Timer, event_loop, subreaper, turn_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.process.spawner import Pipes

PATH = {"PATH": os.environ["PATH"]}


class Client:
    """Client of a start: reads the output and ends the session."""

    def __init__(self, loop: EventLoop, spawner: Spawner, session: str) -> None:
        self.loop, self.spawner, self.session = loop, spawner, session
        self.pid = 0
        self.pipes: Pipes = (-1, -1, -1, -1)
        self.failed = ""
        self.shortage = False
        self.status: int | None = None
        self.survivors = False
        self.output = b""
        self.errors: list[Exception] = []

    def on_started(self, pid: int, pipes: Pipes) -> None:
        self.pid, self.pipes = pid, pipes
        self.loop.watch(pipes[1], self, 1)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        self.failed, self.shortage = reason, shortage

    def on_signals_taken(self) -> None:
        raise AssertionError("signals are sent at once")

    def on_exit(self, status: int, survivors: bool) -> None:
        self.status, self.survivors = status, survivors
        self.finish()

    def finish(self) -> None:
        self.spawner.end_session(self.pid, self.session, self.survivors)

    def on_event(self, fd: int, events: int) -> None:
        chunk = os.read(fd, 65536)
        self.output += chunk
        if not chunk:
            self.loop.watch(fd, self, 0)
            self.close()

    def on_error(self, error: Exception) -> None:
        self.errors.append(error)

    def close(self) -> None:
        for fd in self.pipes:
            if fd >= 0:
                self.loop.close(fd)
        self.pipes = (-1, -1, -1, -1)


def program(*argv: str) -> Program:
    return Program(argv)


SHELL = program("sh", "-c", 'eval "$SCRIPT"')


class FakeProcesses:
    """Table of the processes of a worker: has the last one."""

    def __init__(self) -> None:
        self.memory = bytearray(8)
        self.sessions: list[str] = []  # begun and not released

    @property
    def pid(self) -> int:
        return int.from_bytes(self.memory[4:], sys.byteorder)

    def begin(self, session: str, now: float) -> int:
        self.sessions.append(session)
        return 4

    def end(self) -> None:
        """Called after a start."""

    def release(self, sessions: Iterable[str]) -> None:
        for session in sessions:
            self.sessions.remove(session)


def kept_requests(former: Iterable[SpawnRequest] = ()) -> list[SpawnRequest]:
    """Return the requests that exist. After a start, they would only take memory.

    Args:
        former: requests of other tests, which do not count.
    """
    others = {id(each) for each in former}
    found = gc.get_objects()  # isinstance() fails with a proxy whose object is gone
    return [
        each for each in found if type(each) is SpawnRequest if id(each) not in others
    ]


class SpawnerHarness:
    """A loop and its spawner."""

    def __init__(self, loop: EventLoop, *, fast: bool = False) -> None:
        self.loop = loop
        self.fast = fast
        self.clients: list[Client] = []
        self.processes = FakeProcesses()
        self.spawner: Spawner = Spawner(loop)
        if fast:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.spawner = FastSpawner(loop, self.processes, limits)

    def start(
        self,
        program: Program,
        session: str = "session-1",
        environment: dict[str, str] | None = None,
        *,
        keep_stderr: bool = True,
    ) -> Client:
        client = Client(self.loop, self.spawner, session)
        self.clients.append(client)
        variables = {**PATH, "CHIMIRROR_SESSION": session, **(environment or {})}
        self.spawner.start(
            SpawnRequest(client, program, variables, keep_stderr=keep_stderr)
        )
        return client

    def sh(self, script: str, session: str = "session-1") -> Client:
        return self.start(SHELL, session, {"SCRIPT": script})

    def output_of(self, client: Client) -> bytes:
        """Return the output of an application up to its end."""
        turn_until(
            self.loop, lambda: client.status is not None and not self.is_open(client)
        )
        return client.output

    def sweeper(self) -> StraySweeper:
        found = self.spawner._sweeper
        assert isinstance(found, StraySweeper)
        return found

    def is_open(self, client: Client) -> bool:
        return client.pipes[1] >= 0

    def wait_for_all(self) -> None:
        """Wait until no started process is left."""
        turn_until(self.loop, lambda: not children.list_children())

    def pass_time(self, seconds: float) -> None:
        timer = Timer(self.loop)
        self.loop.set_timer(timer, self.loop.now + seconds)
        turn_until(self.loop, lambda: timer.calls)


@contextmanager
def spawner_harness(*, fast: bool = False) -> Iterator[SpawnerHarness]:
    with subreaper(), event_loop() as loop:
        assert not (fast and fast_spawner.find_obstacle())
        made = SpawnerHarness(loop, fast=fast)
        try:
            yield made
        finally:
            for client in made.clients:
                client.close()
            children.end_all()
            _fast_spawn.release()
