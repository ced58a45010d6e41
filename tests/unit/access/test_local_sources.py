"""Proxy, certificate and local user: each tells a name, refuses, or knows nothing."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from authorizers import AuthorizingHost
from chimirror.access import ALLOWED, FORBIDDEN
from chimirror.access.factory import make_access_control
from chimirror.access.local_sources import (
    CertificateSource,
    Client,
    LocalSource,
    ProxySource,
)
from chimirror.config import parser
from chimirror.protocol.http import HTTPRequest
from loops import event_loop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chimirror.access import Answer
    from chimirror.access.authorizer import AuthorizerHost
    from chimirror.access.local_sources import Source

CERTIFICATE = {
    "subject": ((("organizationName", "Example, Inc"),), (("commonName", "ann"),)),
    "subjectAltName": (
        ("DNS", "ann.example.org"),
        ("email", "ann@example.org"),
        ("URI", "spiffe://example.org/ann"),
    ),
}


def client(
    *fields: tuple[str, str],
    is_proxied: bool = False,
    uid: int = -1,
    fd: int = -1,
    certificate: Mapping[str, Any] | None = None,
) -> Client:
    request = HTTPRequest(
        "GET", "/", [(name.encode(), value.encode()) for name, value in fields]
    )
    return Client(
        request, is_proxied=is_proxied, uid=uid, fd=fd, certificate=certificate
    )


def known(answer: Answer | None) -> tuple[str, str, tuple[str, ...]]:
    assert answer is not None
    assert answer.status == ALLOWED
    assert answer.identity is not None
    identity = answer.identity
    assert identity.applications is None
    return identity.user, identity.auth_type, identity.groups


def refused(answer: Answer | None) -> str:
    assert answer is not None
    assert answer.status == FORBIDDEN
    assert answer.identity is None
    return answer.text


# The proxy


PROXY = ProxySource("Remote-User", "Remote-Groups")


def test_a_trusted_proxy_names_the_user() -> None:
    found = client(
        ("remote-user", "änn"),
        ("remote-groups", "staff, ops,,"),
        is_proxied=True,
    )
    assert known(PROXY.ask(found)) == ("änn", "Proxy", ("staff", "ops"))
    assert known(ProxySource("remote-USER").ask(found)) == ("änn", "Proxy", ())


def test_latin_1_of_a_proxy_is_read() -> None:
    request = HTTPRequest("GET", "/", [(b"remote-user", "änn".encode("latin-1"))])
    found = Client(request, is_proxied=True, uid=-1, fd=-1, certificate=None)
    assert known(PROXY.ask(found))[0] == "änn"


@pytest.mark.parametrize(
    "fields", [(), (("remote-user", ""),), (("remote-groups", "staff"),)]
)
def test_a_proxy_may_name_nobody(fields: tuple[tuple[str, str], ...]) -> None:
    assert PROXY.ask(client(*fields, is_proxied=True)) is None


def test_others_name_nobody() -> None:
    assert PROXY.ask(client(("remote-user", "ann"))) is None


@pytest.mark.parametrize("name", ["remote-user", "remote-groups"])
def test_a_field_beside_that_of_a_client_is_refused(name: str) -> None:
    fields = [("remote-user", "ann"), ("remote-groups", "staff"), (name, "root")]
    answer = PROXY.ask(client(*fields, is_proxied=True))
    assert refused(answer) == "the proxy adds its field to that of the client"


@pytest.mark.parametrize("value", ["a\x07", "x" * 257, "ann,bob"])
def test_a_name_that_none_can_have_is_refused(value: str) -> None:
    answer = PROXY.ask(client(("remote-user", value), is_proxied=True))
    assert refused(answer) == "the proxy names no valid user"


# The certificate


def test_the_certificate_of_a_proxy_names_no_client() -> None:
    found = client(certificate=CERTIFICATE, is_proxied=True)
    assert CertificateSource("cn").ask(found) is None
    assert known(CertificateSource("cn", of_proxies=True).ask(found))[0] == "ann"


@pytest.mark.parametrize(
    ("required", "of_proxies"),
    [
        ("", False),
        ("certificate", False),
        ("proxy,certificate", False),
        ("certificate,proxy", True),
    ],
)
def test_another_source_names_the_client_of_a_proxy(
    required: str, *, of_proxies: bool
) -> None:
    options = ["--trusted-proxy", "192.0.2.1", "--user-certificate", "cn"]
    if "proxy" in required:
        options += ["--user-header", "X-User"]
    options += ["--require", required] if required else []
    config = parser.parse_bridge([*options, "cat"])
    with event_loop() as loop:
        host = cast("AuthorizerHost", AuthorizingHost(loop))
        access = make_access_control(config, host, None, {})
    found = client(certificate=CERTIFICATE, is_proxied=True)
    assert (access._sources["certificate"].ask(found) is not None) is of_proxies


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("subject", r"CN=ann,O=Example\, Inc"),
        ("cn", "ann"),
        ("email", "ann@example.org"),
        ("dns", "ann.example.org"),
        ("uri", "spiffe://example.org/ann"),
    ],
)
def test_a_part_of_the_certificate_is_the_user(part: str, name: str) -> None:
    answer = CertificateSource(part).ask(client(certificate=CERTIFICATE))
    assert known(answer) == (name, "Certificate", ())


def test_without_a_certificate_nobody_is_known() -> None:
    assert CertificateSource("cn").ask(client()) is None


@pytest.mark.parametrize("part", ["subject", "cn", "email", "dns", "uri"])
def test_a_certificate_without_that_part_is_refused(part: str) -> None:
    answer = CertificateSource(part).ask(client(certificate={"version": 3}))
    assert refused(answer) == f"the certificate has no {part}"


def test_a_certificate_with_two_names_is_refused() -> None:
    names = (("DNS", "a.example"), ("DNS", "b.example"))
    answer = CertificateSource("dns").ask(client(certificate={"subjectAltName": names}))
    assert refused(answer) == "the certificate has more than one dns"


def test_a_name_with_control_characters_is_refused() -> None:
    subject = ((("commonName", "ann\nroot"),),)
    answer = CertificateSource("cn").ask(client(certificate={"subject": subject}))
    assert refused(answer) == "the cn of the certificate is no valid name"


# The local user


def ask_local(source: Source, uid: int) -> Answer | None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return source.ask(client(uid=uid, fd=ours.fileno()))


def test_a_local_user_is_allowed_by_number() -> None:
    uid = os.geteuid()
    user, auth_type, groups = known(ask_local(LocalSource([uid], []), uid))
    assert (user, auth_type) == (pwd.getpwuid(uid).pw_name, "Local")
    assert grp.getgrgid(os.getegid()).gr_name in groups


def test_a_local_user_is_allowed_by_group() -> None:
    source = LocalSource([], [os.getegid()])
    assert known(ask_local(source, os.geteuid()))[1] == "Local"


def test_a_local_name_that_none_can_have_is_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a,root", "\udce4"):
        found = SimpleNamespace(pw_name=name, gr_name=name)
        monkeypatch.setattr("pwd.getpwuid", lambda _, found=found: found)
        monkeypatch.setattr("grp.getgrgid", lambda _, found=found: found)
        user, _, groups = known(ask_local(LocalSource([4713], []), 4713))
        assert user == "4713"
        assert groups[0] == str(os.getegid())


def test_another_local_user_is_refused() -> None:
    text = refused(ask_local(LocalSource([4711], [4712]), 4713))
    assert text == "the local user 4713 is not allowed here"


def test_a_client_of_the_network_is_no_local_user() -> None:
    assert LocalSource([0], [0]).ask(client()) is None
