"""Reads the control groups of units: their names, their usage and their limits.

The files of the kernel are read directly. For 1,500 units that takes 60 ms, where one
D-Bus request to process 1 for each takes 2.6 s.

Follows cgroups(7). All controllers share one hierarchy (v2), or each has its own beside
the hierarchy in which systemd keeps units (hybrid, v1). Knows nothing of sessions.
"""

from __future__ import annotations

import os
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.paths import HostPaths

CONTROLLERS = ("cpu", "memory", "pids")
# cgroup v1: memory.limit_in_bytes holds at least this value where there is no limit.
_NO_LIMIT = 1 << 62


class ResourceUsage(NamedTuple):
    """The resources that a group uses now. None: the kernel does not count it.

    Attributes:
        cpu: Seconds since the group was made.
        memory: Bytes.
        tasks: Processes and threads.
    """

    cpu: float | None = None
    memory: int | None = None
    tasks: int | None = None


class ResourceLimits(NamedTuple):
    """The resources that a group may use. None: no limit.

    Attributes:
        cpu: Cores.
        memory: Bytes.
        tasks: Processes and threads.
    """

    cpu: float | None = None
    memory: int | None = None
    tasks: int | None = None


class CgroupHierarchy:
    """The cgroup hierarchies of a machine.

    Groups are named by their path below the root group of systemd.

    Attributes:
        unified: Whether the controllers are those of cgroup v2.
    """

    def __init__(self, host: HostPaths) -> None:
        root = self._root = host.cgroups
        self.unified = os.path.exists(f"{root}/cgroup.controllers")
        base = _systemd_group(f"{host.proc}/1/cgroup")
        names = ("unified", "systemd")
        mounted = [
            f"{root}/{name}" for name in names if os.path.isdir(f"{root}/{name}")
        ]
        # Where none is mounted, no group will be found below the root either.
        trees = [root] if self.unified or not mounted else mounted
        self._units = [path + base for path in trees]
        self._controllers = {
            name: f"{root}/{name}{base}" for name in (*CONTROLLERS, "cpuacct")
        }

    def services(self, group: str) -> Iterator[tuple[str, str]]:
        """Iterate over the services below a slice.

        Yields:
            The name of the unit and its group.
        """
        try:
            entries = list(os.scandir(f"{self._units[0]}/{group}"))
        except OSError:
            return
        for entry in entries:
            if entry.name.endswith(".service"):
                yield entry.name, f"{group}/{entry.name}"
            elif entry.name.endswith(".slice"):
                yield from self.services(f"{group}/{entry.name}")

    def controllers(self) -> set[str]:
        """Return those of CONTROLLERS that systemd can use here."""
        if self.unified:
            words = _read(f"{self._units[0]}/cgroup.controllers").split()
            return set(words) & set(CONTROLLERS)
        return {name for name in CONTROLLERS if os.path.isdir(self._controllers[name])}

    def usage(self, group: str) -> ResourceUsage:
        """Return the resources that a group uses."""
        if self.unified:
            return _read_usage(f"{self._units[0]}/{group}")
        memory = _read_number(
            f"{self._controllers['memory']}/{group}/memory.usage_in_bytes"
        )
        tasks = _read_number(f"{self._controllers['pids']}/{group}/pids.current")
        return ResourceUsage(self._cpu(group), memory, tasks)

    def usage_of_directory(self, directory: str) -> ResourceUsage:
        """Return the resources that a group of v2 uses.

        Args:
            directory: Its path, as a server has reported it. Other files are not read.
        """
        below, *parts = directory.removeprefix(self._root).split("/")
        if not directory.startswith(self._root) or below or ".." in parts:
            return ResourceUsage()
        return _read_usage(directory)

    def _cpu(self, group: str) -> float | None:
        used = _read_cpu(f"{self._units[0]}/{group}")
        if used is not None:
            return used
        spent = _read_number(f"{self._controllers['cpuacct']}/{group}/cpuacct.usage")
        return None if spent is None else spent / 1e9

    def limits(self, group: str) -> ResourceLimits:
        """Return the resources that a group may use."""
        if self.unified:
            directory = f"{self._units[0]}/{group}"
            quota, _, period = _read(f"{directory}/cpu.max").partition(" ")
            memory = _read_number(f"{directory}/memory.max")
            tasks = _read_number(f"{directory}/pids.max")
        else:
            directory = f"{self._controllers['cpu']}/{group}"
            quota = _read(f"{directory}/cpu.cfs_quota_us")
            period = _read(f"{directory}/cpu.cfs_period_us")
            memory = _read_number(
                f"{self._controllers['memory']}/{group}/memory.limit_in_bytes"
            )
            tasks = _read_number(f"{self._controllers['pids']}/{group}/pids.max")
        if memory is not None and memory >= _NO_LIMIT:
            memory = None
        return ResourceLimits(_ratio(quota, period), memory, tasks)

    def processes(self, group: str) -> list[int]:
        """Return the processes in a group, the lowest pid first."""
        for tree in self._units:
            if words := _read(f"{tree}/{group}/cgroup.procs").split():
                return sorted(int(word) for word in words)
        return []

    def created(self, group: str) -> int:
        """Return the time at which a group was made, in microseconds since 1970."""
        try:
            return os.stat(f"{self._units[0]}/{group}").st_ctime_ns // 1000
        except OSError:
            return 0


def _systemd_group(path: str) -> str:
    """Return the root group of systemd, empty where it is the root of the hierarchy."""
    for line in _read(path).splitlines():
        _, _, group = line.partition("::")
        if group.endswith("/init.scope"):
            return group.removesuffix("/init.scope")
    return ""


def _read_usage(directory: str) -> ResourceUsage:
    return ResourceUsage(
        _read_cpu(directory),
        _read_number(f"{directory}/memory.current"),
        _read_number(f"{directory}/pids.current"),
    )


def _read_cpu(directory: str) -> float | None:
    """Return seconds. In v2 every group counts them, without the controller too."""
    for line in _read(f"{directory}/cpu.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    return None


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.strip().isdigit() and period.strip().isdigit()):
        return None  # "max", "-1", or the controller is missing
    return int(quota) / max(int(period), 1)


def _read_number(path: str) -> int | None:
    """Return the number in a file, or None where it says `max` or does not exist."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: str) -> str:
    try:
        # os.open() costs half of open(), and this runs thousands of times.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 16).decode()
    except OSError:
        return ""
    finally:
        os.close(fd)
