"""Verifies tokens with a file of their hashes, and makes new ones.

A token is 256 random bits. There is nothing to guess, so a slow hash would only cost
time, and SHA-256 is enough: the file does not tell a token. A line of the file:

    NAME sha256:HEX [expires=WHEN] [applications=NAME,NAME]
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from datetime import UTC, datetime
from typing import NamedTuple

from chimirror.access import ALLOWED, Answer, Identity, is_valid_name
from chimirror.authorize.credentials import (
    bad_token,
    bearer,
    forbidden,
)
from chimirror.authorize.watched_file import WatchedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.authorize import LoginAttempt

MAX_SIZE = 1 << 20  # bytes of a file
PREFIX = "cm_"  # by which people and scanners recognize a token
BYTES = 32  # random ones of a token
AUTH_TYPE = "Bearer"
_HASH = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_APPLICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_FORM = "write NAME sha256:HEX, as chimirror-authorize token does"


class Token(NamedTuple):
    """A line of a file.

    Attributes:
        digest: SHA-256 of the token.
        user: The name of its owner.
        expires: The time from which on it is refused, in seconds since the epoch. None:
            never.
        applications: The only ones that it allows. None: all.
    """

    digest: bytes
    user: str
    expires: float | None = None
    applications: tuple[str, ...] | None = None


class TokenVerifier:
    """Verifies Bearer credentials, or a cookie that holds a token.

    Args:
        path: The file.
        max_age: Seconds for which a yes holds.
        cookie: The name of the cookie, "" for none.
        clock: Returns the time, in seconds since the epoch.

    Raises:
        FileFault: The file cannot be used.
    """

    threads = 2

    def __init__(
        self,
        path: str,
        max_age: float,
        cookie: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = WatchedFile(path, MAX_SIZE, read_tokens)
        self._max_age = max_age
        self._cookie = cookie
        self._clock = clock

    def verify(self, attempt: LoginAttempt) -> Answer:
        """Decide on one attempt."""
        text = bearer(attempt, self._cookie)
        if isinstance(text, Answer):
            return text
        found = find(self._file.get(), text)
        if found is None:
            return bad_token("this token is not known")
        left = self._max_age
        if found.expires is not None:
            left = min(left, found.expires - self._clock())
            if found.expires <= self._clock():
                return bad_token("this token has expired")
        names = found.applications
        # "": the list of applications, which shows those of the answer alone.
        if names is not None and attempt.application not in (*names, ""):
            return forbidden(_refusal(attempt.application))
        identity = Identity(found.user, AUTH_TYPE, applications=names)
        return Answer(ALLOWED, identity, max_age=left)


def _refusal(application: str | None) -> str:
    text = "this token does not allow"
    if application is not None:
        return f"{text} this application"
    return f"{text} all applications, and the question names none"


def find(tokens: Sequence[Token], text: str) -> Token | None:
    """Return the token with this text.

    Looks at all of them, in the same time. A client cannot choose the bytes of a
    digest, so this is a second guard, of 0.2 µs for each token.
    """
    digest = hashlib.sha256(text.encode()).digest()
    found = None
    for each in tokens:
        if hmac.compare_digest(each.digest, digest):
            found = each
    return found


def read_tokens(data: bytes) -> list[Token]:
    """Read the lines of a file: tokens, blank lines, and comments after `#`.

    Raises:
        ValueError: A line has an error. The text names its number and the cure, and
            never the hash.
    """
    found: list[Token] = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            words = line.decode().split()
            if words and not words[0].startswith("#"):
                found.append(_read_line(words))
        except UnicodeDecodeError:
            raise ValueError(f"line {number}: not UTF-8; convert the file") from None
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def _read_line(words: list[str]) -> Token:
    user, hashed, *rest = [*words, ""][:2] + words[2:]
    digest = _HASH.fullmatch(hashed)
    if not digest:
        raise ValueError(f"no hash of a token after the name; {_FORM}")
    if not is_valid_name(user):
        raise ValueError("no user that can have a name; see chimirror-authorize(1)")
    fields: dict[str, str] = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if key not in ("expires", "applications") or not equals or key in fields:
            raise ValueError(
                "write one expires=WHEN and one applications=NAME,NAME at most"
            )
        fields[key] = value
    expires = fields.get("expires")
    names = fields.get("applications")
    return Token(
        bytes.fromhex(digest[1]),
        user,
        None if expires is None else parse_time(expires),
        None if names is None else parse_applications(names.split(",")),
    )


def parse_time(text: str) -> float:
    """Read a date, or a date and a time, of UTC unless it says otherwise (ISO 8601).

    Raises:
        ValueError: It is neither.
    """
    try:
        if text.split() != [text]:  # as one word of a line
            raise ValueError
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f'"{text[:40]}" is no time; write 2027-01-31 or 2027-01-31T18:00Z'
        ) from None


def parse_applications(names: Sequence[str]) -> tuple[str, ...]:
    """Check the names of applications.

    Raises:
        ValueError: One of them is no name.
    """
    for name in names:
        if not _APPLICATION.fullmatch(name):
            raise ValueError(
                f'"{name[:64]}" is no application; write a name such as shell'
            )
    return tuple(names)


def make_token(
    user: str, expires: str | None, applications: Sequence[str]
) -> tuple[str, str]:
    """Make a new token.

    Returns:
        The token, and the line of the file for it.

    Raises:
        ValueError: The line would have an error.
    """
    text = PREFIX + secrets.token_urlsafe(BYTES)
    words = [user, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"]
    if expires is not None:
        words.append(f"expires={expires}")
    if applications:
        names = ",".join(parse_applications(applications))
        words.append(f"applications={names}")
    if len(user.split()) != 1 or user.startswith("#"):
        raise ValueError(f'"{user}" cannot have a token; write a NAME without spaces')
    made = _read_line(words)
    if made.expires is not None and made.expires <= time.time():
        raise ValueError(f"{expires} has passed; write a later time")
    return text, " ".join(words)


def append(path: str, line: str) -> None:
    """Append a line to a file, which is made for its owner alone if it is missing.

    Raises:
        OSError: It cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    fd = os.open(path, flags, 0o600)
    try:
        size = os.fstat(fd).st_size
        is_open = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, (b"\n" if is_open else b"") + line.encode() + b"\n")
    finally:
        os.close(fd)
