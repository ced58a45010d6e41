"""Addresses to listen on: the accepted forms, and the hints for others."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.io import listen_address
from chimirror.io.listen_address import ListenError


def test_a_name_gives_each_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    monkeypatch.setattr(listen_address, "getaddrinfo", lambda *_: [entry, entry])
    assert listen_address.resolve("name", 80) == [(socket.AF_INET, ("127.0.0.1", 80))]


def test_literals_are_not_looked_up() -> None:
    assert listen_address.resolve("::1", 80) == [(socket.AF_INET6, ("::1", 80, 0, 0))]
    with pytest.raises(ListenError, match="write an IP address"):
        listen_address.resolve("::1::", 80)


def test_mapped_addresses_are_of_ipv4() -> None:
    expected = [(socket.AF_INET, ("192.0.2.1", 80))]
    assert listen_address.resolve("::ffff:192.0.2.1", 80) == expected
    assert listen_address.resolve("::ffff:c000:201", 80) == expected


def test_invalid_names_are_rejected() -> None:
    with pytest.raises(ListenError, match="is not a host name; write an IP address"):
        listen_address.resolve("a" * 70 + ".example", 80)


ADDRESSES = st.ip_addresses().map(str)


@given(ADDRESSES)
def test_loopback_agrees_with_ipaddress(text: str) -> None:
    found = ipaddress.ip_address(text)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    assert listen_address.is_loopback(text) == (mapped or found).is_loopback


@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback(text: str) -> None:
    assert listen_address.is_loopback(text)


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "::2", "localhost", "", "fe80::1%lo"]
)
def test_not_loopback(text: str) -> None:
    assert not listen_address.is_loopback(text)
