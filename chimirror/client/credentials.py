"""Tokens that a client sends, and what a server asks for (RFC 6750, RFC 9110, 11).

Pure. No text here repeats a token.
"""

from __future__ import annotations

import re

from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    # A token, or a function that returns one for each connection. Only the asyncio API
    # accepts an awaitable result.
    Token = str | Callable[[], str | Awaitable[str]]

MAX_SCHEMES = 8
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
# A scheme is a word alone, or before a space. The name of a parameter is before "=".
_SCHEME = re.compile(r"\s*([\w!#$%&'*+.^`|~-]+)(?:\s+(?![\s=])|\s*\Z)", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, 2.1
_WORDS = {
    "basic": "a user and a password (Basic)",
    "bearer": "a token (Bearer)",
    "chimirror": (
        "a proxy, a certificate, a local socket or a cookie that tells who you are"
    ),
}


def authorization(token: object) -> str:
    """Return the Authorization field for a token.

    Raises:
        TypeError: It is not a str.
        ValueError: No request can have this token.
    """
    if not isinstance(token, str):
        kind = type(token).__name__
        raise TypeError(f"token: a str is needed, or a function for it, not {kind}")
    if not _TOKEN.fullmatch(token):
        text = "it has letters, digits and -._~+/ alone, and = at its end"
        raise ValueError(f"token: {text}; is there a line break after it?")
    return f"Bearer {token}"


def schemes(challenges: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the schemes in WWW-Authenticate fields, each once."""
    found: dict[str, str] = {}
    for value in challenges:
        for part in _QUOTED.sub('""', value).split(","):
            match = _SCHEME.match(part)
            if match and len(found) < MAX_SCHEMES:
                found.setdefault(match[1].lower(), match[1])
    return tuple(found.values())


def wanted(names: Sequence[str]) -> str:
    """Return what a server asks for, in words that are safe for terminals."""
    words = [_WORDS.get(name.lower(), escape_line(name, 64)) for name in names]
    return " or ".join(words)
