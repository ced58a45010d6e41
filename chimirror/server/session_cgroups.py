"""Gives each session of a worker a cgroup, and kills what it leaves there.

A process that clears its environment and starts a session of its own stays in the
cgroup. Groups are numbered, and used again if they have emptied by themselves. A look
at an empty one costs 15 µs, and less if it is kept open. To make and remove a group for
each session would cost 70 µs of CPU time. A session with limits gets a new one, so that
no memory and no count is that of another. Knows no session object. cgroups(7).
"""

from __future__ import annotations

from chimirror.apps import limit_option
from chimirror.builtin_modules import os
from chimirror.host import cgroup_tree
from chimirror.host.cgroup import EVENTS_SIZE, read_oom_kills
from chimirror.host.cgroup_tree import CgroupError
from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chimirror.io.loop import EventLoop
    from chimirror.process.spawner import SpawnRequest
    from chimirror.server.retired_spares import TransferringSpawner


OPEN_GROUPS = 16  # made at the start and kept open, with two descriptors each


class SessionCgroups(FatalErrorHandler):
    """Spawner of a worker that puts each session into a cgroup of its own.

    Args:
        loop: event loop of this worker.
        spawner: starts and signals the applications.
        path: the group of this worker, which is created. It contains the others.
        directories: gets the descriptors of the groups that are kept open, by path.

    Attributes:
        out_of_memory: the session that has ended last, if its memory ran out.

    Raises:
        OSError: The group cannot be created.
    """

    def __init__(
        self,
        loop: EventLoop,
        spawner: TransferringSpawner,
        path: str,
        directories: dict[str, int],
    ) -> None:
        self._loop = loop
        self._spawner = spawner
        self._path = path
        self._directories = directories
        # descriptors of cgroup.events, of the same groups
        self._events: dict[int, int] = {}
        self._count = 0  # groups made
        self._free: list[int] = []  # empty groups
        self._used: dict[str, int] = {}  # by session
        self._dying: list[int] = []  # groups whose processes were killed
        self._limited: set[int] = set()  # groups with limits, not used again
        self._enabled: set[str] = set()  # controllers
        self.out_of_memory = ""
        self.signal = spawner.signal
        self.transfer = spawner.transfer
        self.armed = 0
        self.deadline = NEVER
        cgroup_tree.make(path)
        for _ in range(OPEN_GROUPS):
            self._free.insert(0, self._make_open())

    def enable(self, limits: Iterable[str]) -> None:
        """Enable the controllers of limits, in this worker and in the server.

        Args:
            limits: names of files of a group.

        Raises:
            ValueError: One of them is missing. The text begins with its option.
        """
        server = self._path.rpartition("/")[0]
        base = server.rpartition("/")[0]
        for controller in cgroup_tree.controllers_of(limits):
            if controller in self._enabled:
                continue
            try:
                for group in (base, server, self._path):
                    cgroup_tree.enable(group, controller)
            except CgroupError as error:
                raise ValueError(f"{limit_option(controller)}: {error}") from None
            self._enabled.add(controller)

    def start(self, request: SpawnRequest) -> None:
        """Start a program in a cgroup. The result comes as from the spawner."""
        client = request.client
        try:
            request.cgroup = self._take(client.session, request.program.limits)
        except OSError as error:
            text = children.explain(error, "the cgroup of the session")
            client.on_start_failed(text, children.is_shortage(error))
            return
        self._spawner.start(request)

    def limited_path(self, session: str) -> str:
        """Return the group of a session with limits, or nothing."""
        number = self._used.get(session)
        return f"{self._path}/{number}" if number in self._limited else ""

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """Kill what a session has left, also one that has not started."""
        number = self._used.pop(session, None)
        if number in self._limited:
            self._end_limited(number, session)
        elif number is not None:
            self._end(number)
        self._spawner.end_session(pid, session, survivors)

    def _take(self, session: str, limits: Mapping[str, str]) -> str:
        """Return the path of an empty group, which belongs to the session now."""
        if limits:
            number = self._make_limited(limits)
        else:
            number = self._free.pop() if self._free else self._make_open()
        self._used[session] = number
        return f"{self._path}/{number}"

    def _make(self) -> int:
        """Make a group. Returns its number."""
        number = self._count
        cgroup_tree.make(f"{self._path}/{number}")
        self._count += 1
        return number

    def _make_open(self) -> int:
        number = self._make()
        if len(self._events) < OPEN_GROUPS:
            self._open(number)
        return number

    def _make_limited(self, limits: Mapping[str, str]) -> int:
        number = self._make()
        try:
            cgroup_tree.set_limits(f"{self._path}/{number}", limits)
        except OSError:
            self._remove(number)
            raise
        self._limited.add(number)
        return number

    def _end_limited(self, number: int, session: str) -> None:
        self._limited.discard(number)
        try:
            if read_oom_kills(f"{self._path}/{number}/memory.events"):
                self.out_of_memory = session
        except OSError:
            pass  # it has no limit of memory, or no descriptor is left
        self._remove(number)

    def _open(self, number: int) -> None:
        """Keep a group open: that saves four system calls for each of its sessions."""
        path = f"{self._path}/{number}"
        try:
            events = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # no descriptor is left
        try:
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            os.close(events)
            return
        self._events[number] = events
        self._directories[path] = directory

    def _close(self, number: int) -> None:
        if number in self._events:
            os.close(self._events.pop(number))
            os.close(self._directories.pop(f"{self._path}/{number}"))

    def _is_populated(self, number: int) -> bool:
        events = self._events.get(number, -1)
        if events < 0:
            return cgroup_tree.is_populated(f"{self._path}/{number}")
        return cgroup_tree.has_process(os.pread(events, EVENTS_SIZE, 0))

    def _end(self, number: int) -> None:
        """Use an empty group again. Kill the processes of another, and remove it.

        Linux 6.18 kills each child that clone3(2) starts in a group which was killed.
        """
        try:
            if not self._is_populated(number):
                self._free.append(number)
                return
        except OSError:
            pass  # no descriptor is left, or the group was removed by someone else
        self._close(number)
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
        for number in list(self._events):
            self._close(number)
        cgroup_tree.remove(self._path)
