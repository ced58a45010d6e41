"""The cgroup of this process: instances of its unit, and OOM kills.

Follows cgroups(7) and its use by systemd: v2, hybrid (v2 holds the units and v1 the
controllers), or v1 alone. Reads only, and knows no session.
"""

from __future__ import annotations

from chimirror.builtin_modules import os

ROOT = "/sys/fs/cgroup"
SELF_CGROUP = "/proc/self/cgroup"
EVENTS_SIZE = 256  # bytes: more than the content of a file that counts events


class NotATemplateUnit(Exception):
    """This process is no instance of a template unit, so there is nothing to count."""


class TemplateInstances:
    """The running instances of this process's template unit.

    Raises:
        NotATemplateUnit: This process is no instance of a template unit.
    """

    __slots__ = ("_parent", "_prefix")

    def __init__(self, listing: str = SELF_CGROUP, root: str = ROOT) -> None:
        own = _units_directory(memberships(listing), root)
        self._parent, _, name = own.rpartition("/")
        template, at, _ = name.partition("@")
        if not at:
            raise NotATemplateUnit
        self._prefix = f"{template}@"

    @property
    def template(self) -> bytes:
        """Slice and name of the template."""
        return f"{self._parent}/{self._prefix}".encode("utf-8", "surrogateescape")

    def count(self) -> int:
        """Return the number of instances, this one included."""
        names = os.listdir(self._parent)
        return sum(1 for name in names if name.startswith(self._prefix))


def oom_kills(listing: str = SELF_CGROUP, root: str = ROOT) -> int:
    """Return how many processes of this cgroup the kernel has killed for memory.

    Returns 0 if the kernel does not report it.
    """
    groups = memberships(listing)
    files = [f"{root}{groups.get('', '')}/memory.events"]
    if "memory" in groups:
        files.insert(0, f"{root}/memory{groups['memory']}/memory.oom_control")
    for file in files:
        try:
            return read_oom_kills(file)
        except OSError:
            continue
    return 0


def read_oom_kills(path: str) -> int:
    """Return the OOM kills that `memory.events` or, in v1, `memory.oom_control` counts.

    Raises:
        OSError: There is no such file, or no descriptor is left.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        events = dict(line.split() for line in os.read(fd, EVENTS_SIZE).splitlines())
    finally:
        os.close(fd)
    return int(events.get(b"oom_kill", 0))


def memberships(listing: str = SELF_CGROUP) -> dict[str, str]:
    """Return the path of this process in each hierarchy, by controller.

    The controller of v2 is the empty string.
    """
    paths: dict[str, str] = {}
    try:
        with open(listing, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                for controller in controllers.split(","):
                    paths[controller] = path
    except OSError:
        pass  # no proc(5), so there are no cgroups either
    return paths


def _units_directory(groups: dict[str, str], root: str) -> str:
    """Return the directory of this unit in the cgroup tree, or the empty string."""
    for mount, controller in (("", ""), ("/unified", ""), ("/systemd", "name=systemd")):
        path = f"{root}{mount}{groups.get(controller, '/')}".rstrip("/")
        if controller in groups and os.access(path, os.R_OK | os.X_OK):
            return path
    return ""
