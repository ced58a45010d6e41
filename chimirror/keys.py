"""The secret of a session: who has it may steer the session.

It is told once, to the client of the session itself, and kept as a hash: 128 random
bits need neither salt nor a slow one. It begins with the number of the worker that has
the session, so that whoever is given it knows whom to ask. A bridge loads this after
its first byte.
"""

from __future__ import annotations

from _operator import _compare_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import blake2b
else:
    try:
        from _blake2 import blake2b  # hashlib costs a starting bridge 4.5 ms
    except ImportError:  # a Python built without its own hashes
        from hashlib import blake2b

SIZE = 16  # bytes of a hash


def seal(secret: str) -> bytes:
    """What to keep of a secret."""
    text = secret.encode(errors="surrogateescape")
    return blake2b(text, digest_size=SIZE).digest()


def matches(secret: str, key: bytes) -> bool:
    """Whether this is the secret of which `key` was kept; takes as long if not."""
    return _compare_digest(seal(secret), key)


def number(secret: str) -> int:
    """The number of the worker that made a secret; -1 if it is none."""
    text = secret.partition(".")[0]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1
