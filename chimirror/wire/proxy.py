"""The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt).

Law: on a port that expects this header it is the first thing or the connection is
refused; whether it is there is never guessed. Both versions are read to the
letter; only proxied TCP has a source, all else that is valid has none. Extra
fields (TLVs) are checked for their form and skipped, a CRC32c among them too.
Ignorance: what a source is good for, and everything behind the header.
"""

from __future__ import annotations

from chimirror.wire import address
from chimirror.wire.http import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Source = tuple[str, int]

MAX_LINE = 107
MAX_BLOCK = 4096  # the largest real ones carry TLS details: some hundred bytes

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_UNKNOWN = b"PROXY UNKNOWN"
_STARTS = (b"PROXY TCP4 ", b"PROXY TCP6 ", _UNKNOWN, _SIGNATURE)
_LOCAL, _PROXY = 0x20, 0x21
_STREAM = 1
_ADDRESS_SIZES = (0, 12, 36, 216)  # UNSPEC, INET, INET6, UNIX


def _refusal(text: str) -> Refusal:
    return Refusal(400, text, cause="proxy-protocol")


def _parse_line(line: bytes) -> Source | None:
    """Read version 1, without its CRLF."""
    if line == _UNKNOWN or line.startswith(_UNKNOWN + b" "):
        return None
    parts = line.decode("latin-1").split(" ")
    if len(parts) == 6:
        _, family, source, destination, *ports = parts
        pack = address.ipv4 if family == "TCP4" else address.ipv6
        port, to = [address.decimal(port, 65535) for port in ports]
        text = address.canonical(source)
        if text and pack(source) and pack(destination) and port >= 0 and to >= 0:
            return text, port
    raise _refusal("malformed PROXY protocol line")


def _check_extras(block: bytes) -> None:
    """Refuse type-length-value fields that reach beyond their block."""
    at = 0
    while at < len(block):
        at += 3 + int.from_bytes(block[at + 1 : at + 3], "big")
    # A field cut within its own length misses the end as well: at least by one.
    if at > len(block):
        raise _refusal("malformed PROXY protocol header: a field is cut off")


def _parse_block(kind: int, block: bytes) -> Source | None:
    """Read what follows the first 16 bytes of version 2.

    Args:
        kind: The 14th byte: address family and transport protocol.
        block: Addresses and extra fields.
    """
    family, transport = kind >> 4, kind & 15
    if family > 3 or transport > 2:
        raise _refusal("malformed PROXY protocol header: unknown address family")
    if family == 0 or transport == 0:
        return None  # addresses of an unknown form: no telling where fields begin
    size = _ADDRESS_SIZES[family]
    if len(block) < size:
        raise _refusal("malformed PROXY protocol header: an address is cut off")
    _check_extras(block[size:])
    if transport != _STREAM or family == 3:
        return None
    width = 4 if family == 1 else 16
    write = address.ipv4_text if family == 1 else address.ipv6_text
    port = int.from_bytes(block[2 * width : 2 * width + 2], "big")
    return write(block[:width]), port


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
    """Read the header from the start of what has arrived.

    Returns:
        The source, an address in its canonical text and a port, and the length
        of the header in bytes. The source is None where the proxy speaks for
        itself or for something other than TCP. None while it is unfinished.

    Raises:
        Refusal: 400, as early as it can be known.
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


def trusted(cidrs: Iterable[str]) -> Callable[[str], bool]:
    """Build the predicate for `--trusted-proxy`.

    Args:
        cidrs: Networks or single addresses, and "unix" for peers on Unix sockets.

    Raises:
        ValueError: One of them is neither; the text says what is wrong with it.
    """
    import ipaddress  # 10 ms that only a bridge with the option pays

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
        # A listener for both families shows IPv4 peers as ::ffff:a.b.c.d.
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in networks)

    return is_trusted
