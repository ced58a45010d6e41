"""chimirror-connect at servers that have applications with names: the table of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import serve
from connect_process import bare_server, connect, error_text, request, running_client
from fake_server import LONG
from processes import Memory
from tls_servers import certificate, server_context, server_url
from websocket_peer import Peer

__all__ = ["certificate"]

TABLE = """\
NAME   PURPOSE
chess  Plays chess.
log    Shows a log. (only sends)
"""


@contextmanager
def games(directory: Path) -> Iterator[serve.Service]:
    apps = directory / "apps"
    apps.mkdir()
    cat, purpose = 'command = ["cat"]\n', "[interface]\npurpose ="
    (apps / "chess.toml").write_text(f'{cat}{purpose} "Plays chess."\n')
    one_way = f'{cat}direction = "receive"\n'
    (apps / "log.toml").write_text(f'{one_way}{purpose} "Shows a log."\n')
    listen = f"unix:{directory}/socket"
    with serve.server(directory, [], "--apps", str(apps), listen=listen) as service:
        yield service


def test_names(tmp_path: Path) -> None:
    with games(tmp_path) as service:
        url = server_url(service)
        listed = connect("--list", url)
        also_listed = connect("--list", f"{url}:/chess?x=y")
        nameless = connect(url)
        misspelt = connect(f"{url}:/ches")
        named = connect(f"{url}:/chess", stdin=b"e4")
        second = connect("--list", "ws+unix:/none", url)
        unlisted = connect("--list", "--origin=https://evil.example", url)
    assert (listed.returncode, listed.stdout.decode()) == (0, TABLE)
    assert also_listed.stdout.decode() == second.stdout.decode() == TABLE
    assert (nameless.returncode, nameless.stdout) == (64, b"")
    first, _, table = nameless.stderr.decode().partition("\n")
    assert first == (
        f"chimirror-connect: {tmp_path}/socket serves applications by name; "
        "add one to the URL:"
    )
    assert table == TABLE
    assert misspelt.returncode == 255
    assert "the nearest is /chess" in error_text(misspelt)
    assert error_text(misspelt).endswith("; --list shows the applications of a server")
    assert (named.returncode, named.stdout) == (0, b"e4")
    assert error_text(unlisted).startswith("403 Forbidden: ")


def test_the_list_over_tls(certificate: Path) -> None:
    """The request has the fields of the user and the path of the server."""
    body = json.dumps({"applications": [{"name": "a", "purpose": "b"}]}).encode()
    options = ("-v", "--list", "--ca", str(certificate), "--header", "X-A:1")
    with bare_server() as (where, take):
        secure = "wss" + where.removeprefix("ws") + "games/"
        with running_client(*options, secure) as client, take() as plain:
            context = server_context(certificate)
            with context.wrap_socket(plain.socket, server_side=True) as connection:
                peer = Peer(connection)
                head = request(peer)
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                peer.send_raw(b"HTTP/1.1 200 OK\r\n" + length + body)
            out, err = client.communicate(timeout=LONG)
    assert (client.returncode, out) == (0, b"NAME  PURPOSE\na     b\n")
    assert head.startswith("GET /games/.well-known/chimirror HTTP/1.1\r\n")
    assert "\r\nX-A: 1\r\n" in head
    place, tls = err.decode().splitlines()
    assert "connected to 127.0.0.1 port" in place
    assert tls.startswith("chimirror-connect: TLS 1.")
    assert tls.endswith("; certificate for 127.0.0.1")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"[" * 100_000, b"9" * 10_000, b'{"applications": {}}', b"\xff"],
)
def test_a_list_that_is_none(body: bytes) -> None:
    with (
        bare_server() as (where, take),
        running_client("--list", where) as client,
        take() as peer,
    ):
        request(peer)
        peer.send_raw(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        peer.half_close()
        out, err = client.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], client.returncode, out, err)
    assert done.returncode == 255
    assert error_text(done).endswith(" has no list of applications")


def test_untrusted_names_are_escaped() -> None:
    evil = "evil\x1b]0;x\x07\x9b2J\u202e\n"
    entry = {"name": evil, "purpose": evil * 999, "direction": evil, "pty": evil}
    entries = [entry, 7, None, {"name": 7}] * 3
    with (
        bare_server() as (where, take),
        running_client("--list", where) as client,
        take() as peer,
    ):
        request(peer)
        body = json.dumps({"applications": entries}).encode()
        peer.send_raw(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        peer.half_close()
        out, err = client.communicate(timeout=LONG)
    assert (client.returncode, err) == (0, b"")
    lines = out.decode().splitlines()
    assert all(line.isprintable() and len(line) <= 80 for line in lines)
    assert len(lines) < 100


@pytest.mark.parametrize("length", [b"Content-Length: 9000000000\r\n", b""])
def test_a_list_without_end(length: bytes) -> None:
    """Memory is bounded, and so is the time."""
    sent = growth = 0
    with (
        bare_server() as (where, take),
        running_client("--list", "--connect-timeout", "2", where) as client,
        take() as peer,
    ):
        request(peer)
        memory = Memory([client.pid])
        with suppress(OSError, LookupError):
            peer.send_raw(b"HTTP/1.1 200 OK\r\n%b\r\n" % length)
            while sent < 64 << 20:
                peer.send_raw(bytes(1 << 16))
                sent += 1 << 16
                growth = memory.growth()
        out, err = client.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], client.returncode, out, err)
    assert done.returncode == 255
    assert "is not valid HTTP" in error_text(done)
    assert growth < 16 << 20
