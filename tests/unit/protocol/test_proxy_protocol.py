"""The PROXY protocol: examples and corner cases of its specification."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.protocol import proxy_protocol
from chimirror.protocol.http import HTTPError
from chimirror.protocol.proxy_protocol import MAX_BLOCK, MAX_LINE

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
INET = bytes([192, 0, 2, 1, 10, 0, 0, 1]) + b"\xdc\x04\x01\xbb"
INET6 = bytes.fromhex("20010db8" + "00" * 11 + "07") + bytes(16) + b"\xdc\x04\x01\xbb"
UNIX = b"/run/x".ljust(108, b"\0") * 2
FULL = b":".join([b"ffff"] * 8)
V4 = ("192.0.2.1", 56324)
V6 = ("2001:db8::7", 56324)
REST = b"GET / HTTP/1.1\r\n"
Outcome = tuple[object, ...] | None


def binary(
    kind: int, block: bytes = b"", command: int = PROXY, length: int | None = None
) -> bytes:
    """Return a header of version 2."""
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, kind]) + size.to_bytes(2, "big") + block


def field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def refused(data: bytes) -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        proxy_protocol.parse(data)
    return caught.value


def outcome(data: bytes | bytearray) -> Outcome:
    try:
        return proxy_protocol.parse(data)
    except HTTPError as refusal:
        return refusal.status, refusal.cause, refusal.text


GOOD: list[tuple[bytes, tuple[str, int] | None]] = [
    (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", V4),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", V6),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 ::1 56324 443\r\n", V6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("192.0.2.1", 1)),
    (b"PROXY TCP6 %s %s 65535 65535\r\n" % (FULL, FULL), (FULL.decode(), 65535)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN \r\n", None),
    (b"PROXY UNKNOWN \0 what ever\n\r\xff\r\n", None),
    (b"PROXY UNKNOWN ".ljust(MAX_LINE - 2, b"f") + b"\r\n", None),
    (binary(0x11, INET), V4),
    (binary(0x21, INET6), V6),
    (binary(0x11, INET + field(4, b"") + field(1, b"h2") + field(3, b"abcd")), V4),
    (binary(0x21, INET6 + field(0x20, b"\1" + bytes(4))), V6),
    (binary(0x11, INET + field(4, bytes(MAX_BLOCK - 31))), V4),
    # Valid headers of protocols other than TCP have no source.
    (binary(0x12, INET), None),
    (binary(0x22, INET6), None),
    (binary(0x31, UNIX), None),
    (binary(0x32, UNIX), None),
    (binary(0x00), None),
    (binary(0x00, b"anything"), None),
    (binary(0x01, b"x"), None),
    (binary(0x02), None),
    (binary(0x10), None),
    (binary(0x20, b"x"), None),
    (binary(0x30), None),
    # Connections of the proxy itself: all bytes behind the length are skipped.
    (binary(0x00, command=LOCAL), None),
    (binary(0x11, INET, command=LOCAL), None),
    (binary(0x11, b"x", command=LOCAL), None),
    (binary(0xFF, b"anything", command=LOCAL), None),
]


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_good_headers(header: bytes, source: tuple[str, int] | None) -> None:
    assert proxy_protocol.parse(header) == (source, len(header))
    assert proxy_protocol.parse(bytearray(header + REST)) == (source, len(header))
    for cut in range(len(header)):
        assert proxy_protocol.parse(header[:cut]) is None


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 ",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 1",
        b"PROXY TCP4  192.0.2.1 10.0.0.1 56324 443",
        b"PROXY TCP4 192.0.2.1\t10.0.0.1 56324 443",
        b"PROXY TCP4 192.0.2.01 10.0.0.1 56324 443",
        b"PROXY TCP4 192.0.2.256 10.0.0.1 56324 443",
        b"PROXY TCP4 192.0.2 10.0.0.1 56324 443",
        b"PROXY TCP4 192.0.2.1 10.0.0 56324 443",
        b"PROXY TCP4 ::1 ::1 56324 443",
        b"PROXY TCP4 192.0.2.1 ::1 56324 443",
        b"PROXY TCP6 192.0.2.1 192.0.2.1 56324 443",
        b"PROXY TCP6 ::1 10.0.0.1 56324 443",
        b"PROXY TCP6 1::2::3 ::1 56324 443",
        b"PROXY TCP6 ::1%lo ::1 56324 443",
        b"PROXY TCP6 [::1] ::1 56324 443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 65536",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 056324 443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 0443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 x 443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1  443",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\nGET / HTTP/1.1",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r",
        b"PROXY TCP4 192.0.2.\xb2 10.0.0.1 56324 443",
        b"PROXY UNKNOWNS",
        b"PROXY TCP4 ",
    ],
)
def test_malformed_lines(line: bytes) -> None:
    refusal = refused(line + b"\r\n")
    assert (refusal.status, refusal.cause) == (400, "proxy-protocol")
    assert refusal.text == "malformed PROXY protocol line"
    assert proxy_protocol.parse(line) is None


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN ".ljust(MAX_LINE, b"f"),
        b"PROXY UNKNOWN ".ljust(MAX_LINE - 1, b"f") + b"\r\n",
        b"PROXY TCP4 ".ljust(MAX_LINE, b"1"),
    ],
)
def test_lines_that_are_too_long(data: bytes) -> None:
    assert refused(data).text == "malformed PROXY protocol line"


def test_the_longest_line_is_waited_for() -> None:
    assert proxy_protocol.parse(b"PROXY UNKNOWN ".ljust(MAX_LINE - 1, b"f")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"G",
        b"\x16\x03\x01",
        b"\0",
        b"\n",
        b"PROXX",
        b"proxy TCP4 ",
        b"PROXY  TCP4",
        b"PROXY\r\n",
        b"PROXY TCP5 ",
        b"PROXY UDP4 ",
        b"PROXY tcp4 ",
        b"PROXY TCP4\r\n",
        b"\r\n\r\nG",
        b"\r\n\r\n\0\r\nQUIT\r",
    ],
)
def test_other_bytes_are_refused_at_once(data: bytes) -> None:
    refusal = refused(data)
    assert (refusal.status, refusal.cause) == (400, "proxy-protocol")
    assert refusal.text == "a PROXY protocol header has to come first on this port"


BAD = "malformed PROXY protocol header: "
COMMAND = BAD + "unknown version or command"
FAMILY = BAD + "unknown address family"
ADDRESS = BAD + "an address is cut off"
FIELD = BAD + "a field is cut off"


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (binary(0x11), ADDRESS),
        (binary(0x11, INET[:-1]), ADDRESS),
        (binary(0x12, INET[:-1]), ADDRESS),
        (binary(0x21, INET), ADDRESS),
        (binary(0x21, INET6[:-1]), ADDRESS),
        (binary(0x31, UNIX[:-1]), ADDRESS),
        (binary(0x11, INET + b"\4"), FIELD),
        (binary(0x11, INET + b"\4\0"), FIELD),
        (binary(0x11, INET + b"\4\0\1"), FIELD),
        (binary(0x11, INET + field(4, b"ab") + b"\4\1\0"), FIELD),
        (binary(0x12, INET + b"\4\0\1"), FIELD),
    ],
)
def test_malformed_headers(header: bytes, text: str) -> None:
    refusal = refused(header + REST)
    assert (refusal.status, refusal.cause) == (400, "proxy-protocol")
    assert refusal.text == text


def test_versions_and_commands_that_are_unknown() -> None:
    for command in set(range(256)) - {LOCAL, PROXY}:
        assert refused(binary(0x11, INET, command=command)).text == COMMAND


def test_families_and_transports_that_are_unknown() -> None:
    for kind in range(256):
        if kind >> 4 > 3 or kind & 15 > 2:
            assert refused(binary(kind, UNIX)).text == FAMILY


@pytest.mark.parametrize("command", [LOCAL, PROXY])
@pytest.mark.parametrize("length", [MAX_BLOCK - 15, 0xFFFF])
def test_a_header_that_is_too_long_is_not_waited_for(command: int, length: int) -> None:
    refusal = refused(binary(0x11, command=command, length=length))
    assert refusal.text == "a PROXY protocol header of more than 4096 bytes"


GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(SIGNATURE.__add__),
    st.binary(max_size=60).map(binary(0x11, INET)[:14].__add__),
    st.text("0123456789:. abcdef\r\n", max_size=120).map(
        lambda text: b"PROXY TCP4 " + text.encode()
    ),
    st.binary(max_size=120).map(lambda data: b"PROXY UNKNOWN" + data),
)


@given(GARBAGE)
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    try:
        found = proxy_protocol.parse(data)
    except HTTPError:
        return
    if found is not None:
        source, length = found
        assert 15 <= length <= len(data)
        if source is not None:
            address, port = source
            assert str(ipaddress.ip_address(address))
            assert 0 <= port <= 65535


@given(
    GARBAGE | st.sampled_from([header + REST for header, _ in GOOD[:16]]),
    st.lists(st.integers(0, 300), max_size=5),
)
def test_any_chunking_gives_the_same_result(data: bytes, cuts: list[int]) -> None:
    found = None
    for cut in sorted(cuts):
        found = outcome(bytearray(data[:cut]))
        if found is not None:
            break
    assert found in (None, outcome(data))


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_both_versions_say_the_same_for_ipv4(
    address: ipaddress.IPv4Address, port: int
) -> None:
    line = f"PROXY TCP4 {address} 10.0.0.1 {port} 443\r\n".encode()
    block = address.packed + bytes(4) + port.to_bytes(2, "big") + b"\1\xbb"
    assert proxy_protocol.parse(line) == ((str(address), port), len(line))
    assert proxy_protocol.parse(binary(0x11, block)) == ((str(address), port), 28)


MAPPED = st.ip_addresses(v=4).map(
    lambda found: ipaddress.IPv6Address(f"::ffff:{found}")
)


@given(st.ip_addresses(v=6) | MAPPED, st.integers(0, 65535))
def test_both_versions_say_the_same_for_ipv6(
    address: ipaddress.IPv6Address, port: int
) -> None:
    line = f"PROXY TCP6 {address.exploded} ::1 {port} 443\r\n".encode()
    block = address.packed + bytes(16) + port.to_bytes(2, "big") + b"\1\xbb"
    by_line, by_block = (
        proxy_protocol.parse(line),
        proxy_protocol.parse(binary(0x21, block)),
    )
    assert by_line is not None
    assert by_block is not None
    assert by_line[0] is not None
    assert by_line[0] == by_block[0]
    expected = address.ipv4_mapped or address
    assert ipaddress.ip_address(by_line[0][0]) == expected


# --trusted-proxy


@pytest.mark.parametrize(
    ("cidrs", "address", "expected"),
    [
        ([], "127.0.0.1", False),
        ([], "", False),
        (["unix"], "", True),
        (["unix"], "127.0.0.1", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.1"], "", False),
        (["10.0.0.0/8", "::1"], "10.255.0.1", True),
        (["10.0.0.0/8", "::1"], "11.0.0.1", False),
        (["10.0.0.0/8", "::1"], "::1", True),
        (["10.0.0.0/8", "::1"], "::2", False),
        (["fe80::/10"], "fe80::1", True),
        (["0.0.0.0/0"], "::1", False),
        (["::/0"], "127.0.0.1", False),
        (["0.0.0.0/0", "::/0"], "localhost", False),
    ],
)
def test_trusted(cidrs: list[str], address: str, expected: bool) -> None:
    assert proxy_protocol.trusted_networks(iter(cidrs))(address) is expected


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "localhost", "", "10.0.0.0/33"])
def test_malformed_networks(cidr: str) -> None:
    with pytest.raises(ValueError, match=r"host bits|IPv4 or IPv6"):
        proxy_protocol.trusted_networks([cidr])
