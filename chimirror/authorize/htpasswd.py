"""Verifies passwords with a file of USER:HASH lines, as htpasswd(1) writes it.

The time of an answer does not tell whether a user exists. For an unknown one, the
password is compared with the hash of another user, and the result is dropped. The name
decides which one. So a file with hashes of several costs tells nothing either.
"""

from __future__ import annotations

import hashlib
import os

from chimirror.access import ALLOWED, Answer, Identity, is_valid_name
from chimirror.authorize import password_hashes
from chimirror.authorize.credentials import (
    BASIC_CHALLENGE,
    login,
    unknown,
)
from chimirror.authorize.watched_file import WatchedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.authorize import LoginAttempt
    from chimirror.authorize.password_hashes import PasswordHash

    Passwords = dict[str, PasswordHash]

MAX_SIZE = 1 << 20  # bytes of a file
AUTH_TYPE = "Basic"


class HtpasswdVerifier:
    """Verifies Basic credentials.

    Args:
        path: The file.
        max_age: Seconds for which a yes holds.

    Raises:
        FileFault: The file cannot be used.
    """

    def __init__(self, path: str, max_age: float) -> None:
        self._file = WatchedFile(path, MAX_SIZE, read_passwords)
        self._max_age = max_age
        self._secret = os.urandom(16)
        self.threads = len(os.sched_getaffinity(0))  # a hash takes all of a core

    def verify(self, attempt: LoginAttempt) -> Answer:
        """Decide on one attempt."""
        found = login(attempt)
        if isinstance(found, Answer):
            return found
        user, password = found
        if self._matches(user, password):
            return Answer(ALLOWED, Identity(user, AUTH_TYPE), max_age=self._max_age)
        return unknown(BASIC_CHALLENGE, "wrong user or password")

    def _matches(self, user: str, password: str) -> bool:
        passwords = self._file.get()
        known = passwords.get(user)
        if known is not None:
            return known.matches(password)
        if passwords:
            name = hashlib.blake2b(user.encode(), key=self._secret, digest_size=8)
            others = [*passwords.values()]
            number = int.from_bytes(name.digest(), "big") % len(others)
            others[number].matches(password)
        return False


def read_passwords(data: bytes) -> Passwords:
    """Read the lines of a file: USER:HASH, blank lines, and comments after `#`.

    Raises:
        ValueError: A line has an error. The text names its number and the cure, and
            never the hash.
    """
    found: Passwords = {}
    numbers: dict[str, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            text = line.decode().strip()
            if not text or text.startswith("#"):
                continue
            user, hashed = _split(text)
            if user in numbers:
                raise ValueError(f"its user is in line {numbers[user]} too; remove one")
            found[user], numbers[user] = password_hashes.read(hashed), number
        except UnicodeDecodeError:
            raise ValueError(f"line {number}: not UTF-8; convert the file") from None
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def _split(text: str) -> tuple[str, str]:
    user, colon, rest = text.partition(":")
    if not colon:
        raise ValueError("no colon; write USER:HASH, as htpasswd -B does")
    if not is_valid_name(user):
        raise ValueError("no user that can have a name; see chimirror-authorize(1)")
    return user, rest.partition(":")[0]
