"""prctl(2) without the ctypes package, whose import costs 8 ms and this 2 ms."""

from __future__ import annotations

import sys

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Adopt orphaned descendants (Linux); False where the system has no such thing."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(dumpable: bool) -> bool:
    """Whether processes of our own uid may look into us; False if that was not set."""
    return _prctl(PR_SET_DUMPABLE, int(dumpable))


def set_name(name: bytes) -> bool:
    """What ps(1) calls us, up to 15 bytes; False if that was not set."""
    return _prctl(PR_SET_NAME, name)


def _prctl(option: int, argument: int | bytes) -> bool:
    if sys.platform != "linux":
        return False
    try:
        import _ctypes
    except ImportError:  # a Python that was built without libffi
        return False
    ourselves = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # dlopen(3): NULL
    function = _ctypes.dlsym(ourselves, "prctl")
    status = _ctypes.call_function(function, (option, argument, 0, 0, 0))
    return bool(status == 0)
