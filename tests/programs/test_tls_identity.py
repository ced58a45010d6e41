"""Clients over TLS whose identity an authorizer has to find out first."""

from __future__ import annotations

import base64
import ssl
import sys
from pathlib import Path

import pytest

from authorizers import HELPER
from processes import MARK, read, until
from serve import SERVICES, server
from tls_authority import Authority, authority, stranger
from tls_peers import TLS_1_2, TLS_1_3, connect, tls_options
from websocket_peer import Closed, stdin, text, upgrade

__all__ = ["authority", "stranger"]  # fixtures

SHOW = ["sh", "-c", 'echo "$REMOTE_USER $AUTH_TYPE $HTTPS"; exec cat']
AUTHORIZE = ("--authorize", f"exec:{sys.executable} {HELPER}", "--pass-env", MARK)
OPTIONS = ("--framing=stdio", *AUTHORIZE)
OPEN = {"01", "08"}  # established, or closed by the client alone


def handshake(words: str) -> bytes:
    """Return a request. The words tell the helper how to answer."""
    login = base64.b64encode(f"{words}:secret".encode()).decode()
    return upgrade("/", "stdio", (f"Authorization: Basic {login}",))


@pytest.mark.parametrize("transport", ["server", "socat", "socat-pipes"])
def test_a_helper_names_the_user(
    tmp_path: Path, authority: Authority, transport: str
) -> None:
    """The first message comes with the request, and waits for the answer too."""
    options = tls_options(authority, *OPTIONS)
    with (
        SERVICES[transport](tmp_path, SHOW, *options) as service,
        connect(service, authority) as peer,
    ):
        peer.send_raw(handshake("yes ann") + text(stdin(b"early\n")))
        assert peer.head().status == 101
        expected = b"ann Basic on\nearly\n"
        assert peer.output(len(expected)) == expected
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_messages_before_a_late_answer(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    """They stay encrypted in the kernel until then, and none is lost."""
    options = tls_options(authority, "--workers=1", *OPTIONS)
    content = bytes(range(256)) * 400
    with (
        server(tmp_path, SHOW, *options) as service,
        connect(service, authority, version) as peer,
    ):
        peer.send_raw(handshake("late"))
        peer.send(stdin(content))
        with connect(service, authority) as other:
            other.send_raw(handshake("yes ann"))
            assert other.head().status == 101
        assert peer.head().status == 101
        expected = b"late Basic on\n" + content
        assert peer.output(len(expected)) == expected


def test_a_helper_refuses(tmp_path: Path, authority: Authority) -> None:
    with (
        server(tmp_path, SHOW, *tls_options(authority, *OPTIONS)) as service,
        connect(service, authority) as peer,
    ):
        peer.send_raw(handshake("no"))
        reply = peer.refusal()
        assert reply.status == 401
        assert reply.body.endswith(b": wrong\n")
        assert reply.fields["www-authenticate"] == 'Basic realm="x"'


def connections(port: int) -> int:
    """Return the connections of a server that it has not closed (proc_pid_net(5))."""
    rows = read("/proc/net/tcp").decode().splitlines()[1:]
    found = (row.split()[1:4:2] for row in rows)
    return sum(
        local.endswith(f":{port:04X}") and state in OPEN for local, state in found
    )


def test_the_client_goes_meanwhile(tmp_path: Path, authority: Authority) -> None:
    """Its connection is closed long before the time limit of an answer."""
    options = ("--workers=1", "--authorize-timeout=1h", *OPTIONS)
    with server(tmp_path, SHOW, *tls_options(authority, *options)) as service:
        with connect(service, authority) as peer:
            peer.send_raw(handshake("hang"))
            with connect(service, authority) as other:  # the helper takes turns
                other.send_raw(handshake("no"))
                assert other.refusal().status == 401
            until(lambda: connections(service.port) == 1, "only the first is there")
        until(lambda: not connections(service.port), "the server has closed it")
