"""States of certificate files, by which a change of them is found. Imports no ssl."""

from __future__ import annotations

from chimirror.builtin_modules import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    FileState = tuple[int, int, int, int] | None


def file_states(paths: Iterable[str]) -> list[FileState]:
    """Return what changes with each file, None for one that is missing."""
    return [*map(_state, paths)]


def _state(path: str) -> FileState:
    """Return the state of a file.

    Its permissions change this too: a file may become readable after its content.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev
