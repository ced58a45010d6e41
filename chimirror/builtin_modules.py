"""The C modules under packages of the standard library, by the names of the packages.

The bridge starts once per connection. Importing `os`, `signal`, `socket` and
`collections` takes 2, 8, 13 and 4 ms (measured), where a bare interpreter starts in
10 ms. The C modules under them take almost no time and have all functions that this
project uses. Type checkers see the packages.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os as os
    import signal as signal
    import socket as socket
    import stat as stat
    from collections import OrderedDict as OrderedDict
    from collections import deque as deque
else:
    import _signal as signal
    import _socket as socket
    import _stat as stat
    import posix as os
    from _collections import OrderedDict, deque

__all__ = [
    "DEV_NULL",
    "OrderedDict",
    "deque",
    "environ_dict",
    "os",
    "set_environ",
    "signal",
    "socket",
    "stat",
]

DEV_NULL = "/dev/null"


def environ_dict() -> dict[str, str]:
    """Copy the environment of this process. Equals dict(os.environ)."""
    import sys

    codec, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    return {
        name.decode(codec, errors): value.decode(codec, errors)
        for name, value in _raw_environment().items()
    }


def set_environ(name: str, value: str) -> None:
    """Set a variable that later calls of environ_dict return."""
    _raw_environment()[name.encode()] = value.encode()


def _raw_environment() -> dict[bytes, bytes]:
    import posix

    raw: dict[bytes, bytes] = posix.environ
    return raw
