"""Addresses and authorities, with ipaddress as the reference."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.protocol import addresses

PACKED_4 = st.binary(min_size=4, max_size=4)
# Frequent zeros, so that runs of them meet.
PACKED_6 = st.lists(
    st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff", b"\xab\xcd"]),
    min_size=8,
    max_size=8,
).map(b"".join) | st.binary(min_size=16, max_size=16)
NEAR_ADDRESSES = st.text("0123456789abcdefABCDEF:.:.[]% -+_g٣²", max_size=45)


def reference(text: str) -> bytes | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else found.packed


@given(NEAR_ADDRESSES)
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1:2:3:4:5:6:7:8::")
@example("1::2::3")
@example(":::")
@example("::1.2.3.4")
@example("1.2.3.4::")
@example("1:2:3:4:5:6:1.2.3.4")
@example("1:2:3:4:5:6:7:1.2.3.4")
@example("::1.2.3.04")
@example("::1%lo")
@example("1.2.3")
@example("1.2.3.4.5")
@example("1.2.3.256")
@example("")
def test_equals_the_reference(text: str) -> None:
    packed = addresses.ipv4(text) or addresses.ipv6(text)
    assert packed == reference(text)
    assert (addresses.canonical(text) is None) == (packed is None)


@given(PACKED_4)
def test_ipv4_text_and_back(packed: bytes) -> None:
    text = addresses.ipv4_text(packed)
    assert text == str(ipaddress.IPv4Address(packed))
    assert addresses.ipv4(text) == packed
    assert addresses.canonical(text) == text


@given(PACKED_6)
@example(bytes(16))
@example(bytes(15) + b"\1")
@example(b"\0\1" + bytes(4) + b"\0\1" + bytes(6) + b"\0\1")
@example(b"\0\1\0\0" * 4)
@example(bytes(10) + b"\xff\xff\1\2\3\4")
def test_ipv6_text_and_back(packed: bytes) -> None:
    text = addresses.ipv6_text(packed)
    assert addresses.ipv6(text) == packed
    assert addresses.canonical(text) == text
    # inet_ntop writes more of the old embeddings with dots
    if packed[:10] != bytes(10):
        assert text == socket.inet_ntop(socket.AF_INET6, packed)
    exploded = ipaddress.IPv6Address(packed).exploded
    assert addresses.canonical(exploded.upper()) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", 0),
        ("9", 9),
        ("65535", 65535),
        ("65536", -1),
        ("100000", -1),
        ("00", -1),
        ("08", -1),
        ("", -1),
        ("-1", -1),
        ("+1", -1),
        (" 1", -1),
        ("1_0", -1),
        ("٣", -1),
        ("²", -1),
    ],
)
def test_decimal(text: str, found: int) -> None:
    assert addresses.decimal(text, 65535) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost", ("localhost", 0)),
        ("LocalHost:8080", ("localhost", 8080)),
        ("my_service.local-net:1", ("my_service.local-net", 1)),
        ("example.org.", ("example.org.", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("[::1]", ("[::1]", 0)),
        ("[0:0:0:0:0:0:0:1]:80", ("[::1]", 80)),
        ("[2001:DB8::A]", ("[2001:db8::a]", 0)),
        ("", None),
        (":80", None),
        ("host:", None),
        ("host:0", None),
        ("host:080", None),
        ("host:65536", None),
        ("host:80:80", None),
        ("host:-1", None),
        ("user@host", None),
        ("user:pw@host", None),
        ("host/", None),
        ("ho st", None),
        ("h%6fst", None),
        ("host,host", None),
        ("::1", None),
        ("[::1", None),
        ("[::1]80", None),
        ("[::1]:", None),
        ("[::1]]", None),
        ("[::1%lo]", None),
        ("[127.0.0.1]", None),
        ("[]", None),
        ("[", None),
        ("höst", None),
        ("\N{KELVIN SIGN}.example", None),  # its lower case is "k"
    ],
)
def test_authority(text: str, found: tuple[str, int] | None) -> None:
    assert addresses.authority(text) == found


@given(st.text(max_size=30) | NEAR_ADDRESSES)
def test_authority_round_trip(text: str) -> None:
    place = addresses.authority(text)
    if place is not None:
        host, port = place
        assert addresses.authority(f"{host}:{port}" if port else host) == place


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("127.0.0.1", True),
        ("[::1]", True),
        ("127.1", False),
        ("2130706433", False),
        ("0x7f.0.0.1", False),
        ("127.0.0.1.", False),
        ("127.0.0.1.evil.example", False),
        ("localhost", False),
    ],
)
def test_literal(host: str, literal: bool) -> None:
    assert addresses.is_literal(host) is literal


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0:c000:201", "::ffff:0:c000:201"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_plain_addresses(address: str, plain: str) -> None:
    assert addresses.plain_address(address) == plain
