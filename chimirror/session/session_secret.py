"""The secret of a session, which authorizes a client to control the session.

Only the client of the session itself receives the secret. The process keeps a hash. 128
random bits need neither a salt nor a slow hash. The secret begins with the number of
the worker that has the session, so that any worker can find it. A bridge loads this
module after its first byte of output.
"""

from __future__ import annotations

from _operator import _compare_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import blake2b
else:
    try:
        from _blake2 import blake2b  # hashlib delays a starting bridge by 4.5 ms
    except ImportError:  # this Python was built without its own hashes
        from hashlib import blake2b

SIZE = 16  # bytes of a hash


def hash_secret(secret: str) -> bytes:
    """Return the hash of a secret."""
    text = secret.encode(errors="surrogateescape")
    return blake2b(text, digest_size=SIZE).digest()


def verify_secret(secret: str, key: bytes) -> bool:
    """Return True if `key` is the hash of this secret. Takes constant time."""
    return _compare_digest(hash_secret(secret), key)


def worker_number(secret: str) -> int:
    """Return the number of the worker that made a secret, or -1 if it is malformed."""
    text = secret.partition(".")[0]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1
