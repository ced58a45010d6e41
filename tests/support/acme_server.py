"""Runs pebble, a server of ACME (RFC 8555), and certbot as its client.

All is on 127.0.0.1: a test server of DNS gives this address for every name. So pebble
validates each name by HTTP, from the web server of certbot.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from serve import await_port, reserved, running
from tls_authority import Authority

# pebble is made to disturb its clients. The two that are random make no stable test.
STEADY = {
    "PEBBLE_VA_NOSLEEP": "1",
    "PEBBLE_WFE_NONCEREJECT": "0",
    "PEBBLE_AUTHZREUSE": "0",  # each renewal is validated again
}


class AcmeServer(NamedTuple):
    """A running pebble.

    Attributes:
        directory: of the files of certbot.
        url: of its directory of ACME.
        management: the URL of its own authorities.
        ca: file with the authority of its own HTTPS.
        http_port: where it validates.
    """

    directory: Path
    url: str
    management: str
    ca: Path
    http_port: int

    def certbot(self, *arguments: str) -> subprocess.Popen[str]:
        """Start certbot with its files in the directory of this server."""
        folders = [
            f"--{kind}-dir={self.directory / kind}" for kind in ("config", "work")
        ]
        folders.append(f"--logs-dir={self.directory / 'logs'}")
        argv = ["certbot", *arguments, *folders, "--non-interactive"]
        argv += ["--server", self.url, "--http-01-port", str(self.http_port)]
        return subprocess.Popen(
            [*argv, "--http-01-address=127.0.0.1", "--no-random-sleep-on-renew"],
            env=os.environ | {"REQUESTS_CA_BUNDLE": str(self.ca), "NO_PROXY": "*"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def roots(self) -> str:
        """Return the authorities of the certificates that it issues, as PEM."""
        context = ssl.create_default_context(cafile=self.ca)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
        )
        with opener.open(f"{self.management}/roots/0") as response:
            found: bytes = response.read()
        return found.decode()


@contextmanager
def acme_server(directory: Path) -> Iterator[AcmeServer]:
    """Run pebble and its server of DNS."""
    authority = Authority(directory / "https")
    pair = authority.issue("127.0.0.1")
    with reserved() as port, reserved() as management, reserved() as http:
        config = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(pair.cert),
            "privateKey": str(pair.key),
            "httpPort": http,
            "tlsPort": http,
        }
        file = directory / "pebble.json"
        file.write_text(json.dumps({"pebble": config}))
        with _dns_server(directory) as dns, _environment(STEADY):
            argv = ["pebble", "-config", str(file), "-dnsserver", f"127.0.0.1:{dns}"]
            with running(directory, argv, f"pebble{port}") as service:
                await_port(service, management)
                await_port(service, port)
                base = "https://127.0.0.1"
                yield AcmeServer(
                    directory,
                    f"{base}:{port}/dir",
                    f"{base}:{management}",
                    authority.file,
                    http,
                )


@contextmanager
def _dns_server(directory: Path) -> Iterator[int]:
    """Run a server of DNS in which all names are 127.0.0.1. Yields its port."""
    with reserved() as port, reserved() as management:
        argv = ["pebble-challtestsrv", "-defaultIPv6=", "-http01=", "-https01="]
        argv += ["-tlsalpn01=", f"-management=127.0.0.1:{management}"]
        argv += [f"-dns01=127.0.0.1:{port}"]
        with running(directory, argv, f"dns{port}") as service:
            await_port(service, port)
            yield port


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = os.environ.copy()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
