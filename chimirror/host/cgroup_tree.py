"""The cgroups of a server: one leaf for its processes, one group for each worker.

They are made below the cgroup in which the server was started: a unit with
`Delegate=yes`, or any group that this process can write. A process cannot leave the
group of its session by clearing its environment or by setsid(2). Follows cgroups(7),
version 2 with cgroup.kill (Linux 5.14), also beside version 1 (hybrid). Knows no
session and no loop.
"""

from __future__ import annotations

from errno import EBUSY, ENOENT

from chimirror.builtin_modules import os
from chimirror.host.cgroup import EVENTS_SIZE, ROOT, SELF_CGROUP, memberships

PREFIX = "chimirror-"  # of the group of a server, before its pid
LEAF = "server"  # has the processes of the server
FILE_SIZE = 4096  # bytes: more than that of the files that are read otherwise
WORKER_PREFIX = "worker-"  # of the group of a worker, before its pid
_CURE = "run it as root or in a unit with Delegate=yes"
_CURE_OF_CONTROLLERS = (
    "run it in a unit with Delegate=yes, where cgroup v2 has the controllers"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class CgroupError(Exception):
    """Sessions cannot have cgroups. The text says why, and what helps."""


def find_base(listing: str = SELF_CGROUP, root: str = ROOT) -> str:
    """Return the directory of the cgroup of this process, in version 2.

    Raises:
        CgroupError: There is none.
    """
    own = memberships(listing).get("")
    if own is not None:
        for mount in (root, f"{root}/unified"):
            path = f"{mount}{own}".rstrip("/")
            if os.access(f"{path}/cgroup.controllers", os.F_OK):
                return path
    raise CgroupError(f"cgroup v2 is not mounted below {root}; {_CURE}")


def is_unit(base: str) -> bool:
    """Return True if a cgroup is that of a service of systemd."""
    return base.endswith(".service")


def find_obstacle(base: str) -> str:
    """Return why no groups can be made below a cgroup, with a cure. Changes nothing."""
    for path in (base, f"{base}/cgroup.procs"):
        if not os.access(path, os.W_OK):
            return f"{path} is not writable; {_CURE}"
    return ""


def is_populated(path: str) -> bool:
    """Return True if a group, or a group below it, has a process.

    Raises:
        OSError: There is no such group, or no descriptor is left.
    """
    fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return has_process(os.read(fd, EVENTS_SIZE))
    finally:
        os.close(fd)


def has_process(events: bytes) -> bool:
    """Return whether the content of cgroup.events tells of a process."""
    return b"populated 1" in events


def kill(path: str) -> None:
    """Kill all processes of a group and of those below it. None escapes by fork(2).

    Raises:
        OSError: There is no such group, or no descriptor is left.
    """
    _write(f"{path}/cgroup.kill", b"1")


def make(path: str) -> None:
    """Make a group, without pressure stall information, which costs at each switch.

    Raises:
        OSError: The group cannot be made.
    """
    os.mkdir(path)
    try:
        _write(f"{path}/cgroup.pressure", b"0")
    except OSError:
        pass  # a kernel without it


def controllers_of(files: Iterable[str]) -> list[str]:
    """Return the controllers of some files of a group, by which their names begin."""
    return sorted({name.partition(".")[0] for name in files})


def enable(path: str, controller: str) -> None:
    """Enable a controller for the groups below a group.

    Raises:
        CgroupError: It is missing, or cannot be enabled.
    """
    try:
        available = _read(f"{path}/cgroup.controllers").split()
        enabled = _read(f"{path}/cgroup.subtree_control").split()
    except OSError as error:
        raise CgroupError(f"{path}: {error.strerror}") from None
    if controller not in available:
        text = f"{path} has no controller {controller} of cgroup v2"
        raise CgroupError(f"{text}; {_CURE_OF_CONTROLLERS}")
    if controller not in enabled:
        try:
            _write(f"{path}/cgroup.subtree_control", f"+{controller}".encode())
        except OSError as error:
            text = f"{path}/cgroup.subtree_control: {error.strerror}"
            raise CgroupError(f"{text}; {_CURE_OF_CONTROLLERS}") from None


def set_limits(path: str, limits: Mapping[str, str]) -> None:
    """Set limits of a group: the text of each file.

    Raises:
        OSError: A file does not exist, because its controller is not enabled.
    """
    for name, text in limits.items():
        _write(f"{path}/{name}", text.encode())


def remove(path: str) -> bool:
    """Kill all processes of a group, and remove it with the groups below.

    Returns:
        True if it does not exist any more. Killed processes take a moment to end.
    """
    try:
        kill(path)
        _remove_groups(path)
    except OSError as error:
        return error.errno == ENOENT
    return True


def _remove_groups(path: str) -> None:
    with os.scandir(path) as entries:
        below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for group in below:
        _remove_groups(group)
    os.rmdir(path)


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, FILE_SIZE).decode()
    finally:
        os.close(fd)


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


class CgroupTree:
    """The groups of one server. Its first process creates and removes them.

    Args:
        base: the group in which that process was started.
        pid: its process id.
        guardian: its parent, if that is the guardian. It shares the leaf: a group with
            processes cannot enable controllers for the groups below it.

    Attributes:
        path: the group of the server.
    """

    def __init__(self, base: str, pid: int, guardian: int = 0) -> None:
        self._base = base
        self._pid = pid
        self._guardian = guardian
        self.path = f"{base}/{PREFIX}{pid}"

    def leftovers(self) -> list[str]:
        """Return the groups of servers that do not run any more."""
        try:
            names = os.listdir(self._base)
        except OSError:
            return []
        paths = [f"{self._base}/{name}" for name in names if name.startswith(PREFIX)]
        return [path for path in paths if self._is_left(path)]

    def _is_left(self, path: str) -> bool:
        number = path.rpartition("-")[2]
        if not number.isdigit():
            return False
        if int(number) != self._pid and _is_running(int(number)):
            return False
        try:
            return not is_populated(f"{path}/{LEAF}")
        except OSError as error:
            return error.errno == ENOENT  # killed while it was made

    def create(self) -> None:
        """Create the groups of the server, and move its processes into the leaf.

        Raises:
            CgroupError: That is not possible. Nothing has changed.
        """
        remove(self.path)  # of a server that had the same pid
        leaf = f"{self.path}/{LEAF}"
        try:
            make(self.path)
            make(leaf)
            if not os.access(f"{leaf}/cgroup.kill", os.W_OK):
                raise CgroupError(
                    "cgroup.kill is missing (Linux 5.14); write --session-cgroup off"
                )
            self._move_to(leaf)
        except (OSError, CgroupError) as error:
            self.close()
            if isinstance(error, CgroupError):
                raise
            text = f"{self.path}: {error.strerror}"
            raise CgroupError(f"{text}; {_CURE}") from None

    def enable(self, controller: str) -> None:
        """Enable a controller for the groups of the workers. Called after `create`.

        Raises:
            CgroupError: It is missing, or cannot be enabled.
        """
        for path in (self._base, self.path):
            enable(path, controller)

    def worker_path(self, pid: int) -> str:
        """Return the group of a worker, which has the groups of its sessions."""
        return f"{self.path}/{WORKER_PREFIX}{pid}"

    def worker_paths(self) -> list[str]:
        """Return the groups of all workers that exist."""
        try:
            names = os.listdir(self.path)
        except OSError:
            return []
        return [
            f"{self.path}/{name}" for name in names if name.startswith(WORKER_PREFIX)
        ]

    def close(self) -> None:
        """Move the processes back, and remove the groups.

        If that fails, systemd removes them with the unit, or the next server does.
        """
        for path in self.worker_paths():
            remove(path)
        try:
            self._leave()
        except OSError:
            return
        remove(self.path)

    def _leave(self) -> None:
        """Move the processes back. A group with processes enables no controllers."""
        try:
            self._move_to(self._base)
        except OSError as error:
            if error.errno != EBUSY:
                raise
            for path in (self.path, self._base):
                _disable_all(path)
            self._move_to(self._base)

    def _move_to(self, path: str) -> None:
        """Move this process, and the guardian unless that has ended."""
        pids = [0]
        if self._guardian and os.getppid() == self._guardian:
            pids.append(self._guardian)
        for pid in pids:
            _write(f"{path}/cgroup.procs", str(pid).encode())


def _disable_all(path: str) -> None:
    names = _read(f"{path}/cgroup.subtree_control").split()
    text = " ".join(f"-{name}" for name in names)
    _write(f"{path}/cgroup.subtree_control", text.encode())


def _is_running(pid: int) -> bool:
    """Return True for a process that has not ended, which a zombie has (proc(5)).

    The first process of a machine or container may take a second to reap it.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return not file.read().rpartition(b")")[2].startswith(b" Z")
    except (FileNotFoundError, ProcessLookupError):
        return True  # hidden by an option of proc(5), or it ends just now
