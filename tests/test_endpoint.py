"""Addresses to listen on: what is taken, and what is said of the rest."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.system import endpoint
from chimirror.system.endpoint import ListenError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:30747", ("127.0.0.1", 30747)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%lo]:80", ("fe80::1%lo", 80)),
    ],
)
def test_taken_apart(text: str, found: tuple[str, int]) -> None:
    assert endpoint.split(text) == found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "write :30747"),
        ("30747", "write 127.0.0.1:30747"),
        ("localhost", "write localhost:30747"),
        ("[::1]", "write [::1]:30747"),
        ("::1", "write [::1]:30747"),
        ("fe80::1:80", "write [fe80::1]:80 or [fe80::1:80]:30747"),
        ("a:b:c", "write [ADDRESS]:PORT"),
        ("a\0:b:c", "write [ADDRESS]:PORT"),
        (":80", "0.0.0.0:80 or [::]:80 for every network"),
        ("*:80", "write 127.0.0.1:80 for this machine alone"),
        ("localhost:http", "write a number from 0 to 65535"),
        ("localhost:65536", "write a number from 0 to 65535"),
        ("localhost:000080", "write a number from 0 to 65535"),
        ("localhost:٣", "write a number from 0 to 65535"),
        ("localhost:", "write a number from 0 to 65535"),
        ("[localhost]:80", "write [::1]:PORT"),
        ("[::1:80", "write [::1]:PORT"),
        ("/run/a.sock", "write unix:/run/NAME.sock"),
        ("@name", "write unix:/run/NAME.sock"),
    ],
)
def test_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(ListenError) as refused:
        endpoint.split(text)
    assert hint in str(refused.value)


def test_a_name_gives_each_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    monkeypatch.setattr(endpoint, "getaddrinfo", lambda *_: [entry, entry])
    assert endpoint.resolve("name", 80) == [(socket.AF_INET, ("127.0.0.1", 80))]


def test_literals_are_not_looked_up() -> None:
    assert endpoint.resolve("::1", 80) == [(socket.AF_INET6, ("::1", 80, 0, 0))]
    with pytest.raises(ListenError, match="write an IP address"):
        endpoint.resolve("::1::", 80)


def test_what_is_no_name() -> None:
    with pytest.raises(ListenError, match="is no host name; write an IP address"):
        endpoint.resolve("a" * 70 + ".example", 80)


ADDRESSES = st.ip_addresses().map(str)


@given(ADDRESSES)
def test_loopback_as_ipaddress_sees_it(text: str) -> None:
    found = ipaddress.ip_address(text)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    assert endpoint.is_loopback(text) == (mapped or found).is_loopback


@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback(text: str) -> None:
    assert endpoint.is_loopback(text)


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "::2", "localhost", "", "fe80::1%lo"]
)
def test_not_loopback(text: str) -> None:
    assert not endpoint.is_loopback(text)
