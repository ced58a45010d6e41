"""Parses URLs of sessions: ws://, wss:// and ws+unix:.

Knows nothing of sockets. ws and wss follow RFC 6455, section 3. ws+unix has no RFC and
has the form that other clients use: `ws+unix:SOCKET[:/PATH[?QUERY]]`. SOCKET is a
percent-encoded path on this machine, in which a colon before a slash is written %3A.
"""

from __future__ import annotations

import urllib.parse

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from chimirror.client.errors import InvalidURL
from chimirror.text import escape_line

MAX_UNIX_PATH = 107  # bytes, unix(7), without the terminating zero byte


class Target:
    """A parsed URL.

    Attributes:
        uri: Parsed URL for the handshake. For a Unix socket, ws://localhost.
        socket_path: Path of the Unix socket, None for TCP.
    """

    __slots__ = ("uri", "socket_path")

    def __init__(self, uri: WebSocketURI, socket_path: str | None = None) -> None:
        self.uri = uri
        self.socket_path = socket_path

    def __str__(self) -> str:
        """Describe the target, without the user name and password of a URL."""
        if self.socket_path is not None:
            return escape_line(self.socket_path)
        return f"{escape_line(self.uri.host)} port {self.uri.port}"


def parse(url: str) -> Target:
    """Parse a URL of any of the three kinds.

    Raises:
        InvalidURL: The URL is invalid. The text shows a correct one.
    """
    # urllib silently drops line breaks and tabs, and a space would end the target.
    if any(c.isspace() or ord(c) < 32 or ord(c) == 127 for c in url):
        raise _invalid(url, "white space and control characters must be written %XX")
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme == "ws+unix" and colon:
        return _unix(url, rest)
    if scheme in ("http", "https"):
        suggestion = escape_line(_without_password("ws" + url[4:]))
        raise _invalid(url, f"write a WebSocket URL: {suggestion}")
    if scheme not in ("ws", "wss") or not rest.startswith("//"):
        raise _invalid(url, "it must begin with ws://, wss:// or ws+unix:")
    try:
        return Target(parse_uri(url))
    except InvalidURI as error:
        raise _invalid(url, error.msg) from None
    except (ValueError, UnicodeError) as error:
        raise _invalid(url, str(error)) from None


def _unix(url: str, rest: str) -> Target:
    if rest.startswith("//"):  # ws+unix:///run/x.sock: an empty authority
        rest = rest[2:]
        if not rest.startswith("/"):
            raise _invalid(url, "a Unix socket has no host: ws+unix:/run/x.sock")
    socket, colon, resource = rest.partition(":/")
    path, _, query = (colon[1:] + resource).partition("?")
    socket_path = urllib.parse.unquote(socket, errors="surrogateescape")
    length = len(socket_path.encode("utf-8", "surrogateescape"))
    if not socket_path or "\0" in socket_path or "?" in socket or "#" in rest:
        raise _invalid(url, "the form is ws+unix:SOCKET[:/PATH[?QUERY]]")
    if length > MAX_UNIX_PATH:
        raise _invalid(url, f"a socket's path has at most {MAX_UNIX_PATH} bytes")
    if not (path + query).isascii():
        raise _invalid(url, "the path after the socket must be percent-encoded")
    return Target(WebSocketURI(False, "localhost", 80, path, query), socket_path)


def _invalid(url: str, problem: str) -> InvalidURL:
    shown = escape_line(_without_password(url), 256)
    return InvalidURL(f"cannot use the URL {shown}: {escape_line(problem)}")


def _without_password(url: str) -> str:
    """Return the URL without its password, for an error text."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return f"{scheme}{slashes}...@{tail}" if at and slashes else url
