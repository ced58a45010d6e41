"""Reports when the target opens a FIFO for reading. Follows inotify(7).

A user has few instances of inotify, 128 by default. So one exists only while a FIFO is
unopened, and without a free one the FIFOs are tried at intervals. A FIFO that is opened
and closed between two tries then counts as unopened: a send that fills it waits until
the target ends.
"""

from __future__ import annotations

import ctypes
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRY_INTERVAL = 0.05  # seconds
IN_OPEN = 0x20
IN_ONESHOT = 0x80000000
_EVENT = 16  # bytes, for a file that is not a directory


class OpenWatch:
    """A set of files, each of which is reported once.

    Args:
        directory: of the files.
        files: by name, with a function that tries whether the file has been opened.
    """

    def __init__(self, directory: str, files: Mapping[str, Callable[[], bool]]) -> None:
        self._untold = dict(files)
        self._watches: dict[int, str] = {}
        self._fd = -1
        if files:
            try:
                self._open(directory)
            except OSError:
                self._close_fd()

    def _open(self, directory: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _check(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        mask = ctypes.c_uint32(IN_OPEN | IN_ONESHOT)
        for file in self._untold:
            path = os.fsencode(os.path.join(directory, file))
            watch = _check(libc.inotify_add_watch(self._fd, path, mask))
            self._watches[watch] = file

    def events(self) -> dict[int, int]:
        """Return the events of poll(2) after which files may have been opened."""
        return {} if self._fd < 0 else {self._fd: select.POLLIN}

    @property
    def deadline(self) -> float | None:
        """The time of the next try, on time.monotonic. None if events report all."""
        if self._fd >= 0 or not self._untold:
            return None
        return time.monotonic() + TRY_INTERVAL

    def opened(self, ready: Mapping[int, int]) -> list[str]:
        """Return the files that were opened.

        Args:
            ready: events that have occurred. Without any, it looks for them.
        """
        if self._fd < 0:
            found = [file for file, try_file in self._untold.items() if try_file()]
        elif ready and self._fd not in ready:
            return []
        else:
            found = [self._watches[watch] for watch in self._read()]
        for file in found:
            self._untold.pop(file, None)
        if not self._untold:
            self._close_fd()
        return found

    def _read(self) -> set[int]:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return set()
        places = range(0, len(data), _EVENT)
        found = {int.from_bytes(data[at : at + 4], "little") for at in places}
        return {watch for watch in found if self._watches.get(watch) in self._untold}

    def close(self) -> None:
        """Report nothing more."""
        self._untold.clear()
        self._close_fd()

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
