"""How many sessions descriptors and process ids allow on this machine.

getrlimit(2), proc(5) and the pids controller of both cgroup versions. Knows numbers
only; what to do with them is the server's matter.
"""

from __future__ import annotations

import os
import resource

from chimirror.system import cgroup

PER_SESSION = 4  # descriptors: socket, stdin, stdout, stderr
RESERVED = 96  # descriptors of a worker for everything else, and for starts
OTHER_PROCESSES = 512  # of the process ids, left for the rest of the machine


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one; the soft limit as it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def set_descriptor_limit(soft: int) -> None:
    """Set the soft limit, as far as the hard one allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sessions_per_worker() -> int:
    """Sessions that one process may hold without coming near EMFILE."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(1, (soft - RESERVED) // PER_SESSION)


def processes() -> int:
    """Applications that may run at once, one process each."""
    limits = [_number("/proc/sys/kernel/pid_max"), _cgroup_pids_max()]
    if os.getuid() != 0:
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        limits.append(None if soft == resource.RLIM_INFINITY else soft)
    known = [limit for limit in limits if limit is not None]
    lowest = min(known, default=1 << 15)
    return max(1, lowest - min(OTHER_PROCESSES, lowest // 8))


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plan(workers: int | None, max_sessions: int | None) -> tuple[int, int, int]:
    """The layout of a server: workers, sessions in all, sessions per worker.

    Every worker may hold a few more than its share, so that at the limit there is
    always one with room to say so.
    """
    room = sessions_per_worker()
    if workers is None:
        workers = cores()
        if max_sessions is not None:
            workers = max(workers, -(-(max_sessions + 1) // room))
    most = workers * room - 1
    if max_sessions is None:
        max_sessions = min(most, processes())
    return workers, max(1, min(max_sessions, most)), room


def _cgroup_pids_max() -> int | None:
    groups = cgroup.memberships()
    found = []
    for controller, root in (("", cgroup.ROOT), ("pids", f"{cgroup.ROOT}/pids")):
        if controller in groups:
            found += _limits(root, groups[controller])
    return min(found, default=None)


def _limits(root: str, path: str) -> list[int]:
    """The limits of a cgroup and of all above it: each of them binds."""
    found = []
    while path.strip("/"):
        found.append(_number(f"{root}{path}/pids.max"))
        path = path.rpartition("/")[0]
    found.append(_number(f"{root}/pids.max"))  # a container's own root has one
    return [limit for limit in found if limit is not None]


def _number(path: str) -> int | None:
    """The number in a file; None for `max`, or where there is no such file."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
