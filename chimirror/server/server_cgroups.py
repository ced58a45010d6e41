"""The cgroups of a server, in its supervisor: made, looked after and removed.

Workers make the groups of their sessions (session_cgroups). The groups of a dead worker
are removed here, and so are those of a server that was killed. Knows no session.
"""

from __future__ import annotations

import os

from chimirror.apps import cgroup_limits, limit_option
from chimirror.host import cgroup_tree
from chimirror.host.cgroup_tree import CgroupError, CgroupTree
from chimirror.io.loop import NEVER, FatalErrorHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.config import Config
    from chimirror.io.loop import EventLoop

CHECK_INTERVAL = 0.1  # seconds between two looks at groups that have to go
ATTEMPTS = 100  # looks at a group whose processes were killed


def describe(*, is_cheap: bool) -> str:
    """Return which sessions have cgroups, in one line.

    Args:
        is_cheap: as in `ServerCgroups.open`.
    """
    try:
        base = cgroup_tree.find_base()
    except CgroupError as error:
        return f"sessions have no cgroup: {error}"
    obstacle = cgroup_tree.find_obstacle(base)
    if obstacle:
        return f"sessions have no cgroup: {obstacle}"
    if is_cheap and cgroup_tree.is_unit(base):
        return "each session has a cgroup"
    return "sessions have a cgroup with --session-cgroup on"


class ServerCgroups(FatalErrorHandler):
    """The groups of a server, as the supervisor sees them.

    Args:
        loop: event loop of the supervisor.
        config: the command line.
        guardian: the parent of this process, or 0 without a guardian.
    """

    def __init__(self, loop: EventLoop, config: Config, guardian: int) -> None:
        self._loop = loop
        self._guardian = guardian
        self._config = config
        self._tree: CgroupTree | None = None
        # groups to be removed: when their processes are killed, and looks until then
        self._ending: dict[str, tuple[float, int]] = {}
        self.armed = 0
        self.deadline = NEVER

    def open(self, *, is_cheap: bool) -> None:
        """Create the groups, and move this process and its guardian into a leaf.

        Called before the zygote and the workers are forked.

        Args:
            is_cheap: False if a zygote starts the applications by posix_spawn(3). With
                a cgroup it would have to fork, so --session-cgroup auto takes none.

        Raises:
            CgroupError: That is not possible, and --session-cgroup is on, or sessions
                have limits.
        """
        mode, limits = self._config.session_cgroup, cgroup_limits(self._config)
        controllers = cgroup_tree.controllers_of(limits)
        reason = limit_option(controllers[0]) if limits else "--session-cgroup on"
        is_required = mode == "on" or bool(limits)
        if mode == "off" or not (is_required or is_cheap):
            return
        try:
            base = cgroup_tree.find_base()
            obstacle = cgroup_tree.find_obstacle(base)
            if obstacle:
                raise CgroupError(obstacle)
            # Starts into cgroups reached 0.65 to 0.98 of the rate of others, paired, on
            # a busy machine. So auto takes them only where a unit has delegated them.
            if not is_required and not cgroup_tree.is_unit(base):
                return
            tree = CgroupTree(base, os.getpid(), self._guardian)
            tree.create()
        except CgroupError as error:
            if is_required:
                raise CgroupError(f"{reason}: {error}") from None
            return
        for controller in controllers:
            try:
                tree.enable(controller)
            except CgroupError as error:
                tree.close()
                raise CgroupError(f"{limit_option(controller)}: {error}") from None
        self._tree = tree
        for path in tree.leftovers():
            self._end(path, self._loop.now)

    def worker_path(self, pid: int) -> str:
        """Return the group that a worker creates. Empty: sessions have no groups."""
        return "" if self._tree is None else self._tree.worker_path(pid)

    def on_worker_exit(self, pid: int) -> None:
        """Called when a worker has ended. Kills what is left after the kill grace.

        Until then, its applications are stopped in order.
        """
        if self._tree is not None:
            deadline = self._loop.now + self._config.kill_grace
            self._end(self._tree.worker_path(pid), deadline)

    def _end(self, path: str, deadline: float) -> None:
        self._ending[path] = deadline, ATTEMPTS
        self._loop.set_timer(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Called while groups have to go. Removes those that are empty, or late."""
        ending, self._ending = self._ending, {}
        for path, (deadline, attempts) in ending.items():
            if now < deadline and _is_populated(path):
                self._ending[path] = deadline, attempts
            elif attempts and not cgroup_tree.remove(path):
                self._ending[path] = deadline, attempts - 1
        if self._ending:
            self._loop.set_timer(self, now + CHECK_INTERVAL)

    def kill(self) -> None:
        """Called at the end, when all workers have ended. Kills what is left."""
        self._loop.cancel_timer(self)
        if self._tree is not None:
            for path in self._tree.worker_paths():
                cgroup_tree.remove(path)

    def close(self) -> None:
        """Called last, without children. Removes the groups."""
        if self._tree is not None:
            self._tree.close()


def _is_populated(path: str) -> bool:
    try:
        return cgroup_tree.is_populated(path)
    except OSError:
        return False
