"""TLS for test servers: a self-signed certificate and a context for it."""

from __future__ import annotations

import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import serve


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key, in one file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    keys = ["-keyout", str(file), "-out", str(file.with_name("cert.pem"))]
    subprocess.run([*argv.split(), *names, *keys], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + file.with_name("cert.pem").read_bytes())
    return file


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def server_url(service: serve.Service) -> str:
    """Return the URL of a server."""
    if isinstance(service.address, str):
        return f"ws+unix:{service.address}"
    host, port = service.address
    return f"ws://{host}:{port}/"


@contextmanager
def encrypted(service: serve.Service, certificate: Path) -> Iterator[str]:
    """TLS in front of a server, in a process of its own. Yields the URL."""
    listen = f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,cert={certificate},verify=0"
    argv = ["socat", "-d", "-d", listen, f"TCP:127.0.0.1:{service.port}"]
    directory = service.log.parent
    with serve.running(directory, argv, uuid.uuid4().hex) as proxy:
        port = proxy.find(r"listening on AF=2 127\.0\.0\.1:(\d+)")
        yield f"wss://127.0.0.1:{port}/"
