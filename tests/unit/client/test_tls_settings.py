"""Files of authorities, certificates and keys: each fault has a sentence and a cure."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from chimirror.client import Error, InvalidCertificate
from chimirror.client.servers import servers_from
from chimirror.client.tls_settings import TLSSettings
from tls_authority import Authority, Pair, authority, stranger

__all__ = ["authority", "stranger"]

URL = "wss://a.example/"
OPENSSL = "openssl pkey -in FILE -out NEW"


@pytest.fixture
def mine(authority: Authority) -> Pair:
    return authority.issue("me@a.example")


def problem(**options: Path | tuple[Path, Path]) -> str:
    with pytest.raises(InvalidCertificate) as caught:
        servers_from(URL, options)  # type: ignore[arg-type]
    assert isinstance(caught.value, (Error, ValueError))
    return str(caught.value)


def converted(file: Path, command: str) -> Path:
    result = file.with_suffix(".new")
    argv = ["openssl", *command.split(), "-in", str(file), "-out", str(result)]
    subprocess.run(argv, check=True, capture_output=True)
    return result


# Usable files.


def test_all_connections_share_one_context(authority: Authority, mine: Pair) -> None:
    urls = [URL, "ws://b.example/", "wss://c.example/"]
    servers = servers_from(urls, {"ca": authority.file, "cert": (mine.cert, mine.key)})
    (settings,) = {server.tls for server in servers}
    assert settings is not None
    assert settings.context is settings.context
    assert settings.has_certificate
    (known,) = settings.context.get_ca_certs()
    assert known["issuer"] == known["subject"]


def test_one_file_as_text(mine: Pair) -> None:
    (server,) = servers_from(URL, {"cert": str(mine.both)})
    assert server.tls is not None
    assert server.tls.context.verify_mode is ssl.CERT_REQUIRED


def test_a_context_of_the_caller_is_used_as_it_is() -> None:
    context = ssl.create_default_context()
    (server,) = servers_from(URL, {"ssl": context})
    assert server.tls is not None
    assert server.tls.context is context
    assert server.tls.has_certificate is None
    assert server.tls.create_nameless_context() is None


def test_no_file_is_read_without_options() -> None:
    assert "context" not in vars(TLSSettings())


# Wrong arguments.


@pytest.mark.parametrize(
    ("name", "cure"), [("ca", "load_verify_locations"), ("cert", "load_cert_chain")]
)
def test_a_context_and_files(name: str, cure: str, mine: Pair) -> None:
    options = {"ssl": ssl.create_default_context(), name: mine.both}
    text = f"^{name}: ssl is a context with certificates of its own; call its {cure} "
    with pytest.raises(TypeError, match=text):
        servers_from(URL, options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ssl", "ca", "cert"])
def test_no_url_has_tls(name: str, mine: Pair) -> None:
    value = ssl.create_default_context() if name == "ssl" else mine.both
    with pytest.raises(ValueError, match=f"^{name}: only wss:// URLs use certificates"):
        servers_from("ws://a.example/", {name: value})  # type: ignore[misc]


@pytest.mark.parametrize("cert", [(), ("a", "b", "c"), 5])
def test_neither_a_path_nor_a_pair(cert: object) -> None:
    text = "^cert: give a path, or a pair of the paths of certificate and key$"
    with pytest.raises(TypeError, match=text):
        servers_from(URL, {"cert": cert})  # type: ignore[typeddict-item]


# Files that cannot be used.


def test_a_missing_file(authority: Authority, mine: Pair, tmp_path: Path) -> None:
    none = tmp_path / "none\n.pem"
    text = (
        f"{tmp_path}/none\\n.pem cannot be read: no such file or directory; check the "
        "name"
    )
    assert problem(ca=none) == f"ca: {text}"
    assert problem(cert=none) == f"cert: {text}"
    assert problem(cert=(mine.cert, none)) == f"cert: {text}"
    assert problem(cert=(none, mine.key)) == f"cert: {text}"
    directory = authority.directory
    text = f"ca: {directory} cannot be read: is a directory; check the name"
    assert problem(ca=directory) == text


def test_a_file_without_permission(monkeypatch: pytest.MonkeyPatch, mine: Pair) -> None:
    """Root may read everything, so that the failure is made."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ssl.SSLContext.load_cert_chain", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert problem(cert=mine.both) == (
        f"cert: {mine.both} cannot be read: permission denied; this user needs "
        "permission to read it"
    )


def test_an_empty_file(mine: Pair, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"\n")
    a_certificate = f"{empty} is empty; it must hold a certificate in PEM form"
    assert problem(ca=empty) == f"ca: {a_certificate}"
    assert problem(cert=empty) == f"cert: {a_certificate}"
    assert problem(cert=(empty, mine.key)) == f"cert: {a_certificate}"
    a_key = f"{empty} is empty; it must hold a private key in PEM form"
    assert problem(cert=(mine.cert, empty)) == f"cert: {a_key}"


def test_files_of_other_kinds(mine: Pair) -> None:
    binary = converted(mine.cert, "x509 -outform DER")
    for file, options in (
        (binary, {"ca": binary}),
        (binary, {"cert": binary}),
        (mine.key, {"ca": mine.key}),
        (mine.key, {"cert": (mine.key, mine.key)}),
    ):
        (name,) = options
        assert problem(**options) == (
            f"{name}: {file} holds no certificate in PEM form; it must have a line "
            '"-----BEGIN ... CERTIFICATE-----"'
        )
    assert problem(cert=(mine.cert, mine.cert)) == (
        f"cert: {mine.cert} holds no private key in PEM form; it must have a line "
        '"-----BEGIN ... PRIVATE KEY-----"'
    )


def test_a_certificate_without_its_key(mine: Pair) -> None:
    assert problem(cert=mine.cert) == (
        f"cert: {mine.cert} holds no private key; name its file with cert=(FILE, KEY)"
    )


@pytest.mark.parametrize(
    "command",
    ["pkcs8 -topk8 -passout pass:secret", "ec -aes128 -passout pass:secret"],
)
def test_a_key_with_a_passphrase(command: str, authority: Authority) -> None:
    mine = authority.issue("me@a.example")
    locked = converted(mine.key, command)
    cure = f"has a key with a passphrase; write the key without it: {OPENSSL}"
    assert problem(cert=(mine.cert, locked)) == f"cert: {locked} {cure}"
    mine.both.write_bytes(locked.read_bytes() + mine.cert.read_bytes())
    assert problem(cert=mine.both) == f"cert: {mine.both} {cure}"


def test_a_key_of_another_certificate(mine: Pair, stranger: Authority) -> None:
    other = stranger.issue("me@a.example")
    cure = "the certificate of this key must be the first in that file"
    assert problem(cert=(mine.cert, other.key)) == (
        f"cert: {other.key} has another key than that of the certificate in "
        f"{mine.cert}; {cure}"
    )
    mixed = stranger.write(mine.cert.read_bytes(), other.key.read_bytes()).both
    assert problem(cert=mixed) == (
        f"cert: {mixed} has another key than that of the certificate in {mixed}; {cure}"
    )


@pytest.mark.parametrize("name", ["ca", "cert"])
def test_a_damaged_certificate(name: str, mine: Pair) -> None:
    lines = mine.both.read_text().splitlines()
    begin = lines.index("-----BEGIN CERTIFICATE-----")
    mine.both.write_text("\n".join([*lines[: begin + 1], "AAAA", *lines[-1:], ""]))
    assert re.fullmatch(
        rf"{name}: {re.escape(str(mine.both))} is damaged \([a-z0-9 ]+\); write the "
        "file again",
        problem(**{name: mine.both}),
    )
