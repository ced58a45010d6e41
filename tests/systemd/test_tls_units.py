"""TLS of the units, as chimirror-systemd(7), Sx TLS, sets it up.

The settings and the hook are those of the page, and the files are where certbot puts
them: links to files with a number.
"""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from machine_sessions import SERVER, SERVER_PORT, echo, serve_many
from systemd_machine import PORT, ROOT, Machine
from websocket_peer import Peer

pytestmark = pytest.mark.timeout(300)

BRIDGE = "chimirror@.service"
NAME = "a.example"
TLS = "/etc/letsencrypt"
LIVE = f"{TLS}/live/{NAME}"
CLIENTS = "/etc/chimirror/clients.pem"
# Prints the credentials that an application can read.
LOOK = "ls $CREDENTIALS_DIRECTORY; cat /run/credentials/*/tls-key 2>&1; echo; echo end"
BLOCK = re.compile(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)
PORTS = {BRIDGE: PORT, SERVER: SERVER_PORT}


def page() -> list[str]:
    """Return the literal blocks of the section."""
    text = (ROOT / "man" / "chimirror-systemd.7").read_text()
    section = text.split(".Ss TLS\n")[1].split("\n.Ss ")[0]
    return [block.replace("\\e\n", "\\\n") for block in BLOCK.findall(section)]


def block(mark: str) -> str:
    (found,) = (text for text in page() if mark in text)
    return found


def credentials() -> list[str]:
    return re.findall("^LoadCredential=.*", block("LoadCredential=tls-cert"), re.M)


class Authority:
    """Makes certificates that are their own authority, with keys, as certbot does."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._directory = directory
        self._count = 0

    def make(self, name: str) -> Path:
        """Return a file. Its key is beside it."""
        file = self._directory / f"{name}.pem"
        argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{NAME}"]
        files = ["-keyout", str(file.with_suffix(".key")), "-out", str(file)]
        subprocess.run([*argv.split(), *names, *files], check=True, capture_output=True)
        return file

    def renew(self) -> Path:
        """Replace the files of the server. Returns the certificate."""
        self._count += 1
        made = self.make(f"server{self._count}")
        live = self._machine.path(LIVE)
        live.mkdir(parents=True, exist_ok=True)
        for name, file in (("fullchain", made), ("privkey", made.with_suffix(".key"))):
            archived = f"{TLS}/archive/{NAME}/{name}{self._count}.pem"
            self._machine.write(archived, file.read_text())
            self._machine.path(archived).chmod(0o600)
            (live / "new").symlink_to(archived)
            (live / "new").rename(live / f"{name}.pem")
        return made


@pytest.fixture
def authority(machine: Machine, tmp_path: Path) -> Iterator[Authority]:
    """Both services serve `cat` for this name."""
    serve_many(machine, f"--host {NAME}")
    yield Authority(machine, tmp_path)
    machine.do("rm", "-r", TLS)


def connect(
    machine: Machine, service: str, trusted: Path, client: Path | None = None
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(trusted))
    if client:
        context.load_cert_chain(client, client.with_suffix(".key"))
    plain = machine.connect(PORTS[service])
    return context.wrap_socket(plain, server_hostname=NAME)


def opened(stack: ExitStack, connection: ssl.SSLSocket) -> Peer:
    peer = stack.enter_context(Peer(connection))
    assert peer.open(fields=(f"Host: {NAME}",)).status == 101
    return peer


def serves(machine: Machine, service: str, *certificates: Path) -> None:
    """Check that a session works, and which certificate it has."""
    with ExitStack() as stack:
        for trusted in certificates:
            echo(opened(stack, connect(machine, service, trusted)))


@pytest.mark.parametrize("service", [BRIDGE, SERVER])
def test_credentials_and_their_renewal(
    machine: Machine, authority: Authority, service: str
) -> None:
    first = authority.renew()
    machine.drop_in(service, "Service", *credentials())
    serves(machine, service, first)
    second = authority.renew()
    if service == SERVER:
        serves(machine, service, first)
        hook = re.findall('--deploy-hook "(.*)"', block("--deploy-hook"))
        machine.do("sh", "-ec", *hook)
    serves(machine, service, second)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(machine, service, first)


@pytest.mark.parametrize("service", [BRIDGE, SERVER])
def test_certificates_of_clients(
    machine: Machine, authority: Authority, service: str
) -> None:
    server, client = authority.renew(), authority.make("client")
    machine.write(CLIENTS, client.read_text())
    (asks,) = block("tls-client-ca").splitlines()
    assert asks.endswith(f":{CLIENTS}")
    machine.drop_in(service, "Service", *credentials(), asks)
    with ExitStack() as stack:
        echo(opened(stack, connect(machine, service, server, client)))
    other = authority.make("other")
    for wrong, reason in ((None, "CERTIFICATE_REQUIRED"), (other, "UNKNOWN_CA")):
        with (
            connect(machine, service, server, wrong) as refused,
            pytest.raises(ssl.SSLError, match=reason),
        ):
            refused.recv(1)


def test_files_without_a_restart(machine: Machine, authority: Authority) -> None:
    """The session before the renewal goes on. The hook is the one of the page."""
    hook = block("#!/bin/sh -e")
    (setting,) = block("--tls-cert").splitlines()
    first = authority.renew()
    machine.do("sh", "-c", hook, RENEWED_LINEAGE=LIVE)
    options = setting.removeprefix("CHIMIRROR_OPTIONS=")
    machine.configure("/usr/bin/cat", options=options)
    with ExitStack() as stack:
        kept = opened(stack, connect(machine, SERVER, first))
        echo(kept)
        second = authority.renew()
        machine.do("sh", "-c", hook, RENEWED_LINEAGE=LIVE)
        serves(machine, SERVER, second)
        echo(kept)


def seen(machine: Machine, service: str, trusted: Path) -> str:
    """Return the credentials that an application can read."""
    with ExitStack() as stack:
        peer = opened(stack, connect(machine, service, trusted))
        said = b""
        while not said.endswith(b"\nend\n"):
            said += peer.output(1)
    return said.decode()


def test_applications_and_the_key(machine: Machine, authority: Authority) -> None:
    """It is out of reach of those with a user of their own, and only of those."""
    trusted = authority.renew()
    machine.write("/opt/look", LOOK)
    options = f"--host {NAME}"
    machine.configure("/bin/sh", "/opt/look", options=options)
    lines = [*credentials(), "SetCredential=token:abc"]
    machine.drop_in(BRIDGE, "Service", *lines)
    said = seen(machine, BRIDGE, trusted)
    assert said.startswith("token\n")
    assert "PRIVATE KEY" not in said

    machine.drop_in(SERVER, "Service", *lines)
    assert "PRIVATE KEY" in seen(machine, SERVER, trusted)
    text = (ROOT / "man" / "chimirror-systemd.7").read_text()
    users = BLOCK.search(text.split(".Ss Users\n")[1])
    assert users
    _, _, *permissions = users[1].splitlines()
    machine.drop_in(SERVER, "Service", *lines, *permissions)
    machine.configure("/bin/sh", "/opt/look", options=f"{options} --user nobody")
    machine.do("systemctl", "restart", SERVER)
    assert "PRIVATE KEY" not in seen(machine, SERVER, trusted)
