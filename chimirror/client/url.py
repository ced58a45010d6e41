"""Where to connect to: ws://, wss:// and ws+unix: URLs.

Knows nothing of sockets. ws and wss are RFC 6455, section 3; ws+unix has no RFC:
we follow the form that other clients use, `ws+unix:SOCKET[:/PATH[?QUERY]]`, where
SOCKET is a path on this machine, percent-encoded (a colon before a slash in it is
written %3A).
"""

from __future__ import annotations

import urllib.parse

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from .errors import InvalidURL
from .texts import safe

UNIX_PATH_MAX = 107  # bytes, unix(7); the 108th is the terminating zero


class Target:
    """A parsed URL.

    Attributes:
        uri: what the handshake is made from; for a Unix socket, ws://localhost.
        unix: path of the Unix socket, None for TCP.
    """

    __slots__ = ("uri", "unix")

    def __init__(self, uri: WebSocketURI, unix: str | None = None) -> None:
        self.uri = uri
        self.unix = unix

    def __str__(self) -> str:
        """The place in words, without the user name and password of a URL."""
        if self.unix is not None:
            return safe(self.unix)
        return f"{safe(self.uri.host)} port {self.uri.port}"


def parse(url: str) -> Target:
    """Parse a URL of any of the three kinds.

    Raises:
        InvalidURL: it is none of them; the text says what one looks like.
    """
    # urllib drops line breaks and tabs silently, and a space would end the target.
    if any(c.isspace() or ord(c) < 32 or ord(c) == 127 for c in url):
        raise _wrong(url, "white space and control characters must be written %XX")
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme == "ws+unix" and colon:
        return _unix(url, rest)
    if scheme in ("http", "https"):
        better = "ws" + url[4:]
        raise _wrong(url, f"a session is at a WebSocket URL: {safe(_hidden(better))}")
    if scheme not in ("ws", "wss") or not rest.startswith("//"):
        raise _wrong(url, "it must begin with ws://, wss:// or ws+unix:")
    try:
        return Target(parse_uri(url))
    except InvalidURI as error:
        raise _wrong(url, error.msg) from None
    except (ValueError, UnicodeError) as error:
        raise _wrong(url, str(error)) from None


def _unix(url: str, rest: str) -> Target:
    if rest.startswith("//"):  # ws+unix:///run/x.sock: an empty authority
        rest = rest[2:]
        if not rest.startswith("/"):
            raise _wrong(url, "a Unix socket has no host: ws+unix:/run/x.sock")
    socket, colon, resource = rest.partition(":/")
    path, _, query = (colon[1:] + resource).partition("?")
    unix = urllib.parse.unquote(socket, errors="surrogateescape")
    length = len(unix.encode("utf-8", "surrogateescape"))
    if not unix or "\0" in unix or "?" in socket or "#" in rest:
        raise _wrong(url, "the form is ws+unix:SOCKET[:/PATH[?QUERY]]")
    if length > UNIX_PATH_MAX:
        raise _wrong(url, f"a socket's path has at most {UNIX_PATH_MAX} bytes")
    if not (path + query).isascii():
        raise _wrong(url, "what follows the socket must be percent-encoded")
    return Target(WebSocketURI(False, "localhost", 80, path, query), unix)


def _wrong(url: str, why: str) -> InvalidURL:
    return InvalidURL(f"cannot use the URL {safe(_hidden(url), 256)}: {safe(why)}")


def _hidden(url: str) -> str:
    """The URL without its password, for an error text."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return f"{scheme}{slashes}...@{tail}" if at and slashes else url
