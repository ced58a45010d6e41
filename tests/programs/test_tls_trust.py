"""Certificates of servers that are not trusted, with real handshakes.

Both APIs raise an exception for each fault, and chimirror-connect prints a line.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from chimirror.client import Untrusted
from client_apis import APIS
from tls_authority import authority, context_of, stranger, tls_server
from tls_places import Authorities, Place, Server, by, failure, report, serving, url_of

__all__ = ["authority", "by", "stranger"]


def unknown_authority(by: Authorities) -> AbstractContextManager[Place]:
    return serving(context_of(by.other.issue("127.0.0.1")), ca=by.known.file)


def whole_chain(by: Authorities) -> AbstractContextManager[Place]:
    """The chain has the root, which is not trusted."""
    leaf = by.other.issue("127.0.0.1")
    leaf.cert.write_bytes(leaf.cert.read_bytes() + by.other.file.read_bytes())
    return serving(context_of(leaf), ca=by.known.file)


def self_signed(by: Authorities) -> AbstractContextManager[Place]:
    return serving(context_of(by.other.self_signed()), ca=by.known.file)


def expired(by: Authorities) -> AbstractContextManager[Place]:
    leaf = by.known.issue("127.0.0.1", days=(-3, -1))
    return serving(context_of(leaf), ca=by.known.file)


def not_yet_valid(by: Authorities) -> AbstractContextManager[Place]:
    leaf = by.known.issue("127.0.0.1", days=(1, 3))
    return serving(context_of(leaf), ca=by.known.file)


def wrong_address(by: Authorities) -> AbstractContextManager[Place]:
    leaf = by.known.issue("a.example", "*.b.example", "10.0.0.1")
    return serving(context_of(leaf), ca=by.known.file)


@contextmanager
def wrong_name(by: Authorities) -> Iterator[Place]:
    with wrong_address(by) as place:
        yield place._replace(host="localhost")


def wrong_name_and_expired(by: Authorities) -> AbstractContextManager[Place]:
    """No name is shown of a certificate that would not be trusted either."""
    leaf = by.known.issue("a.example", days=(-3, -1))
    return serving(context_of(leaf), ca=by.known.file)


SELF = "it is self-signed; if it is your own, trust it with {ca}"
UNKNOWN = (
    "its authority is not known here, or the server does not send its whole chain; "
    "name the authority with {ca}"
)
EXPIRED = (
    "it has expired; the server needs a new one, or the clock of this machine is wrong"
)
CURE = "use a name of the certificate in the URL, or issue one for"
NAMES = "a.example, *.b.example, 10.0.0.1"
UNTRUSTED: dict[Server, tuple[str, str]] = {
    unknown_authority: ("unknown authority", UNKNOWN),
    whole_chain: ("unknown authority", UNKNOWN),
    self_signed: ("self-signed", SELF),
    expired: (
        "expired",
        EXPIRED,
    ),
    not_yet_valid: (
        "not yet valid",
        "it is not valid yet; check the clocks of both machines",
    ),
    wrong_address: (
        "wrong name",
        f"it is for {NAMES}, not for 127.0.0.1; {CURE} 127.0.0.1",
    ),
    wrong_name: (
        "wrong name",
        f"it is for {NAMES}, not for localhost; {CURE} localhost",
    ),
    wrong_name_and_expired: (
        "wrong name",
        f"it is for other names, not for 127.0.0.1; {CURE} 127.0.0.1",
    ),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("server", UNTRUSTED)
def test_the_certificate_of_the_server(
    server: Server, api: str, by: Authorities
) -> None:
    fault, reason = UNTRUSTED[server]
    with server(by) as place:
        error = failure(place, api)
    assert isinstance(error, Untrusted)
    assert (error.fault, error.retry) == (fault, False)
    assert error.names == (tuple(NAMES.split(", ")) if NAMES in reason else ())
    assert str(error) == (
        f"TLS failure: the certificate of {place.host} port {place.port} is not "
        f"trusted: {reason.format(ca='ca=FILE')}"
    )


@pytest.mark.parametrize("server", UNTRUSTED)
def test_the_line_about_the_certificate(server: Server, by: Authorities) -> None:
    _, reason = UNTRUSTED[server]
    with server(by) as place:
        line = report(place)
    assert line == (
        f"TLS failure: the certificate of {place.host} port {place.port} is not "
        f"trusted: {reason.format(ca='--ca FILE')}"
    )


@pytest.mark.parametrize("api", APIS)
def test_an_untrusted_certificate_is_final(api: str, by: Authorities) -> None:
    """The next server would accept. A list says which server is not trusted."""
    with (
        tls_server(context_of(by.known.issue("127.0.0.1"))) as port,
        unknown_authority(by) as place,
    ):
        error = failure(place, api, f"wss://127.0.0.1:{port}/")
    assert isinstance(error, Untrusted)
    assert str(error).startswith(f"{url_of(place)}: TLS failure: the certificate")


# Contexts of the caller.


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("revokes", "fault", "reason"),
    [
        (True, "revoked", "its authority has revoked it; the server needs a new one"),
        (False, "other", "unable to get certificate CRL"),
    ],
)
def test_revoked(
    revokes: bool, fault: str, reason: str, api: str, by: Authorities
) -> None:
    leaf = by.known.issue("127.0.0.1")
    context = ssl.create_default_context(cafile=by.known.file)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if revokes:
        context.load_verify_locations(by.known.revoke(leaf))
    with tls_server(context_of(leaf)) as port:
        error = failure(Place(port, {"ssl": context}), api)
    assert isinstance(error, Untrusted)
    assert error.fault == fault
    assert str(error).endswith(f" port {port} is not trusted: {reason}")


@pytest.mark.parametrize("api", APIS)
def test_names_with_a_context_of_the_caller(api: str, by: Authorities) -> None:
    with wrong_address(by) as place:
        context = ssl.create_default_context(cafile=by.known.file)
        error = failure(place._replace(options={"ssl": context}), api)
    assert isinstance(error, Untrusted)
    assert (error.fault, error.names) == ("wrong name", ())
    assert "it is for other names, not for 127.0.0.1" in str(error)
