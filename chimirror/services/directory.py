"""The private directory of a server, with the FIFOs of its services.

It lies in XDG_RUNTIME_DIR, or else where temporary files do. A lock (flock(2)) on it
shows that its server lives. A new server removes the directories of dead ones: their
guards could not, if they were killed as well. Follows mkfifo(3), mknod(2), flock(2).
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from functools import partial

from chimirror.services.memory import MemorySocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "chimirror-services-"
START_TIME = 60.0  # seconds, far longer than a start
MAX_LOOKS = 32  # directories of other servers that a start looks at, about
_SHARED = "/tmp"  # noqa: S108 the names in it are random, their mode is 0700
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIFO = os.O_NONBLOCK | os.O_CLOEXEC


class ServiceDirectory:
    """The directory of one server, which exists from `create` to `remove`.

    Attributes:
        path: Absolute path.
    """

    def __init__(self) -> None:
        base = _base_directory()
        _remove_dead(base)
        # Unknown until then, so that nothing else can have this name.
        self.path = os.path.join(base, PREFIX + os.urandom(8).hex())
        self._fd = -1

    def create(self) -> None:
        """Make the directory. Its guard already runs."""
        os.mkdir(self.path, 0o700)
        try:
            self._fd = os.open(self.path, _OPEN)
        except OSError:  # no free descriptor
            os.rmdir(self.path)
            raise
        _lock(self._fd)

    def create_fifo(self, file: str) -> None:
        """Create a FIFO in the directory."""
        os.mkfifo(file, 0o600, dir_fd=self._fd)

    def open_fifo(self, file: str, flags: int) -> int:
        """Open a FIFO without waiting for its other end."""
        return os.open(file, flags | _FIFO, dir_fd=self._fd)

    def retirement(self, file: str) -> Callable[[], None]:
        """Return the function that ends the use of a FIFO by name."""
        return partial(self._retire, file)

    def _retire(self, file: str) -> None:
        """Let each later open of a FIFO fail at once.

        A shell would create a regular file in its place, and would wait for ever at a
        FIFO without another end. A socket can be opened by neither.
        """
        if self._fd < 0:
            return
        temporary = f".{file}"
        try:
            os.mknod(temporary, stat.S_IFSOCK | 0o600, dir_fd=self._fd)
            os.rename(temporary, file, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            pass  # the target has removed the directory or a part of it

    def listen(self, name: str) -> MemorySocket:
        """Create the socket of a service for descriptors."""
        return MemorySocket.listen(self._fd, name)

    def remove(self) -> None:
        """Remove the directory. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            _remove(self.path)


def _base_directory() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.access(runtime, os.W_OK | os.X_OK):
        return runtime
    return os.path.abspath(os.environ.get("TMPDIR") or _SHARED)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_dead(base: str) -> None:
    """Remove directories of servers that were killed together with their guard.

    Looks at a part of many directories, so that no start takes long.
    """
    names = [name for name in os.listdir(base) if name.startswith(PREFIX)]
    step = len(names) // MAX_LOOKS + 1
    for name in names[os.getpid() % step :: step]:
        path = os.path.join(base, name)
        try:
            fd = os.open(path, _OPEN)
        except OSError:
            continue  # of another user, or gone
        if _is_used(fd) and _lock(fd):
            _remove(path)
        os.close(fd)


def _is_used(fd: int) -> bool:
    """Return whether a server of this user has already locked its directory."""
    found = os.fstat(fd)
    is_old = time.time() - found.st_mtime > START_TIME
    return found.st_uid == os.geteuid() and (is_old or bool(os.listdir(fd)))


def _remove(path: str) -> None:
    """Remove a directory with its files. Needs one free descriptor."""
    try:
        for name in os.listdir(path):
            file = os.path.join(path, name)
            try:
                os.unlink(file)
            except FileNotFoundError:
                pass  # another server removes the same directory
            except IsADirectoryError:  # made by the target
                from shutil import rmtree  # takes 5 ms, and few targets do that

                rmtree(file, ignore_errors=True)
        os.rmdir(path)
    except OSError:
        pass  # likewise
