"""The cgroup we are in: which units are beside us, and whether memory ran out in it.

Follows cgroups(7) and what systemd makes of it: v2; hybrid, where v2 holds the units
and v1 the controllers; v1 alone. Reads only, and knows no session.
"""

from __future__ import annotations

from chimirror.system.lean import os

ROOT = "/sys/fs/cgroup"
OURS = "/proc/self/cgroup"


class NoTemplate(Exception):
    """We are no instance of a template unit: there is nothing to count."""


class Siblings:
    """The instances of the template unit that we are one of.

    Raises:
        NoTemplate: we are none.
    """

    __slots__ = ("_parent", "_prefix")

    def __init__(self, listing: str = OURS, root: str = ROOT) -> None:
        own = _units_directory(memberships(listing), root)
        self._parent, _, name = own.rpartition("/")
        template, at, _ = name.partition("@")
        if not at:
            raise NoTemplate
        self._prefix = f"{template}@"

    def count(self) -> int:
        """How many there are at this moment, ourselves among them."""
        names = os.listdir(self._parent)
        return sum(1 for name in names if name.startswith(self._prefix))


def memory_kills(listing: str = OURS, root: str = ROOT) -> int:
    """How many processes of our cgroup the kernel has killed for want of memory.

    0 where it does not tell.
    """
    groups = memberships(listing)
    files = [f"{root}{groups.get('', '')}/memory.events"]
    if "memory" in groups:
        files.insert(0, f"{root}/memory{groups['memory']}/memory.oom_control")
    for file in files:
        try:
            with open(file, encoding="ascii") as lines:
                found = dict(line.split() for line in lines)
        except OSError:
            continue
        return int(found.get("oom_kill", 0))
    return 0


def memberships(listing: str = OURS) -> dict[str, str]:
    """Our path in each hierarchy, by controller; `` is that of v2."""
    found: dict[str, str] = {}
    try:
        with open(listing, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                for controller in controllers.split(","):
                    found[controller] = path
    except OSError:
        pass  # no proc(5): then there are no cgroups either
    return found


def _units_directory(groups: dict[str, str], root: str) -> str:
    """Where systemd keeps our unit; empty if nowhere."""
    for mount, controller in (("", ""), ("/unified", ""), ("/systemd", "name=systemd")):
        path = f"{root}{mount}{groups.get(controller, '/')}".rstrip("/")
        if controller in groups and os.access(path, os.R_OK | os.X_OK):
            return path
    return ""
