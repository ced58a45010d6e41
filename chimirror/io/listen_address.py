"""Addresses to listen on: resolves the host that an operator wrote.

Opens nothing. getaddrinfo(3) is the only authority on names. The syntax of an address
is the work of config.listen_syntax.
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

from chimirror.protocol.addresses import plain_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Address: TypeAlias = tuple[str | int | bytes, ...]  # as the kernel takes it


class ListenError(Exception):
    """An address that cannot be listened on. The text gives the reason and the cure."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(f"{text}; {hint}" if hint else text)


def resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """Return the addresses of a host, each once, in the order of the resolver.

    An IPv6-mapped address is the IPv4 address in it.

    Raises:
        ListenError: There is no such host.
    """
    flags = AI_NUMERICHOST if ":" in host else 0
    try:
        found = getaddrinfo(host, port, 0, SOCK_STREAM, IPPROTO_TCP, flags)
    except gaierror as error:
        text = f'"{host}": {error.strerror}'
    except UnicodeError:
        text = f'"{host}" is not a host name'
    else:
        pairs = [_unmapped(entry[0], entry[4]) for entry in found]
        return list(dict.fromkeys(pairs))
    raise ListenError(text, "write an IP address")


def _unmapped(family: int, name: Address) -> tuple[int, Address]:
    plain = plain_address(str(name[0]))
    if family == AF_INET6 and ":" not in plain:
        return AF_INET, (plain, name[1])
    return family, name


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach an IP address (without port)."""
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
