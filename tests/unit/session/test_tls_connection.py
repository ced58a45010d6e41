"""A connection over TLS before its request: handshake, refusals, PROXY headers.

Time is injected.
"""

from __future__ import annotations

import socket

import pytest

from chimirror.session.connection import CLOSED, LINGERING
from chimirror.tls.certificates import Certificates
from serve import tcp_pair
from tls_harness import REFUSAL, certificates, connected

__all__ = ["certificates"]  # a fixture

LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
BLOCK = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)


def test_request_is_passed_on_after_the_handshake(certificates: Certificates) -> None:
    with connected(certificates) as harness:
        harness.client.shake_hands()
        harness.wait()
        harness.client._take()
        harness.client.tls.do_handshake()
        harness.client.is_established = True
        harness.client.tls.write(b"GET")
        last = harness.client.outgoing.read()  # of the handshake, with the request
        for at in range(len(last)):
            assert harness.handler.head == b""
            harness.say(last[at : at + 1])
        assert harness.handler.head == b"GET"
        assert harness.connection.peer_variables()["HTTPS"] == "on"
        assert harness.handler.calls == []


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01", b"\0"])
def test_client_without_tls_is_answered_in_the_clear(
    certificates: Certificates, first: bytes
) -> None:
    with connected(certificates) as harness:
        harness.say(first)
        harness.say(b"more")
        assert harness.handler.calls == [
            "this port speaks TLS; write https:// or wss://"
        ]
        assert harness.state == LINGERING
        harness.socket.shutdown(socket.SHUT_WR)
        assert harness.heard() == REFUSAL
        assert harness.state == CLOSED
        assert harness.handler.head == b""


def test_alert_precedes_the_close(certificates: Certificates) -> None:
    """Further input of the client does not reset the connection."""
    with connected(certificates, pair=tcp_pair()) as harness:
        harness.say(b"\x16\x03\x01\0\x05hello")
        harness.say(bytes(1 << 20))
        assert harness.handler.calls == ["TLS has failed: unexpected message"]
        harness.socket.shutdown(socket.SHUT_WR)
        alert = harness.heard()
        assert alert[:1] == b"\x15"
        assert len(alert) == 7
        assert harness.handler.calls[1:] == ["closed"]


def test_end_within_the_handshake(certificates: Certificates) -> None:
    with connected(certificates) as harness:
        harness.say(b"\x16\x03\x01")
        harness.socket.shutdown(socket.SHUT_WR)
        harness.wait()
        text = "the client has closed within the handshake of TLS"
        assert harness.handler.calls == [text, "closed"]


def test_end_before_the_handshake(certificates: Certificates) -> None:
    """Health checks only connect."""
    with connected(certificates) as harness:
        harness.socket.shutdown(socket.SHUT_WR)
        assert harness.heard() == b""
        assert harness.handler.calls == ["head eof", "closed"]


@pytest.mark.parametrize("size", [0, 3, 200])
def test_timeout_in_the_handshake(certificates: Certificates, size: int) -> None:
    """No response without TLS: the client could not read it."""
    with connected(certificates, "--handshake-timeout", "3") as harness:
        harness.client.socket = None
        harness.client.shake_hands()
        harness.say(harness.client.outgoing.read()[:size])
        harness.wait(2.9)
        assert harness.handler.calls == []
        harness.wait(0.2)
        assert harness.handler.calls == ["head timeout"]
        harness.connection.send_response(REFUSAL)
        harness.socket.shutdown(socket.SHUT_WR)
        assert REFUSAL not in harness.heard()
        assert harness.state == CLOSED


def test_failure_after_a_complete_request_is_no_refusal(
    certificates: Certificates,
) -> None:
    """The request was admitted in the same turn, and has its own end."""
    with connected(certificates) as harness:
        harness.shake_hands()
        head = harness.handler.on_head

        def pause(data: bytes) -> None:
            head(data)
            harness.connection.pause_until_response()

        harness.handler.on_head = pause  # type: ignore[method-assign]
        harness.client.tls.write(b"GET")
        harness.say(harness.client.outgoing.read() + b"\x17\x03\x03\0\x20" + bytes(32))
        assert harness.handler.head == b"GET"
        assert harness.handler.calls == ["closed"]


# The PROXY header


@pytest.mark.parametrize("header", [LINE, BLOCK])
@pytest.mark.parametrize("step", [1, 1000])
def test_proxy_header_before_tls(
    certificates: Certificates, header: bytes, step: int
) -> None:
    with connected(certificates, "--proxy-protocol") as harness:
        harness.client.socket = None
        harness.client.shake_hands()
        data = header + harness.client.outgoing.read()
        for at in range(0, len(data), step):
            harness.say(data[at : at + step])
        harness.client.socket = harness.socket
        harness.shake_hands()
        harness.client.write(b"GET")
        harness.wait()
        assert harness.handler.head == header + b"GET"
        assert harness.handler.calls == []


@pytest.mark.parametrize("header", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", LINE[:9]])
def test_proxy_header_is_answered_in_the_clear(
    certificates: Certificates, header: bytes
) -> None:
    """The handler decides about it, as without TLS."""
    with connected(certificates, "--proxy-protocol") as harness:
        for at in range(len(header)):
            harness.say(header[at : at + 1])
        assert harness.handler.head == header
        harness.connection.send_response(REFUSAL)
        harness.socket.shutdown(socket.SHUT_WR)
        assert harness.heard() == REFUSAL


def test_client_without_tls_behind_a_proxy(certificates: Certificates) -> None:
    with connected(certificates, "--proxy-protocol") as harness:
        harness.say(LINE + b"GET / HTTP/1.1\r\n\r\n")
        assert harness.handler.head == LINE
        harness.socket.shutdown(socket.SHUT_WR)
        assert harness.heard() == REFUSAL
