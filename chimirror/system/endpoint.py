"""Addresses to listen on, as an operator writes them, and what they resolve to.

Law: whatever may be read in two ways is refused, with what to write instead. Opens
nothing; getaddrinfo(3) is the only authority on names.
"""

from __future__ import annotations

from _socket import (
    AF_INET,
    AF_INET6,
    AI_NUMERICHOST,
    IPPROTO_TCP,
    SOCK_STREAM,
    gaierror,
    getaddrinfo,
    inet_pton,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Address: TypeAlias = tuple[str | int | bytes, ...]  # as the kernel takes it

PORT = 30747  # for hints only: an address names its port


class ListenError(Exception):
    """An address cannot be listened on; ``str()`` says why, and what to do."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(f"{text}; {hint}" if hint else text)


def split(text: str) -> tuple[str, int]:
    """Takes `host:port` and `[host]:port` apart; everything else gets a hint.

    Raises:
        ListenError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if text.startswith(("/", "@")):
        raise ListenError(
            f'"{text}" is no address', "for a path write unix:/run/NAME.sock"
        )
    if not colon or text.endswith("]"):
        whole = f"127.0.0.1:{text}" if text.isdecimal() else f"{text}:{PORT}"
        raise ListenError(f'"{text}" is no address and port', f"write {whole}")
    if host.startswith("["):
        return _brackets(host, text), _port(port)
    if ":" in host:
        raise ListenError(f'"{text}" can be read in two ways', _bracketed(text))
    if host in ("", "*"):
        raise ListenError(
            f'"{text}" has no address',
            f"write 127.0.0.1:{port} for this machine alone, "
            f"0.0.0.0:{port} or [::]:{port} for every network",
        )
    return host, _port(port)


def resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """The addresses of a host, each once, in the resolver's order.

    Raises:
        ListenError: there is no such host.
    """
    flags = AI_NUMERICHOST if ":" in host else 0
    try:
        found = getaddrinfo(host, port, 0, SOCK_STREAM, IPPROTO_TCP, flags)
    except gaierror as error:
        text = f'"{host}": {error.strerror}'
    except UnicodeError:
        text = f'"{host}" is no host name'
    else:
        pairs: list[tuple[int, Address]] = [(entry[0], entry[4]) for entry in found]
        return list(dict.fromkeys(pairs))
    raise ListenError(text, "write an IP address")


def is_loopback(address: str) -> bool:
    """Whether an IP address (without port) means this machine to itself."""
    try:
        return inet_pton(AF_INET, address)[0] == 127
    except OSError:
        pass
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except OSError:
        return False
    mapped = packed[:12] == bytes(10) + b"\xff\xff"
    return packed[12] == 127 if mapped else packed == bytes(15) + b"\1"


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= number <= 65535 or len(text) > 5:
        raise ListenError(f'"{text}" is no port', "write a number from 0 to 65535")
    return number


def _brackets(host: str, text: str) -> str:
    inner = host[1:-1]
    if not host.endswith("]") or ":" not in inner:
        raise ListenError(
            f'"{text}": brackets hold an IPv6 address', "write [::1]:PORT"
        )
    return inner


def _bracketed(text: str) -> str:
    """The hint for an IPv6 address without brackets: each way to read it."""
    host, _, port = text.rpartition(":")
    ways = [(host, port), (text, str(PORT))]
    written = [f"[{host}]:{port}" for host, port in ways if _is_ipv6(host)]
    return "write " + (" or ".join(written) or "[ADDRESS]:PORT")


def _is_ipv6(text: str) -> bool:
    try:
        inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True
