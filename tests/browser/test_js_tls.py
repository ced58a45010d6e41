"""TLS in Node: the words of chimirror.js for each fault, with real handshakes.

A browser hides the faults from a page.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from client_scripts import send_session
from fake_server import Remote
from js_runners import Node
from tls_authority import (
    STATUS,
    Authority,
    accepting,
    authority,
    context_of,
    exit_at_once,
    stranger,
    tls_server,
)

__all__ = ["authority", "stranger"]

Context = Callable[[Authority, Authority], ssl.SSLContext]


@pytest.fixture(autouse=True)
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(authority.file))


def connect(port: int) -> Any:
    urls = [f"wss://127.0.0.1:{port}/"]
    with Node().run_case("failover", "", urls=urls) as case:
        return case.result()


def self_signed(known: Authority, other: Authority) -> ssl.SSLContext:
    return context_of(other.self_signed())


def unknown_authority(known: Authority, other: Authority) -> ssl.SSLContext:
    return context_of(other.issue("127.0.0.1"))


def expired(known: Authority, other: Authority) -> ssl.SSLContext:
    return context_of(known.issue("127.0.0.1", days=(-3, -1)))


def not_yet_valid(known: Authority, other: Authority) -> ssl.SSLContext:
    return context_of(known.issue("127.0.0.1", days=(1, 3)))


def wrong_name(known: Authority, other: Authority) -> ssl.SSLContext:
    return context_of(known.issue("a.example"))


def required(known: Authority, other: Authority) -> ssl.SSLContext:
    context = context_of(known.issue("127.0.0.1"), clients=known)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def old_version(known: Authority, other: Authority) -> ssl.SSLContext:
    context = context_of(known.issue("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


UNTRUSTED = "the certificate of {} is not trusted: "
TRUST = "trust its authority with NODE_EXTRA_CA_CERTS"
FAULTS: dict[Context, str] = {
    self_signed: f"{UNTRUSTED}it is self-signed; if it is your own, {TRUST} (",
    unknown_authority: f"{UNTRUSTED}its authority is not known here; {TRUST} (",
    expired: f"{UNTRUSTED}it has expired; the server needs a new one (",
    not_yet_valid: f"{UNTRUSTED}it is not valid yet; check the clocks of both machines",
    wrong_name: f"{UNTRUSTED}it is for other names; use one of them in the URL (",
    required: "{} requires a client certificate, or shares no cipher with Node (",
    old_version: "{} shares no version of TLS with Node (",
}


@pytest.mark.parametrize("make_context", FAULTS)
def test_faults(
    make_context: Context, authority: Authority, stranger: Authority
) -> None:
    with tls_server(make_context(authority, stranger)) as port:
        result = connect(port)
    assert result["message"].startswith(
        FAULTS[make_context].format(f"127.0.0.1:{port}")
    )


def test_a_server_without_tls() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with accepting(answer) as port:
        message = connect(port)["message"]
    assert message.startswith(f"127.0.0.1:{port} does not speak TLS; use ws:// (")


def test_an_authority_of_the_environment(authority: Authority) -> None:
    def handler(remote: Remote) -> None:
        send_session(remote)
        exit_at_once(remote)

    with tls_server(context_of(authority.issue("127.0.0.1")), handler) as port:
        result = connect(port)
    assert result["exit"]["code"] == STATUS
