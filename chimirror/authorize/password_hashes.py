"""Hashes of passwords: bcrypt and argon2. Knows no user and no file.

Weak hashes are named and refused. No error quotes a hash.
"""

from __future__ import annotations

import re
from typing import Protocol

MAX_BCRYPT_COST = 17  # that of htpasswd(1): 10 seconds
MAX_ARGON2_MEMORY = 1 << 20  # KiB
MAX_ARGON2_TIME = 64  # passes
BCRYPT_SIZE = 72  # bytes. bcrypt knows no more of a password

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_WEAK = (
    ("$apr1$", "MD5"),
    ("$1$", "MD5"),
    ("{SHA}", "SHA-1"),
    ("{SSHA}", "SHA-1"),
    ("$5$", "SHA-256"),
    ("$6$", "SHA-512"),
)


class PasswordHash(Protocol):
    """The hash of one password."""

    def matches(self, password: str) -> bool:
        """Return True for its password. Takes as long for any other."""


class BcryptHash:
    """A hash of bcrypt, as `htpasswd -B` writes it."""

    __slots__ = ("_check", "_text")

    def __init__(self, text: str) -> None:
        from bcrypt import checkpw

        self._check = checkpw
        self._text = text.encode()

    def matches(self, password: str) -> bool:
        """Return True for its password, which counts up to BCRYPT_SIZE bytes."""
        return self._check(password.encode()[:BCRYPT_SIZE], self._text)


class Argon2Hash:
    """A hash of argon2 in the form of its reference program (RFC 9106)."""

    __slots__ = ("_mismatch", "_text", "_verify")

    def __init__(self, text: str) -> None:
        from argon2 import PasswordHasher
        from argon2.exceptions import VerifyMismatchError

        self._verify = PasswordHasher().verify
        self._mismatch = VerifyMismatchError
        self._text = text

    def matches(self, password: str) -> bool:
        """Return True for its password."""
        try:
            return self._verify(self._text, password)
        except self._mismatch:
            return False


def read(text: str) -> PasswordHash:
    """Read a hash.

    Raises:
        ValueError: It is weak, unknown, or takes too long. The text does not quote it.
    """
    if text.startswith("$2"):
        found = _BCRYPT.fullmatch(text)
        if not found:
            raise ValueError("a malformed bcrypt hash; make it again: htpasswd -B")
        if not 4 <= int(found[1]) <= MAX_BCRYPT_COST:
            raise ValueError(
                f"bcrypt of cost {found[1]}; make it again with a cost from 4 to "
                f"{MAX_BCRYPT_COST}: htpasswd -B -C 12"
            )
        return BcryptHash(text)
    if text.startswith("$argon2"):
        _check_argon2(text)
        return Argon2Hash(text)
    kind = next((kind for start, kind in _WEAK if text.startswith(start)), "")
    kind = f"a hash of {kind}" if kind else "no hash of bcrypt or argon2"
    raise ValueError(f"{kind}, which is not safe; make it again: htpasswd -B")


def _check_argon2(text: str) -> None:
    from argon2 import extract_parameters

    try:
        found = extract_parameters(text)
    except ValueError:  # InvalidHashError, which older versions call InvalidHash
        raise ValueError("a malformed argon2 hash; make it again") from None
    if found.memory_cost > MAX_ARGON2_MEMORY or found.time_cost > MAX_ARGON2_TIME:
        used = f"argon2 with {found.memory_cost} KiB and {found.time_cost} passes"
        most = f"{MAX_ARGON2_MEMORY} KiB and {MAX_ARGON2_TIME} passes"
        raise ValueError(f"{used}; make it again with at most {most}")
