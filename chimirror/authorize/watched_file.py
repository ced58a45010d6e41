"""A file that is read again when it has changed. Knows nothing of its content.

A version with an error is reported once, and the last good one stays in use. So an
editor, or a program that writes the file in place, locks nobody out.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Generic, TypeVar

from chimirror import regular_file
from chimirror.authorize.messages import FileFault, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Signature = tuple[int, int, int, int]

Content = TypeVar("Content")
# Nanoseconds. Two changes of a file within one tick have the same time.
CLOCK_TICK = 50_000_000
MISSING = (0, 0, 0, 0)


class WatchedFile(Generic[Content]):
    """A file, and its parsed content.

    Args:
        path: The file.
        limit: Its largest size, in bytes.
        parse: Reads the content. Raises ValueError with the line and the cure.

    Raises:
        FileFault: The file cannot be used, and there is no earlier version.
    """

    def __init__(
        self, path: str, limit: int, parse: Callable[[bytes], Content]
    ) -> None:
        self._path = path
        self._limit = limit
        self._parse = parse
        self._lock = threading.Lock()
        self._signature: Signature | None = None
        self._reported = ""
        self._content = self._read()

    def get(self) -> Content:
        """Return the content of the newest version without an error."""
        if self._current() != self._signature:
            with self._lock:
                if self._current() != self._signature:
                    self._update()
        return self._content

    def _current(self) -> Signature:
        try:
            return signature(os.stat(self._path))
        except OSError:
            return MISSING

    def _update(self) -> None:
        try:
            self._content = self._read()
        except FileFault as fault:
            if self._reported != str(fault):
                self._reported = str(fault)
                warn(f"{fault}; its last good version stays in use")
        else:
            if self._reported:
                warn(f"{self._path}: is good again, and in use")
            self._reported = ""

    def _read(self) -> Content:
        self._signature = None
        now = time.time_ns()
        try:
            data, status = regular_file.read(self._path, self._limit)
            if status.st_ctime_ns <= now - CLOCK_TICK:
                self._signature = signature(status)
            return self._parse(data)
        except OSError as error:
            raise FileFault(f"{self._path}: {error.strerror}") from None
        except ValueError as error:
            raise FileFault(f"{self._path}: {error}") from None


def signature(status: os.stat_result) -> Signature:
    """Return what changes with each version of a file."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
