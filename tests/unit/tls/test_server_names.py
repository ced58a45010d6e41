"""Certificates for several names: the name that a client asks for decides."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from chimirror.tls.certificates import Certificates, matches, names_of
from chimirror.tls.errors import CertificateError
from tls_peers import (
    TLS_1_2,
    TLS_1_3,
    TlsClient,
    client_context,
    handshake,
    one,
    write_certificate,
)

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("names")
    pairs = []
    for names in (
        ["first.example", "also.example"],
        ["*.wild.example", "wild.example"],
        ["Third.Example"],
    ):
        path = write_certificate(directory / names[-1], AUTHORITY, *names)
        pairs += one(path)
    return Certificates(pairs)


WANTED = {
    "first.example": "first.example",
    "also.example": "first.example",
    "wild.example": "*.wild.example",
    "any.wild.example": "*.wild.example",
    "ANY.wild.EXAMPLE": "*.wild.example",
    "a.b.wild.example": "first.example",
    "third.example": "third.example",
    "unknown.example": "first.example",
    None: "first.example",
}


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("name", WANTED)
def test_name_decides(
    several: Certificates, name: str | None, version: ssl.TLSVersion
) -> None:
    client = TlsClient(client_context(AUTHORITY, version), name)
    assert handshake(several, client).is_established
    assert client.names[0].lower() == WANTED[name]


@pytest.mark.parametrize("bad", [b"\xff\xfe", b"\xc3\xa9"])
def test_name_that_is_not_ascii(
    several: Certificates, bad: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """It costs its client the handshake, and prints no traceback."""
    client = TlsClient(client_context(AUTHORITY), "xx.example")
    client.shake_hands()
    hello = client.outgoing.read()
    assert hello.count(b"xx.example") == 1
    hello = hello.replace(b"xx.example", bad + b".example")
    channel = handshake(several, client, hello=hello)
    assert channel.failure == "the name that the client asks for is not ASCII"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("x.w.example", True),
        ("w.example", False),
        (".w.example", True),
        ("y.x.w.example", False),
        ("", False),
        ("example", False),
        ("*.w.example", True),
    ],
)
def test_matches(name: str, covered: bool) -> None:
    assert matches(name, frozenset({"a.example", "*.w.example"})) is covered


def test_names_of_a_certificate_without_any(tmp_path: Path) -> None:
    path = write_certificate(tmp_path / "a", AUTHORITY, "192.0.2.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    assert names_of(context, path) == frozenset()
    with pytest.raises(CertificateError, match="not usable"):
        names_of(context, str(tmp_path / "missing"))
