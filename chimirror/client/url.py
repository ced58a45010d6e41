"""Parses URLs of sessions: ws://, wss:// and ws+unix:. http and https are ws and wss.

Knows nothing of sockets. Follows RFC 3986, and the URL Standard of browsers where that
leaves room: escapes are left alone, other characters are percent-encoded as UTF-8, dot
segments are resolved, names become ASCII (IDNA), and a fragment is dropped. ws+unix has
no RFC and has the form that other clients use: `ws+unix:SOCKET[:/PATH[?QUERY]]`. SOCKET
is a percent-encoded path on this machine, in which a colon before a slash is written
%3A. tests/support/url_cases.json has cases for all clients.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from urllib.parse import quote, unquote

from websockets.uri import WebSocketURI

from chimirror.client.errors import InvalidURL
from chimirror.text import escape_line

MAX_UNIX_PATH = 107  # bytes, unix(7), without the terminating zero byte
_SECURE = {"ws": False, "wss": True, "http": False, "https": True}
_PRINTABLE = "".join(map(chr, range(33, 127)))
# Left alone in a path or a query, beside letters, digits and "_.-~".
_PATH_SAFE = "".join(c for c in _PRINTABLE if c not in '"#<>?^`{}')
_QUERY_SAFE = "".join(c for c in _PRINTABLE if c not in "\"#'<>")
_NOT_IN_HOST = frozenset(" #%/:<>?@[\\]^|")


class Target:
    """A parsed URL.

    Attributes:
        url: The URL as given.
        uri: Parsed URL for the handshake. For a Unix socket, ws://localhost.
        socket_path: Path of the Unix socket, None for TCP.
    """

    __slots__ = ("socket_path", "uri", "url")

    def __init__(
        self, url: str, uri: WebSocketURI, socket_path: str | None = None
    ) -> None:
        self.url = url
        self.uri = uri
        self.socket_path = socket_path

    @property
    def server_name(self) -> str:
        """The host without the zone of an IPv6 address, which only counts here."""
        return self.uri.host.partition("%")[0]

    @property
    def shown_url(self) -> str:
        """The URL for messages: escaped, and without user name and password."""
        return _shown(self.url)

    def __str__(self) -> str:
        """Describe the target, without the user name and password of a URL."""
        if self.socket_path is not None:
            return escape_line(self.socket_path)
        return f"{escape_line(self.uri.host)} port {self.uri.port}"


def parse(url: str) -> Target:
    """Parse a URL of any kind.

    Raises:
        InvalidURL: The URL is invalid. The text shows a correct one.
    """
    text = url.strip(" ")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise _invalid(url, "control characters must be written %XX")
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme == "ws+unix" and colon:
        return _unix(url, rest)
    if scheme not in _SECURE or not rest.startswith("//"):
        raise _invalid(url, "it must begin with ws://, wss:// or ws+unix:")
    before, _, query = rest[2:].partition("#")[0].partition("?")
    authority, _, path = before.replace("\\", "/").partition("/")
    user_info, at, place = authority.rpartition("@")
    user, _, password = user_info.partition(":")
    credentials = (unquote(user), unquote(password)) if at else (None, None)
    secure = _SECURE[scheme]
    try:
        host, port = _host_and_port(place)
        path, query = _encode(path, query)
    except ValueError as error:
        text = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise _invalid(url, text) from None
    port = (443 if secure else 80) if port is None else port
    return Target(url, WebSocketURI(secure, host, port, path, query, *credentials))


def _host_and_port(place: str) -> tuple[str, int | None]:
    if place.startswith("["):
        literal, bracket, rest = place[1:].partition("]")
        host, colon, port = _ipv6(literal), rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise ValueError("an IPv6 address is written [::1] or [::1]:30747")
    else:
        name, colon, port = place.partition(":")
        host = _host(name)
    if not port:
        return host, None
    if not (port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        raise ValueError("the port must be a number up to 65535")
    return host, int(port)


def _ipv6(literal: str) -> str:
    """Return an address in its short form. The zone follows RFC 6874: `%25eth0`."""
    address, percent, zone = literal.partition("%")
    zone = zone.removeprefix("25")
    if percent and not (zone and quote(zone, safe="") == zone):
        raise ValueError("the zone of an IPv6 address is written %25eth0")
    try:
        found = str(ipaddress.IPv6Address(address))
    except ValueError:
        raise ValueError("the host is not an IPv6 address") from None
    return f"{found}%{zone}" if zone else found


def _host(text: str) -> str:
    """Return a host name in ASCII and in lower case."""
    name = unquote(text, errors="strict")
    if not name.isascii():
        # Not the codec "idna": its rules of 2003 turn ß into ss.
        small = "".join(c.lower() for c in unicodedata.normalize("NFKC", name))
        name = unicodedata.normalize("NFKC", small).replace("\u3002", ".")
        if not name.isprintable():
            raise ValueError("the host has characters that no name has")
        name = ".".join(map(_ascii_label, name.split(".")))
    if not name:
        raise ValueError("the host is missing")
    if not _NOT_IN_HOST.isdisjoint(name) or not name.isprintable():
        raise ValueError("the host has characters that no name has")
    return name.lower()


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label
    return "xn--" + label.encode("punycode").decode()


def _encode(path: str, query: str) -> tuple[str, str]:
    """Return an absolute path without dot segments, and the query, in ASCII."""
    kept: list[str] = []
    dots = ""
    for segment in path.split("/"):
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            del kept[-1:]
        elif dots != ".":
            kept.append(segment)
    if dots in (".", ".."):
        kept.append("")
    absolute = "/" + "/".join(kept)
    return (
        quote(absolute, safe=_PATH_SAFE, errors="surrogateescape"),
        quote(query, safe=_QUERY_SAFE, errors="surrogateescape"),
    )


def _unix(url: str, rest: str) -> Target:
    if rest.startswith("//"):  # ws+unix:///run/x.sock: an empty authority
        rest = rest[2:]
        if not rest.startswith("/"):
            raise _invalid(url, "a Unix socket has no host: ws+unix:/run/x.sock")
    socket, _, resource = rest.partition(":/")
    path, _, query = resource.partition("#")[0].partition("?")
    socket_path = unquote(socket, errors="surrogateescape")
    try:
        length = len(socket_path.encode("utf-8", "surrogateescape"))
        path, query = _encode(path, query)
    except UnicodeError:
        raise _invalid(url, "it is not UTF-8") from None
    if not socket_path or "\0" in socket_path or "?" in socket or "#" in socket:
        raise _invalid(url, "the form is ws+unix:SOCKET[:/PATH[?QUERY]]")
    if length > MAX_UNIX_PATH:
        raise _invalid(url, f"a socket's path has at most {MAX_UNIX_PATH} bytes")
    uri = WebSocketURI(False, "localhost", 80, path, query)
    return Target(url, uri, socket_path)


def _invalid(url: str, problem: str) -> InvalidURL:
    return InvalidURL(f"cannot use the URL {_shown(url)}: {escape_line(problem)}")


def _shown(url: str) -> str:
    """Return the URL without its password, for messages."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return escape_line(f"{scheme}{slashes}...@{tail}" if at and slashes else url, 256)
