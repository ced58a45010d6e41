"""Files of certificates: names, changes, and each kind of file that cannot be used."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from chimirror.tls.certificates import (
    Certificates,
)
from chimirror.tls.errors import CertificateError
from tls_peers import (
    TlsClient,
    client_context,
    handshake,
    one,
    write_certificate,
)

AUTHORITY = trustme.CA()


def names_for(certificates: Certificates, name: str | None = "localhost") -> list[str]:
    """Return the names in the certificate that a client gets."""
    client = TlsClient(client_context(AUTHORITY), name)
    channel = handshake(certificates, client)
    assert channel.is_established, channel.failure
    return client.names


class Files:
    """A certificate in use, and the reports about it."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.path = directory / "server.pem"
        write_certificate(self.path, AUTHORITY, *names)
        self.reports: list[str] = []
        self.certificates = Certificates(
            one(str(self.path)), report=self.reports.append
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, "first.example")


def test_changed_file_counts_from_the_next_handshake(files: Files) -> None:
    before = files.certificates.context()
    assert files.certificates.context() is before
    assert names_for(files.certificates) == ["first.example"]
    write_certificate(files.path, AUTHORITY, "second.example")
    assert names_for(files.certificates) == ["second.example"]
    assert files.reports == []


def test_open_connection_survives_a_change(files: Files) -> None:
    client = TlsClient(client_context(AUTHORITY))
    channel = handshake(files.certificates, client)
    write_certificate(files.path, AUTHORITY, "second.example")
    assert names_for(files.certificates) == ["second.example"]
    client.write(b"still here")
    assert channel.receive(client.outgoing.read()) == b"still here"


def test_switched_link_counts(tmp_path: Path) -> None:
    """As certbot renews: new files, then a link to each is replaced."""
    live, archive = tmp_path / "live", tmp_path / "archive"
    live.mkdir()
    archive.mkdir()

    def renew(number: int) -> None:
        leaf = AUTHORITY.issue_cert(f"{number}.example")
        leaf.private_key_pem.write_to_path(str(archive / f"privkey{number}.pem"))
        chain = archive / f"fullchain{number}.pem"
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(str(chain), append=True)

    def switch(name: str, number: int) -> None:
        link = live / f"{name}.new"
        link.symlink_to(archive / f"{name}{number}.pem")
        link.rename(live / f"{name}.pem")

    reports: list[str] = []
    for number in (1, 2):
        renew(number)
    switch("privkey", 1)
    switch("fullchain", 1)
    pair = one(str(live / "fullchain.pem"), str(live / "privkey.pem"))
    certificates = Certificates(pair, report=reports.append)
    assert names_for(certificates) == ["1.example"]
    switch("privkey", 2)  # a handshake between the two links
    assert names_for(certificates) == ["1.example"]
    assert len(reports) == 1
    assert "privkey.pem: not the key of the certificate in" in reports[0]
    assert reports[0].endswith("fullchain.pem; the certificate before stays in use")
    switch("fullchain", 2)
    assert names_for(certificates) == ["2.example"]
    assert len(reports) == 1


def test_change_without_a_new_time_counts(files: Files) -> None:
    """Content, size and time may stay as they are when a file becomes readable."""
    found = files.path.stat()
    broken = files.path.read_bytes()[::-1]
    files.path.write_bytes(broken)
    os.utime(files.path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert names_for(files.certificates) == ["first.example"]
    assert len(files.reports) == 1
    times = files.path.stat()
    files.path.write_bytes(broken[::-1])
    os.utime(files.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    before = files.certificates.context()
    assert names_for(files.certificates) == ["first.example"]
    files.path.chmod(0o640)
    assert files.certificates.context() is not before


def test_unreadable_file(files: Files) -> None:
    """A directory cannot be read, not even by root."""
    files.path.unlink()
    files.path.mkdir()
    assert names_for(files.certificates) == ["first.example"]
    assert files.reports == [
        f"{files.path}: Is a directory; the certificate before stays in use"
    ]
    files.path.rmdir()
    write_certificate(files.path, AUTHORITY, "second.example")
    assert names_for(files.certificates) == ["second.example"]


def passphrase(path: Path) -> None:
    argv = "openssl ec -aes256 -passout pass:secret".split()
    argv += ["-in", str(path), "-out", f"{path}.key"]
    subprocess.run(argv, check=True, capture_output=True)
    certificate = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    key = Path(f"{path}.key").read_bytes()
    path.write_bytes(key + b"".join(certificate[1:]))


def another_key(path: Path) -> None:
    certificate = b"".join(path.read_bytes().partition(b"-----BEGIN CERT")[1:])
    write_certificate(path, AUTHORITY, "other.example")
    key = path.read_bytes().partition(b"-----BEGIN CERT")[0]
    path.write_bytes(key + certificate)


def without_key(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().partition(b"-----BEGIN CERT")[1:]))


def without_certificate(path: Path) -> None:
    path.write_bytes(path.read_bytes().partition(b"-----BEGIN CERT")[0])


def cut(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    at = lines.index(b"-----BEGIN CERTIFICATE-----") + 3
    path.write_bytes(b"\n".join([*lines[:at], lines[-1]]))


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS = {
    passphrase: "the key has a passphrase; remove it",
    another_key: "not the key of the certificate in",
    without_key: "no private key in PEM is in this file",
    without_certificate: "no certificate in PEM is in this file",
    cut: "not usable (",
    Path.unlink: "No such file or directory",
    to_directory: "Is a directory",
    lambda path: path.write_bytes(b""): "no certificate in PEM is in this file",
    lambda path: path.write_bytes(b"\xff\0" * 999): "no certificate in PEM",
}


@pytest.mark.parametrize("spoil", FAULTS, ids=list(map(str, range(len(FAULTS)))))
def test_faulty_file(files: Files, spoil: object) -> None:
    assert callable(spoil)
    spoil(files.path)
    for _ in range(3):
        assert names_for(files.certificates) == ["first.example"]
    (report,) = files.reports  # once, not for each handshake
    assert report.startswith(str(files.path))
    assert FAULTS[spoil] in report  # type: ignore[index]
    assert report.endswith("; the certificate before stays in use")
    with pytest.raises(CertificateError) as caught:
        Certificates(one(str(files.path)))
    assert report.startswith(str(caught.value))
    if files.path.is_dir():
        files.path.rmdir()
    write_certificate(files.path, AUTHORITY, "second.example")
    assert names_for(files.certificates) == ["second.example"]
    assert len(files.reports) == 1


def test_expired_certificate_is_served(tmp_path: Path) -> None:
    """Its clients refuse it. Without it, they would not even learn the reason."""
    path = write_certificate(tmp_path / "a", AUTHORITY, "a.example", expired=True)
    other = write_certificate(tmp_path / "b", AUTHORITY, "b.example")
    certificates = Certificates(one(path) + one(other))
    client = TlsClient(client_context(AUTHORITY), "a.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(certificates, client)


def test_one_faulty_file_of_several(tmp_path: Path) -> None:
    """All certificates before stay in use."""
    reports: list[str] = []
    first = write_certificate(tmp_path / "a", AUTHORITY, "a.example")
    second = write_certificate(tmp_path / "b", AUTHORITY, "b.example")
    certificates = Certificates(one(first) + one(second), report=reports.append)
    write_certificate(Path(first), AUTHORITY, "new.example")
    Path(second).unlink()
    assert names_for(certificates, "b.example") == ["b.example"]
    assert names_for(certificates, "new.example") == ["a.example"]
    assert len(reports) == 1
