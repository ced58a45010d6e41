"""The servers over TLS: chimirror-server, websocketd, and proxies with TLS before it.

All show the same certificate (P-256). The proxies have the settings of Debian and of
their manuals, with one worker or thread for each core, and more connections.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trustme

import competitors
from competitors import Competitor
from load_client import BINARIES, LINES, TEXTS
from memory import family
from nginx_proxy import UPGRADING
from serve import Service, await_port, reserved, running, server

CLEAR = "(chimirror-server, no TLS)"
CONNECTIONS = 8_000  # of a proxy
NGINX = """\
daemon off;
user root;
worker_processes auto;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections {connections}; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            {upgrading}
        }}
    }}
}}
"""
HAPROXY = """\
global
    maxconn {connections}
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend tls
    bind 127.0.0.1:{port} ssl crt {certificate}
    default_backend chimirror
backend chimirror
    server one 127.0.0.1:{behind}
"""

Argv = Callable[[Path], list[str]]


class Proxied(Service):
    """A proxy, and the server behind it."""

    def __init__(self, front: Service, behind: Service) -> None:
        super().__init__(front.process, front.log, front.mark)
        self.address = front.address
        self.behind = behind


def serving_processes(service: Service) -> list[int]:
    """Return the processes of a server and of its proxy, without applications."""
    found = family(service.process.pid)[0]
    if isinstance(service, Proxied):
        found += family(service.behind.process.pid)[0]
    return found


def write_certificate(directory: Path) -> Path:
    """Write a certificate and its key into one file."""
    file = directory / "certificate.pem"
    leaf = trustme.CA().issue_cert("localhost", "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


@contextmanager
def behind_proxy(
    config: str,
    argv: Argv,
    certificate: Path,
    options: tuple[str, ...],
    directory: Path,
    command: list[str],
) -> Iterator[Service]:
    """Run chimirror-server in the clear behind a proxy with TLS."""
    with server(directory, command, *options) as behind, reserved() as port:
        file = directory / "proxy.conf"
        content = config.format(
            directory=directory,
            port=port,
            behind=behind.port,
            certificate=certificate,
            connections=CONNECTIONS,
            upgrading=UPGRADING,
        )
        file.write_text(content)
        with running(directory, argv(file), f"proxy{port}") as front:
            await_port(front, port)
            yield Proxied(front, behind)


def nginx(file: Path) -> list[str]:
    return ["nginx", "-e", "stderr", "-p", str(file.parent), "-c", str(file)]


def haproxy(file: Path) -> list[str]:
    return ["haproxy", "-db", "-f", str(file)]


def with_tls(
    certificate: Path,
    paths: list[str],
    options: tuple[str, ...],
    trees: list[str],
) -> list[Competitor]:
    """Return all servers over TLS on this machine.

    Args:
        certificate: with its key, in one file.
        paths, options, trees: as in `competitors.all_competitors`.
    """
    own = (f"--tls-cert={certificate}", f"--tls-key={certificate}", *options)
    found = [each for each in competitors.ours(own) if not each.benches]
    for tree in trees:
        found += competitors.of_tree(tree, own)
    clear = partial(contextmanager(competitors.chimirror), options)
    found.append(Competitor(CLEAR, LINES, clear, ""))
    ssl = ("--ssl", f"--sslcert={certificate}", f"--sslkey={certificate}")
    for path in paths:
        if shutil.which(path):
            name = Path(path).name
            version = competitors.package_version(name)
            text, binary = (
                competitors.websocketd(path, *ssl, *more)
                for more in ((), ("--binary",))
            )
            found += [
                Competitor(f"{name} --ssl", TEXTS, text, version),
                Competitor(f"{name} --ssl --binary", BINARIES, binary, version),
            ]
    for name, config, argv in (("nginx", NGINX, nginx), ("haproxy", HAPROXY, haproxy)):
        if shutil.which(name):
            start = partial(
                behind_proxy, config, argv, certificate, ("--framing=lines", *options)
            )
            version = competitors.package_version(name)
            proxied = f"{name} + {competitors.OURS}"
            found.append(Competitor(proxied, LINES, start, version))
    return found
