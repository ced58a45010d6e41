"""Gives each session of a worker a cgroup, and kills what it leaves there.

A process that clears its environment and starts a session of its own stays in the
cgroup. Groups are numbered, and used again if they have emptied by themselves. To make
and remove a group for each session would cost 70 µs of CPU time, a look at an empty one
costs 15 µs. Knows no session object. Follows cgroups(7).
"""

from __future__ import annotations

from errno import ENOENT

from chimirror.builtin_modules import os
from chimirror.host import cgroup_tree
from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.process.spawner import Program, SpawnClient

    class CgroupSpawner(Protocol):
        """Starts processes in a given cgroup: WorkerSpawner or ZygoteClient."""

        def start(
            self,
            client: SpawnClient,
            program: Program,
            environment: Mapping[str, str],
            keep_stderr: bool,
            size: Sequence[int] | None = None,
            cgroup: str = "",
        ) -> None: ...

        def signal(self, pid: int, number: int) -> bool: ...

        def end_session(self, pid: int, session: str, survivors: bool) -> None: ...


class SessionCgroups(FatalErrorHandler):
    """Spawner of a worker that puts each session into a cgroup of its own.

    Args:
        loop: event loop of this worker.
        spawner: starts and signals the applications.
        path: the group of this worker, which is created. It contains the others.

    Raises:
        OSError: The group cannot be created.
    """

    def __init__(self, loop: EventLoop, spawner: CgroupSpawner, path: str) -> None:
        self._loop = loop
        self._spawner = spawner
        self._path = path
        self._count = 0  # groups made
        self._free: list[int] = []  # empty groups
        self._used: dict[str, int] = {}  # by session
        self._dying: list[int] = []  # groups whose processes were killed
        self.signal = spawner.signal
        self.armed = 0
        self.deadline = NEVER
        os.mkdir(path)

    def start(
        self,
        client: SpawnClient,
        program: Program,
        environment: Mapping[str, str],
        keep_stderr: bool,
        size: Sequence[int] | None = None,
    ) -> None:
        """Start a program in a cgroup. The result comes as from the spawner."""
        try:
            path = self._take(client.session)
        except OSError as error:
            text = children.explain(error, "the cgroup of the session")
            client.on_start_failed(text, children.is_shortage(error))
            return
        self._spawner.start(client, program, environment, keep_stderr, size, path)

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """Kill what a session has left, also one that has not started."""
        number = self._used.pop(session, None)
        if number is not None:
            self._end(number)
        self._spawner.end_session(pid, session, survivors)

    def _take(self, session: str) -> str:
        """Return the path of an empty group, which belongs to the session now."""
        if self._free:
            number = self._free.pop()
        else:
            number = self._count
            os.mkdir(f"{self._path}/{number}")
            self._count += 1
        self._used[session] = number
        return f"{self._path}/{number}"

    def _end(self, number: int) -> None:
        """Use an empty group again. Kill the processes of another, and remove it.

        Linux 6.18 kills each child that clone3(2) starts in a group which was killed.
        """
        path = f"{self._path}/{number}"
        try:
            if not cgroup_tree.is_populated(path):
                self._free.append(number)
                return
        except OSError as error:
            if error.errno == ENOENT:
                return  # removed by someone else
        self._remove(number)

    def _remove(self, number: int) -> None:
        """Kill the processes of a group, and remove it, now or at a later tick."""
        if not cgroup_tree.remove(f"{self._path}/{number}"):
            self._dying.append(number)
            self._loop.set_timer(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Called at the next tick. Removes the groups whose processes were killed."""
        dying, self._dying = self._dying, []
        for number in dying:
            self._remove(number)

    def kill(self) -> None:
        """Called at the end of this worker. Kills what is left."""
        try:
            cgroup_tree.kill(self._path)
        except OSError:
            pass  # the supervisor does it

    def remove(self) -> None:
        """Called last. Removes the groups, unless a killed process has not ended.

        The supervisor removes what is left, or else the next server.
        """
        cgroup_tree.remove(self._path)
