"""The files of a program, and a signature that changes with them.

The files are the program, found as execvp(3) searches PATH, and each argument that
names a regular file: in `python3 game.py` both. Files that these load are not known.
Reads file attributes only.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from chimirror.process.user_program import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.process.spawner import Program

    Signature = tuple[tuple[int, ...], ...]


class ProgramFiles:
    """The files of one program as they are now.

    Args:
        program: the program.
        path: the PATH of the process that starts it, or None.
    """

    __slots__ = ("_paths", "signature")

    def __init__(self, program: Program, path: str | None) -> None:
        directory = program.directory or "."
        name, *arguments = program.argv
        self._paths = [os.path.join(directory, name)]
        if "/" not in name:
            parts = (DEFAULT_PATH if path is None else path).split(":")
            found = (os.path.join(directory, part or ".", name) for part in parts)
            self._paths = [next(filter(os.path.isfile, found), name)]
        self._paths += [os.path.join(directory, each) for each in arguments]
        self._paths = [each for each in self._paths if _stat(each)]
        self.signature = self._read()

    def _read(self) -> Signature:
        return tuple([_stat(path) for path in self._paths])

    def have_changed(self) -> bool:
        """Return True if one of the files has changed since."""
        return self._read() != self.signature


def _stat(path: str) -> tuple[int, ...]:
    """Return attributes that change with a file, or nothing for no regular file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    if not S_ISREG(found.st_mode):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
