"""Both programs over TLS, in each way that they get a connection."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_asyncio
from websockets.sync.client import connect as connect_websockets
from websockets.typing import Subprotocol

from processes import read, until
from serve import SERVICES, server
from tls_authority import Authority, authority, stranger
from tls_peers import TLS_1_2, TLS_1_3, client_context, connect, secure, tls_options
from tls_relay import one_by_one
from websocket_peer import Closed, stdin, upgrade

__all__ = ["authority", "stranger"]  # fixtures

VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
TRANSPORTS = [
    "socat",
    "socat-pipes",
    "activate",
    "server",
    "server-pure",
    "server-unix",
]
SHOW = ["sh", "-c", "env | grep -E '^(HTTPS|SSL_|HTTP_SSL)' | sort; exec cat"]
LINES_NAME = Subprotocol("chimirror.lines.v1")
STDIO_NAME = Subprotocol("chimirror.stdio.v1")
LINES = ("--framing", "lines")
FORGED = ("SSL-Client-S-DN: CN=root", "SSL_Client_S_DN: CN=root", "HTTPS: off")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_variables_and_close(
    tmp_path: Path, authority: Authority, transport: str
) -> None:
    """A client proves who it is, and cannot say more than that."""
    options = tls_options(authority, "--tls-client-ca", str(authority.file))
    alice = authority.issue("alice@example.org")
    with (
        SERVICES[transport](tmp_path, SHOW, *options) as service,
        connect(service, authority, TLS_1_3, str(alice.both)) as peer,
    ):
        assert peer.open(framing="stdio", fields=FORGED).status == 101
        shown = peer.output(1).decode()
        while "SSL_PROTOCOL" not in shown:
            shown += peer.output(1).decode()
        assert "HTTPS=on\n" in shown
        assert "SSL_PROTOCOL=TLSv1.3\n" in shown
        assert "SSL_CIPHER=TLS_AES_256_GCM_SHA384\n" in shown
        assert "SSL_CLIENT_VERIFY=SUCCESS\n" in shown
        assert shown.count("SSL_CLIENT_S_DN=") == 2
        assert "HTTP_SSL_CLIENT_S_DN=CN=root\n" in shown
        assert "\nSSL_CLIENT_S_DN=" in shown
        assert "\nSSL_CLIENT_S_DN=CN=root" not in shown
        peer.send(stdin(b"hello"))
        assert peer.output(5) == b"hello"
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


@pytest.mark.parametrize("transport", ["socat", "socat-pipes", "server"])
def test_last_output_and_status(
    tmp_path: Path, authority: Authority, transport: str
) -> None:
    command = ["sh", "-c", "head -c 3000000 /dev/zero; exit 3"]
    with (
        SERVICES[transport](tmp_path, command, *tls_options(authority)) as service,
        connect(service, authority) as peer,
    ):
        peer.open(framing="stdio")
        found = peer.transcript()
        assert len(found.stdout) == 3_000_000
        assert found.closed == Closed(1011, "exit 3")


async def echoed(
    url: str, context: ssl.SSLContext, message: str, count: int, size: int
) -> bytes:
    """Return the hash of the output, of `size` bytes, after so many equal messages.

    One thread does both: OpenSSL lets no second one use the same connection.
    """
    digest = hashlib.sha256()
    async with connect_asyncio(
        url, ssl=context, subprotocols=[STDIO_NAME], max_size=None, compression=None
    ) as client:

        async def send() -> None:
            for _ in range(count):
                await client.send(message)

        sending = asyncio.create_task(send())
        while size:
            event = json.loads(await client.recv())
            if event["type"] == "stdout":
                part = base64.b64decode(event["payload"])
                digest.update(part)
                size -= len(part)
        await sending
    return digest.digest()


@pytest.mark.full
@VERSIONS
def test_bulk_both_ways(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion, full: bool
) -> None:
    """Echo of much data while it is being sent, to a client that we did not write."""
    chunk, count = bytes(range(256)) * 128, 3200 if full else 320  # 32 KiB each
    with server(tmp_path, ["cat"], *tls_options(authority)) as service:
        context = client_context(authority.ca, version)
        url = f"wss://localhost:{service.port}/"
        message, size = json.dumps(stdin(chunk)), count * len(chunk)
        found = asyncio.run(echoed(url, context, message, count, size))
        assert found == hashlib.sha256(chunk * count).digest()


@pytest.mark.full
@VERSIONS
def test_sleeping_reader(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion, full: bool
) -> None:
    """The application waits for the reader, other sessions do not, and none is lost."""
    content = random.Random(0).randbytes(100_000_000 if full else 10_000_000)
    (tmp_path / "content").write_bytes(content)
    command = ["sh", "-c", 'read name; exec cat <"$name"']
    options = ("--workers=1", *tls_options(authority))
    context = client_context(authority.ca, version)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    with server(tmp_path, command, *options) as service:
        connection.connect(service.address)
        with secure(connection, context) as peer:
            peer.open(framing="stdio")
            peer.send(stdin(f"{tmp_path}/content\n".encode()))
            (cat,) = service.applications()
            until(lambda: position(cat) > 1 << 20, "the buffers are filled")
            (tmp_path / "short").write_bytes(content[: 1 << 20])
            with secure(service.connect(), context) as other:
                other.open(framing="stdio")
                other.send(stdin(f"{tmp_path}/short\n".encode()))
                assert other.transcript().stdout == content[: 1 << 20]
            assert position(cat) < len(content)
            found = peer.transcript()
            assert found.stdout == content
            assert found.closed == Closed(1000, "exit 0")


def position(pid: int) -> int:
    """Return how much a process has read from its standard input, a file."""
    found = re.search(rb"^pos:\s*(\d+)$", read(f"/proc/{pid}/fdinfo/0"), re.MULTILINE)
    return int(found[1]) if found else 0


@VERSIONS
def test_single_bytes_of_the_transport(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    """A relay passes each byte of TLS on by itself, in both directions."""
    with (
        server(tmp_path, ["cat"], *tls_options(authority)) as service,
        one_by_one(service.connect) as connection,
        secure(connection, client_context(authority.ca, version)) as peer,
    ):
        peer.open(framing="stdio")
        data = bytes(range(256)) * 8
        peer.send(stdin(data))
        assert peer.output(len(data)) == data
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


@VERSIONS
def test_openssl_as_a_client(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    name = {TLS_1_2: "-tls1_2", TLS_1_3: "-tls1_3"}[version]
    with server(
        tmp_path, ["echo", "hello"], *LINES, *tls_options(authority)
    ) as service:
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{service.port}", name]
        argv += ["-CAfile", str(authority.file), "-verify_return_error", "-quiet"]
        argv += ["-servername", "localhost", "-verify_hostname", "localhost"]
        request = upgrade("/", "lines", ())
        found = subprocess.run(
            [*argv, "-ign_eof"], input=request, capture_output=True, timeout=200
        )
        assert b"HTTP/1.1 101 " in found.stdout
        assert b"hello" in found.stdout
        assert found.stdout.endswith(b"\x88\x08\x03\xe8exit 0")


def test_websockets_as_a_client(tmp_path: Path, authority: Authority) -> None:
    with server(tmp_path, ["cat"], *LINES, *tls_options(authority)) as service:
        context = client_context(authority.ca)
        url = f"wss://localhost:{service.port}/"
        with connect_websockets(
            url, ssl=context, subprotocols=[LINES_NAME], proxy=None
        ) as client:
            client.send("hello")
            assert client.recv() == "hello"


NODE = """
const socket = new WebSocket(process.argv[1], "chimirror.lines.v1");
socket.onopen = () => socket.send("hello");
socket.onmessage = (event) => { console.log(event.data); socket.close(); };
socket.onclose = (event) => console.log(event.code, event.wasClean);
"""


def test_node_as_a_client(tmp_path: Path, authority: Authority) -> None:
    node = str(Path(sys.executable).with_name("node"))
    with server(tmp_path, ["cat"], *LINES, *tls_options(authority)) as service:
        found = subprocess.run(
            [node, "-e", NODE, f"wss://localhost:{service.port}/"],
            env={"NODE_EXTRA_CA_CERTS": str(authority.file)},
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert found.stdout.splitlines() == ["hello", "1005 true"], found.stderr


def test_half_close_of_tcp(tmp_path: Path, authority: Authority) -> None:
    """The end of TCP without a close_notify is the client's exit."""
    with server(tmp_path, ["cat"], *tls_options(authority)) as service:
        with connect(service, authority) as peer:
            peer.open(framing="stdio")
            socket.socket.shutdown(peer.socket, socket.SHUT_WR)
            service.await_ends(1)
        assert "client gone" in service.log.read_text()
