"""Runs nginx and HAProxy with the files of examples/, on other ports and paths.

Certificate and users are made by the commands in the comments of the files.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nginx_proxy import running_nginx
from serve import Service, await_port, reserved, running
from websocket_peer import Peer

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "chat.example.org"
USER, PASSWORD = "anna", "secret of hers"
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
HOST = (f"Host: {NAME}", f"Origin: https://{NAME}")
IN = (*HOST, f"Authorization: Basic {LOGIN}")
TRUSTED = ("--trusted-proxy", "127.0.0.1", "--user-header", "X-Forwarded-User")
FORWARDED = ("--host", NAME, *TRUSTED)
PROXIED = ("--host", NAME, "--proxy-protocol")
PROGRAM = ["sh", "-c", "env; echo end; exec cat"]

# Each change of a server's health is a line of the log.
HEALTH = """
    log stdout format raw local0
    option log-health-checks
"""


def filled(example: str, directory: Path, ports: dict[str, int]) -> str:
    """Return the published file with the ports and the directory of this test."""
    content = (EXAMPLES / example).read_text()
    for old, new in ports.items():
        assert f"127.0.0.1:{old}" in content
        content = content.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return re.sub(r"/etc/(nginx|haproxy)/", f"{directory}/", content)


def used(content: str, mark: str) -> str:
    """Return the file with the lines in the comment that begins with this text.

    They take the place of the line behind them, if it is the same directive.
    """
    pattern = rf"^ *# {re.escape(mark)}.*\n((?: *#   .*\n)+)"
    found = re.search(pattern, content, re.MULTILINE)
    assert found, mark
    lines = re.sub(r"^ *#   ", "    ", found[1], flags=re.MULTILINE)
    rest = content[found.end() :]
    if rest.split()[0] == lines.split()[0]:
        rest = rest.partition("\n")[2]
    return content[: found.start()] + lines + rest


def follow(content: str, directory: Path) -> None:
    """Run the commands in the comments that make the certificate and the login.

    The certificate is for localhost too, and the password is not asked for. Files of an
    earlier call are kept.
    """
    if (directory / "chimirror.crt").exists():
        return
    script = re.sub(r"^# ?", "", content, flags=re.MULTILINE)
    command = r"^  ((?:openssl|cat|printf) (?:.*\\\n)*.*)"
    found = re.findall(command, script, re.MULTILINE)
    assert found[0].startswith("openssl req ")
    names = f"DNS:{NAME}"
    steps = "\n".join(found).replace(names, f"{names},DNS:localhost")
    steps = steps.replace("openssl passwd -6", f"openssl passwd -6 '{PASSWORD}'")
    argv = ["sh", "-ec", steps]
    subprocess.run(argv, cwd=directory, check=True, capture_output=True)


@contextmanager
def nginx(
    directory: Path, *behind: int, marks: Sequence[str] = ()
) -> Iterator[Service]:
    """Run nginx in front of these servers.

    Args:
        directory: For its files.
        behind: The ports of one or two servers.
        marks: As in `used`, of several comments.
    """
    with reserved() as port:
        ports = {"8443": port, "30747": behind[0], "30748": behind[-1]}
        site = filled("nginx.conf", directory, ports)
        follow(site, directory)
        for mark in marks:
            site = used(site, mark)
        with running_nginx(directory, site, port) as service:
            yield service


@contextmanager
def haproxy(
    directory: Path,
    *behind: int,
    tcp: bool = False,
    version: str = "-v2",
    checks: bool = False,
    marks: Sequence[str] = (),
) -> Iterator[Service]:
    """Run HAProxy in front of these servers.

    Args:
        directory, behind, marks: As in `nginx`.
        tcp: The frontend of TCP is awaited, and not that of HTTP.
        version: Of the PROXY protocol: -v2, or empty for the first one.
        checks: The health of the servers is checked.
    """
    with reserved() as http, reserved() as plain:
        ports = {"8444": http, "8445": plain}
        ports |= {"30747": behind[0], "30748": behind[-1], "30749": behind[0]}
        content = filled("haproxy.cfg", directory, ports)
        follow(content, directory)
        for mark in marks:
            content = used(content, mark)
        argv = ["openssl", "passwd", "-6", PASSWORD]
        crypt = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert "password HASH\n" in content
        content = content.replace("password HASH\n", f"password {crypt}")
        assert "send-proxy-v2\n" in content
        config = directory / "haproxy.cfg"
        content = content.replace("send-proxy-v2\n", f"send-proxy{version}\n")
        content = content.replace("\ndefaults\n", f"\ndefaults{HEALTH}")
        # Under load, a check that is not wanted could take the server out of service.
        wanted = " check inter 100" if checks else ""
        config.write_text(re.sub(r" check(?=\s)", wanted, content))
        argv = ["haproxy", "-db", "-f", str(config)]
        with running(directory, argv, f"haproxy{http}") as service:
            await_port(service, plain if tcp else http)
            yield service


def secured(front: Service, client: Path | None = None) -> socket.socket:
    """Connect to a proxy by TLS, and trust its certificate alone.

    Args:
        front: The proxy.
        client: The file of a client's certificate and key, if it has one.
    """
    ca = front.log.parent / "chimirror.crt"
    context = ssl.create_default_context(cafile=str(ca))
    if client:
        context.load_cert_chain(client)
    return context.wrap_socket(front.connect(), server_hostname=NAME)


def environment(peer: Peer) -> dict[str, str]:
    """Return the request variables that the application of an open session sees."""
    said = b""
    while not said.endswith(b"\nend\n"):
        said += peer.output(1)
    return dict(line.split("=", 1) for line in said.decode().splitlines()[:-1])
