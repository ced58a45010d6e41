"""Failures of TLS other than the certificate of the server, with real handshakes.

Both APIs raise an exception for each, and chimirror-connect prints a line.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

import serve
from chimirror.client import TLSFailure
from client_apis import APIS
from nginx_proxy import running_nginx
from tls_authority import accepting, authority, context_of, stranger, tls_server
from tls_places import Authorities, Place, Server, by, failure, report, serving

__all__ = ["authority", "by", "stranger"]


def mutual(
    by: Authorities, version: ssl.TLSVersion, **options: Any
) -> AbstractContextManager[Place]:
    """A server that requires a certificate of the authority that it trusts."""
    context = context_of(by.known.issue("127.0.0.1"), clients=by.known)
    context.maximum_version = version
    return serving(context, ca=by.known.file, **options)


TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def no_certificate(by: Authorities) -> AbstractContextManager[Place]:
    return mutual(by, TLS_1_3)


def no_certificate_1_2(by: Authorities) -> AbstractContextManager[Place]:
    return mutual(by, TLS_1_2)


def strange_certificate(by: Authorities) -> AbstractContextManager[Place]:
    return mutual(by, TLS_1_3, cert=by.other.issue("me@a.example").both)


def strange_certificate_1_2(by: Authorities) -> AbstractContextManager[Place]:
    return mutual(by, TLS_1_2, cert=by.other.issue("me@a.example").both)


def old_certificate(by: Authorities) -> AbstractContextManager[Place]:
    mine = by.known.issue("me@a.example", days=(-3, -1))
    return mutual(by, TLS_1_3, cert=mine.both)


def early_certificate(by: Authorities) -> AbstractContextManager[Place]:
    mine = by.known.issue("me@a.example", days=(1, 3))
    return mutual(by, TLS_1_3, cert=mine.both)


@contextmanager
def plain(by: Authorities) -> Iterator[Place]:
    """A real server without TLS."""
    directory = by.known.directory / "plain"
    directory.mkdir()
    with serve.server(directory, ["cat"]) as service:
        yield Place(service.port, {})


@contextmanager
def hang_up(by: Authorities) -> Iterator[Place]:
    """A server that ends connections at their first bytes."""
    with accepting(lambda connection: connection.recv(1)) as port:
        yield Place(port, {})


def old_version(by: Authorities) -> AbstractContextManager[Place]:
    context = context_of(by.known.issue("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return serving(context, ca=by.known.file)


def no_common_cipher(by: Authorities) -> AbstractContextManager[Place]:
    context = context_of(by.known.issue("127.0.0.1"))
    context.maximum_version = TLS_1_2
    context.set_ciphers("AES128-SHA")
    return serving(context, ca=by.known.file)


@contextmanager
def other_name(by: Authorities) -> Iterator[Place]:
    """A server that knows only the names of its own certificates."""
    context = context_of(by.known.issue("a.example"))
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with serving(context, ca=by.known.file) as place:
        yield place._replace(host="localhost")


@contextmanager
def openssl_server(by: Authorities, *options: str, **given: Any) -> Iterator[Place]:
    pair = by.known.issue("127.0.0.1")
    files = ["-cert", str(pair.cert), "-key", str(pair.key)]
    argv = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www", *files, *options]
    with serve.running(by.known.directory, argv, "s_server") as service:
        port = service.find(r"ACCEPT 127\.0\.0\.1:(\d+)")
        yield Place(int(port), {"ca": by.known.file, **given})


def openssl_no_certificate(by: Authorities) -> AbstractContextManager[Place]:
    checks = ["-Verify", "1", "-verify_return_error", "-CAfile", str(by.known.file)]
    return openssl_server(by, *checks)


def openssl_strange_certificate(by: Authorities) -> AbstractContextManager[Place]:
    checks = ["-Verify", "1", "-verify_return_error", "-CAfile", str(by.known.file)]
    return openssl_server(by, *checks, cert=by.other.issue("me@a.example").both)


def openssl_other_protocol(by: Authorities) -> AbstractContextManager[Place]:
    return openssl_server(by, "-alpn", "h2")


@contextmanager
def nginx(by: Authorities, scheme: str, **options: Any) -> Iterator[Place]:
    """nginx lets the handshake succeed and answers with a page."""
    pair = by.known.issue("127.0.0.1")
    with serve.reserved() as port:
        site = f"""server {{
            listen 127.0.0.1:{port} ssl;
            ssl_certificate {pair.cert};
            ssl_certificate_key {pair.key};
            ssl_client_certificate {by.known.file};
            ssl_verify_client on;
        }}"""
        with running_nginx(by.known.directory, site, port):
            yield Place(port, options, scheme=scheme)


def nginx_plain(by: Authorities) -> AbstractContextManager[Place]:
    return nginx(by, "ws")


def nginx_no_certificate(by: Authorities) -> AbstractContextManager[Place]:
    return nginx(by, "wss", ca=by.known.file)


def nginx_strange_certificate(by: Authorities) -> AbstractContextManager[Place]:
    mine = by.other.issue("me@a.example")
    return nginx(by, "wss", ca=by.known.file, cert=mine.both)


@contextmanager
def own(by: Authorities, scheme: str, **options: Any) -> Iterator[Place]:
    """chimirror-server, which requires a certificate."""
    pair = by.known.issue("127.0.0.1")
    files = ("--tls-cert", str(pair.both), "--tls-client-ca", str(by.known.file))
    with serve.server(by.known.directory, ["cat"], *files) as service:
        yield Place(service.port, options, scheme=scheme)


def own_plain(by: Authorities) -> AbstractContextManager[Place]:
    return own(by, "ws")


def own_no_certificate(by: Authorities) -> AbstractContextManager[Place]:
    return own(by, "wss", ca=by.known.file)


def own_strange_certificate(by: Authorities) -> AbstractContextManager[Place]:
    mine = by.other.issue("me@a.example")
    return own(by, "wss", ca=by.known.file, cert=mine.both)


REQUIRED = "requires a client certificate; give yours with {cert}"
ANOTHER = "; give another with {cert}"
REFUSED = "refuses the client certificate: "
UNKNOWN_THERE = f"{REFUSED}its authority is not known there{ANOTHER}"
HANDSHAKE = (
    "refuses the handshake: it requires a client certificate ({cert}), or both sides "
    "share no cipher"
)
FINAL = {"certificate required", "certificate refused"}
FAILURES: dict[Server, tuple[str, str]] = {
    no_certificate: ("certificate required", REQUIRED),
    no_certificate_1_2: ("handshake refused", HANDSHAKE),
    openssl_no_certificate: ("certificate required", REQUIRED),
    own_no_certificate: ("certificate required", REQUIRED),
    nginx_no_certificate: ("certificate required", REQUIRED),
    strange_certificate: ("certificate refused", UNKNOWN_THERE),
    strange_certificate_1_2: ("certificate refused", UNKNOWN_THERE),
    openssl_strange_certificate: ("certificate refused", UNKNOWN_THERE),
    own_strange_certificate: ("certificate refused", UNKNOWN_THERE),
    nginx_strange_certificate: (
        "certificate refused",
        f"{REFUSED}the check of the server failed{ANOTHER}",
    ),
    old_certificate: ("certificate refused", f"{REFUSED}it has expired{ANOTHER}"),
    early_certificate: ("certificate refused", f"{REFUSED}it is not valid{ANOTHER}"),
    plain: ("no TLS", "does not speak TLS; use ws:// for it"),
    own_plain: ("TLS required", "speaks TLS on this port; use wss:// for it"),
    nginx_plain: ("TLS required", "speaks TLS on this port; use wss:// for it"),
    hang_up: (
        "closed",
        "closed the connection during the handshake; if it has no TLS, use ws://",
    ),
    old_version: (
        "protocol version",
        "and this client share no version of TLS; update the older of both",
    ),
    no_common_cipher: ("handshake refused", HANDSHAKE),
    other_name: (
        "unknown name",
        "has no certificate for localhost; check the name in the URL",
    ),
    openssl_other_protocol: ("other", ": alert no application protocol"),
}


def expected_text(place: Place, text: str, **names: str) -> str:
    space = "" if text.startswith(":") else " "
    return f"TLS failure: {place.host} port {place.port}{space}{text.format(**names)}"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("server", FAILURES)
def test_other_failures(server: Server, api: str, by: Authorities) -> None:
    fault, text = FAILURES[server]
    with server(by) as place:
        error = failure(place, api)
    assert str(error) == expected_text(place, text, cert="cert=FILE")
    assert type(error) is TLSFailure
    assert (error.fault, error.retry) == (fault, fault not in FINAL)


@pytest.mark.parametrize("server", FAILURES)
def test_the_line_about_other_failures(server: Server, by: Authorities) -> None:
    _, text = FAILURES[server]
    with server(by) as place:
        line = report(place)
    assert line == expected_text(place, text, cert="--cert FILE")


@pytest.mark.parametrize("api", APIS)
def test_plain_requests_to_a_server_that_only_hangs_up(
    api: str, by: Authorities
) -> None:
    """OpenSSL answers plain HTTP with the end of the connection, or with a reset."""
    with tls_server(context_of(by.known.issue("127.0.0.1"))) as port:
        error = failure(Place(port, {}, scheme="ws"), api)
    assert error.retry
    assert re.search(r"closed the connection .*should it be wss://\?", str(error))


GO = (
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x03\x00\x02\x02\x0a",  # an alert: unexpected_message
        b"\x15\x03\x01\x00\x02\x02\x46",  # protocol_version
        GO,
    ],
)
def test_answers_of_servers_with_tls_to_plain_requests(answer: bytes) -> None:
    with (
        accepting(lambda connection: connection.sendall(answer)) as port,
        pytest.raises(TLSFailure) as caught,
        APIS["blocking"](f"ws://127.0.0.1:{port}/"),
    ):
        pass
    assert caught.value.fault == "TLS required"
