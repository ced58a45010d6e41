"""Names of services and of their files. Pure.

In the directory of a server, the service NAME has these files:

- NAME.in: FIFO from the target to the server.
- NAME.out: FIFO from the server to the target.
- NAME.memory: socket for descriptors of shared memory, of this library alone.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "CHIMIRROR_SERVICES"
INPUT, OUTPUT, MEMORY = ".in", ".out", ".memory"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def check_name(name: str) -> str:
    """Return the name of a service.

    Raises:
        ValueError: It is no such name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r:.100} is no name of a service:"
            " write 1 to 64 letters, digits, _ and -"
        )
    return name


def services_of(files: Iterable[str]) -> list[str]:
    """Return the names of the services that have these files, sorted."""
    found = {
        name for name, dot, end in map(_split, files) if dot + end in (INPUT, OUTPUT)
    }
    return sorted(found)


def _split(file: str) -> tuple[str, str, str]:
    return file.rpartition(".")
