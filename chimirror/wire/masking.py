"""The mask of RFC 6455, section 5.3, taken off a payload, and nothing else.

Knows no frame.  Two ways: big integers, which need no import, and the C function of
the websockets library, which is faster at every size but has to be loaded first
(0.5 ms).  Its package stays out: importing it takes 60 ms, so the one extension
module is loaded from its file.
"""

from __future__ import annotations

import _frozen_importlib
import _frozen_importlib_external
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Bytes = bytes | bytearray | memoryview
    Unmask = Callable[[Bytes, Bytes], bytes]

# Where big integers have cost about as much as loading the C function does, counting
# in bytes: a call costs what 128 bytes do.
_BUDGET = 65536
_CALL = 128
# Below this, making the four tables of `by_stripes` costs more than big integers do.
_FEW = 1024

_ALL_BYTES = bytes(range(256))
_spent = 0


def by_integers(payload: Bytes, mask: Bytes) -> bytes:
    """Unmasks by one exclusive-or of big integers: best for a few bytes."""
    size = len(payload)
    key = (bytes(mask) * (size // 4 + 1))[:size]
    bits = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return bits.to_bytes(size, "little")


def by_stripes(payload: Bytes, mask: Bytes) -> bytes:
    """Unmasks every fourth byte at once by a table; the stand-in for the C function.

    Big integers need 6 ms for a megabyte, in several passes of allocation;
    `bytes.translate` is one tight loop per stripe, 2 ms in all.
    """
    if len(payload) < _FEW:
        return by_integers(payload, mask)
    out = bytearray(payload)
    for stripe in range(4):
        table = by_integers(_ALL_BYTES, bytes(mask[stripe : stripe + 1]) * 4)
        out[stripe::4] = out[stripe::4].translate(table)
    return bytes(out)


def native(path: list[str]) -> Unmask:
    """Loads the C function from the first directory of `path` that has it.

    Returns:
        `websockets.speedups.apply_mask`, or `by_stripes` where it is not to be had
        (a pure Python build of websockets, a Python without shared libraries).
    """
    spec = _frozen_importlib_external.PathFinder.find_spec(
        "speedups", [f"{entry}/websockets" for entry in path]
    )
    if spec is None or spec.loader is None:
        return by_stripes
    try:
        module = _frozen_importlib.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return by_stripes
    apply_mask: Unmask = getattr(module, "apply_mask", by_stripes)
    return apply_mask


def prepare() -> None:
    """Loads the C function at once: for a server, which will need it."""
    global unmask
    unmask = native(sys.path)


def _at_first(payload: Bytes, mask: Bytes) -> bytes:
    """Uses big integers until loading the C function would have been cheaper."""
    global _spent
    _spent += _CALL + len(payload)
    if _spent <= _BUDGET:
        return by_integers(payload, mask)
    if unmask is _at_first:  # and not just in the hands of one who is in a loop
        prepare()
    return unmask(payload, mask)


# Always call it as `masking.unmask`: it is replaced when the C function is loaded.
unmask: Unmask = _at_first
