"""Request targets other than a path, and HTTP versions other than 1.1 (RFC 9112).

Imported with the first such request. A proxy may send the target in absolute-form, a
health check OPTIONS with an asterisk, and both HTTP/1.0. Knows no field and no policy.
"""

from __future__ import annotations

from chimirror.protocol import addresses

# RFC 6455, section 4.1: a handshake names the resource by an http or https URI.
_SCHEMES = ("http", "https")
_WEBSOCKET = {"ws": "http", "wss": "https"}
_DIGITS = b"0123456789"


def split(method: str, target: str) -> tuple[str, str, str]:
    """Split a target that does not start with a slash.

    Args:
        method: CONNECT takes an authority, OPTIONS an asterisk.
        target: ASCII without spaces.

    Returns:
        Scheme, authority and path with query. The first two are "" unless the target
        is in absolute-form. The path of CONNECT is "".

    Raises:
        ValueError: The text names the error and its cure. A second argument is the
            evidence.
    """
    if method == "CONNECT" and addresses.authority(target) is not None:
        return "", "", ""
    if method == "OPTIONS" and target == "*":
        return "", "", target
    scheme, separator, rest = target.partition("://")
    if not separator or not scheme.isalpha():
        raise ValueError("the request target must be a path that starts with /")
    scheme = scheme.lower()
    if scheme in _WEBSOCKET:
        cure = f"write {_WEBSOCKET[scheme]}:// (RFC 6455, section 4.1) or a path"
        raise ValueError(f"{scheme}:// is not used in requests; {cure}")
    if scheme not in _SCHEMES:
        raise ValueError("a request target has the scheme http or https, not", scheme)
    start = path_start(rest)
    authority, path = rest[:start], rest[start:]
    if "@" in authority:  # not quoted: it may hold a password
        raise ValueError("the request target names a user; write HOST:PORT alone")
    if addresses.authority(authority) is None:
        raise ValueError("the request target has a malformed authority", authority)
    return scheme, authority, path if path[:1] == "/" else f"/{path}"


def path_start(rest: str) -> int:
    """Return the end of the authority at the start of `rest`."""
    ends = [at for at in map(rest.find, "/?#") if at >= 0]
    return min(ends, default=len(rest))


def minor_version(version: bytes) -> int:
    """Return 0 for HTTP/1.0, and 1 for later versions of HTTP/1 (RFC 9110, 2.5).

    Returns:
        -1 for a version that is not served, -2 if this is no version.
    """
    name, major, dot, minor = version[:5], version[5:6], version[6:7], version[7:]
    if (
        name != b"HTTP/"
        or dot != b"."
        or len(minor) != 1
        or (major + minor).translate(None, _DIGITS)
        or not major
    ):
        return -2
    return -1 if major != b"1" else int(minor != b"0")
