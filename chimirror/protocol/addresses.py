"""IP addresses and ``host:port`` as peers write them (RFC 3986, 4291, 5952).

Accepts exactly one form of each. Gives each address one canonical text, so that
addresses can be compared as strings. Resolves no names and knows no policy. Does not
use `ipaddress`, because its import costs a starting bridge 10 ms.
"""

from __future__ import annotations

_HEX = "0123456789abcdefABCDEF"
# Host names do not contain "_", but names of services on container networks do.
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-._"


def decimal(text: str, maximum: int) -> int:
    """Read digits without sign, space or leading zero. Return -1 for other texts."""
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        return -1
    if text[0] == "0" and text != "0":  # some readers take it as octal
        return -1
    number = int(text)
    return number if number <= maximum else -1


def ipv4(text: str) -> bytes | None:
    """Pack dotted decimal: exactly four numbers, no shorthand."""
    octets = [decimal(part, 255) for part in text.split(".")]
    return bytes(octets) if len(octets) == 4 and min(octets) >= 0 else None


def _groups(text: str, dotted: bool) -> bytes | None:
    """Pack one side of the ``::``. `dotted` allows an IPv4 address at the end."""
    if not text:
        return b""
    *parts, last = text.split(":")
    tail = ipv4(last) if dotted and "." in last else None
    if tail is None:
        parts.append(last)
    packed = b""
    for part in parts:
        if not 1 <= len(part) <= 4 or part.strip(_HEX):
            return None
        packed += int(part, 16).to_bytes(2, "big")
    return packed + (tail or b"")


def ipv6(text: str) -> bytes | None:
    """Pack an IPv6 address without brackets and without a zone."""
    head, gap, rest = text.partition("::")
    left = _groups(head, not gap)
    right = _groups(rest, True)
    if left is None or right is None:
        return None
    missing = 16 - len(left) - len(right)
    if missing < 2 if gap else missing:
        return None
    return left + bytes(missing) + right


def ipv4_text(packed: bytes) -> str:
    return ".".join(map(str, packed))


def ipv6_text(packed: bytes) -> str:
    """Write an address like inet_ntop(3): the longest run of zeros cut (RFC 5952)."""
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return "::ffff:" + ipv4_text(packed[12:])
    groups = [f"{packed[i] << 8 | packed[i + 1]:x}" for i in range(0, 16, 2)]
    text = ":" + ":".join(groups) + ":"
    for run in range(8, 1, -1):
        at = text.find(":" + "0:" * run)
        if at >= 0:
            return text[1:at] + "::" + text[at + 2 * run + 1 : -1]
    return text[1:-1]


def canonical(text: str) -> str | None:
    """Return the canonical text of an IPv4 or IPv6 address, None for other texts."""
    if ipv4(text) is not None:
        return text
    packed = ipv6(text)
    return None if packed is None else ipv6_text(packed)


def plain_address(text: str) -> str:
    """Return the address of a peer without IPv6 mapping (`::ffff:`) and scope.

    Every address of a peer passes here when it enters: from the kernel, a PROXY header
    or X-Forwarded-For. So one IPv4 peer has one address, in limits, networks, records
    and variables, whatever the family of the socket.

    Args:
        text: In canonical form, as the kernel and `canonical` write it.
    """
    mapped = text.removeprefix("::ffff:")
    if ":" not in mapped:
        return mapped
    return text.partition("%")[0]


def authority(text: str) -> tuple[str, int] | None:
    """Split ``host[:port]`` (RFC 3986, section 3.2, without userinfo).

    Returns:
        The host in lower case, an IPv6 address canonical and in brackets, and the port,
        0 if the text has none. None if the text is malformed.
    """
    if not text.isascii():
        return None
    if text.startswith("["):
        inside, _, rest = text[1:].partition("]")
        packed = ipv6(inside)
        if packed is None or not text.startswith("]", len(inside) + 1):
            return None
        host = f"[{ipv6_text(packed)}]"
    else:
        name, colon, port = text.partition(":")
        host, rest = name.lower(), colon + port
        if not host or host.strip(_NAME):
            return None
    if not rest:
        return host, 0
    number = decimal(rest[1:], 65535)
    return (host, number) if rest[0] == ":" and number > 0 else None


def is_literal(host: str) -> bool:
    """Tell whether a host from `authority` is an address and not a name."""
    return host[0] == "[" or ipv4(host) is not None
