"""Whether memory is left for a process that nobody waits for.

A part of the memory of this machine has to be free. The same holds for each limit of a
cgroup that this process is in, in both cgroup versions. The page cache that was not
used lately counts as free. proc(5), cgroups(7).
"""

from __future__ import annotations

from time import monotonic

from chimirror.host import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FREE_PART = 16  # one part in this many has to be free
MAX_AGE = 1.0  # seconds for which an answer holds
MEMINFO = "/proc/meminfo"
# Of the limits that hold for a cgroup, its usage, and its idle page cache.
V2 = (("memory.max", "memory.high"), "memory.current", "inactive_file")
V1 = (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")

_last = (0.0, True)  # when it was measured, and the answer


def is_available() -> bool:
    """Return True if there was enough free memory within the last second."""
    global _last
    now = monotonic()
    if not _last[0] <= now < _last[0] + MAX_AGE:
        _last = now, measure()
    return _last[1]


def measure(
    meminfo: str = MEMINFO,
    listing: str = cgroup.SELF_CGROUP,
    root: str = cgroup.ROOT,
) -> bool:
    """Return True if there is enough free memory, for this machine and its cgroups."""
    found = _fields(meminfo)
    total, free = found.get("MemTotal:", 0), found.get("MemAvailable:", 0)
    if total and free * FREE_PART < total:
        return False
    groups = cgroup.memberships(listing)
    trees = [(root, groups.get(""), V2), (f"{root}/memory", groups.get("memory"), V1)]
    return all(
        _is_free(f"{tree}{level}", *names)
        for tree, path, names in trees
        if path is not None
        for level in _levels(path)
    )


def _levels(path: str) -> Iterator[str]:
    """Yield a cgroup and its ancestors. Each of their limits applies."""
    path = path.rstrip("/")
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _is_free(group: str, limits: tuple[str, ...], usage: str, cache: str) -> bool:
    found = [_number(f"{group}/{name}") for name in limits]
    known = [limit for limit in found if limit is not None]
    used = _number(f"{group}/{usage}") if known else None
    if used is None:
        return True
    used -= _fields(f"{group}/memory.stat").get(cache, 0)
    limit = min(known)
    return (limit - used) * FREE_PART >= limit


def _number(path: str) -> int | None:
    """Read the number in a file. Returns None for `max` or if there is no such file."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _fields(path: str) -> dict[str, int]:
    """Read lines of a name and a number. Returns nothing if there is no such file."""
    try:
        with open(path) as file:
            lines = [line.split() for line in file]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
