"""The C modules under the standard library's packages, by the packages' names.

The bridge starts once per connection, and `os`, `signal`, `socket` and `collections`
cost it 2, 8, 13 and 4 ms (measured; a bare interpreter starts in 10). The C modules
under them cost next to nothing and have all that we use. Type checkers see the
packages.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os as os
    import signal as signal
    import socket as socket
    import stat as stat
    from collections import deque as deque
else:
    import _signal as signal
    import _socket as socket
    import _stat as stat
    import posix as os
    from _collections import deque

__all__ = [
    "DEV_NULL",
    "deque",
    "environment",
    "os",
    "set_variable",
    "signal",
    "socket",
    "stat",
]

DEV_NULL = "/dev/null"


def environment() -> dict[str, str]:
    """Our environment, as os.environ shows it."""
    import sys

    codec, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    return {
        name.decode(codec, errors): value.decode(codec, errors)
        for name, value in _raw_environment().items()
    }


def set_variable(name: str, value: str) -> None:
    """What environment() shows from now on."""
    _raw_environment()[name.encode()] = value.encode()


def _raw_environment() -> dict[bytes, bytes]:
    import posix

    raw: dict[bytes, bytes] = posix.environ
    return raw
