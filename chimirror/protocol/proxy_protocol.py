"""The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt).

A port that expects this header refuses connections that do not begin with it. Reads
both versions strictly. Only proxied TCP has a source, and other valid headers have
none. Extra fields (TLVs) are checked for their form and skipped, a CRC32c among them
too. Knows nothing of the use of a source, nor of the bytes behind the header.
"""

from __future__ import annotations

from chimirror.protocol import addresses
from chimirror.protocol.http import HTTPError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Source = tuple[str, int]

MAX_LINE = 107
MAX_BLOCK = 4096  # the largest real headers carry TLS details, some hundred bytes

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_UNKNOWN = b"PROXY UNKNOWN"
_STARTS = (b"PROXY TCP4 ", b"PROXY TCP6 ", _UNKNOWN, _SIGNATURE)
_LOCAL, _PROXY = 0x20, 0x21
_STREAM = 1
_ADDRESS_SIZES = (0, 12, 36, 216)  # UNSPEC, INET, INET6, UNIX


def _refusal(text: str) -> HTTPError:
    return HTTPError(400, text, cause="proxy-protocol")


def _parse_line(line: bytes) -> Source | None:
    """Read version 1, without its CRLF."""
    if line == _UNKNOWN or line.startswith(_UNKNOWN + b" "):
        return None
    parts = line.decode("latin-1").split(" ")
    if len(parts) == 6:
        _, family, source, destination, *ports = parts
        pack = addresses.ipv4 if family == "TCP4" else addresses.ipv6
        port, to = [addresses.decimal(port, 65535) for port in ports]
        text = addresses.canonical(source)
        if text and pack(source) and pack(destination) and port >= 0 and to >= 0:
            return addresses.plain_address(text), port
    raise _refusal("malformed PROXY protocol line")


def _check_extras(block: bytes) -> None:
    """Refuse type-length-value fields that reach beyond their block."""
    at = 0
    while at < len(block):
        at += 3 + int.from_bytes(block[at + 1 : at + 3], "big")
    # A field that is cut within its own length also ends at least one byte too late.
    if at > len(block):
        raise _refusal("malformed PROXY protocol header: a field is cut off")


def _parse_block(kind: int, block: bytes) -> Source | None:
    """Read the bytes behind the first 16 bytes of version 2.

    Args:
        kind: The 14th byte: address family and transport protocol.
        block: Addresses and extra fields.
    """
    family, transport = kind >> 4, kind & 15
    if family > 3 or transport > 2:
        raise _refusal("malformed PROXY protocol header: unknown address family")
    if family == 0 or transport == 0:
        return None  # unknown size of addresses, so the start of the fields is unknown
    size = _ADDRESS_SIZES[family]
    if len(block) < size:
        raise _refusal("malformed PROXY protocol header: an address is cut off")
    _check_extras(block[size:])
    if transport != _STREAM or family == 3:
        return None
    width = 4 if family == 1 else 16
    write = addresses.ipv4_text if family == 1 else addresses.ipv6_text
    port = int.from_bytes(block[2 * width : 2 * width + 2], "big")
    return addresses.plain_address(write(block[:width])), port


def _parse_binary(data: bytes) -> tuple[Source | None, int] | None:
    """Read version 2."""
    if len(data) < 16:
        return None
    command, kind = data[12], data[13]
    if command not in (_LOCAL, _PROXY):
        raise _refusal("malformed PROXY protocol header: unknown version or command")
    length = 16 + int.from_bytes(data[14:16], "big")
    if length > MAX_BLOCK:
        raise _refusal(f"a PROXY protocol header of more than {MAX_BLOCK} bytes")
    if len(data) < length:
        return None
    source = _parse_block(kind, data[16:length]) if command == _PROXY else None
    return source, length


def parse(buffer: bytes | bytearray) -> tuple[Source | None, int] | None:
    """Read the header from the start of the received bytes.

    Returns:
        The source, and the length of the header in bytes. The source is a plain
        address and a port. It is None for connections of the proxy itself or of a
        protocol other than TCP. None instead of both while the header is incomplete.

    Raises:
        HTTPError: 400, at the first byte that decides.
    """
    data = bytes(buffer[:MAX_BLOCK])
    if not any(start.startswith(data[: len(start)]) for start in _STARTS):
        raise _refusal("a PROXY protocol header has to come first on this port")
    if data[:1] != b"P":
        return _parse_binary(data)
    end = data.find(b"\r\n", 0, MAX_LINE)
    if end >= 0:
        return _parse_line(data[:end]), end + 2
    if len(data) >= MAX_LINE:
        raise _refusal("malformed PROXY protocol line")
    return None


def trusted_networks(cidrs: Iterable[str]) -> Callable[[str], bool]:
    """Return the predicate for `--trusted-proxy`.

    Args:
        cidrs: Networks or single addresses, and "unix" for peers on Unix sockets. The
            predicate expects addresses in the form of `addresses.plain_address`.

    Raises:
        ValueError: A text is malformed. The message names the fault.
    """
    import ipaddress  # 10 ms, only with the option

    names = list(cidrs)
    networks = [ipaddress.ip_network(name) for name in names if name != "unix"]
    unix = "unix" in names

    def is_trusted(text: str) -> bool:
        if not text:
            return unix
        try:
            peer = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(peer in network for network in networks)

    return is_trusted
