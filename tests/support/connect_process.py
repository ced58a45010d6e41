"""Runs chimirror-connect as a process, and plays its server on a bare socket.

The server side sends and reads single frames, so that tests can violate the protocol.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import websocket_peer
from fake_server import LONG
from serve import ROOT


@contextmanager
def bare_server() -> Iterator[tuple[str, Callable[[], websocket_peer.Peer]]]:
    """Listen on a bare socket. Yields its URL and a function that accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)

        def take() -> websocket_peer.Peer:
            connection, _ = listener.accept()
            connection.settimeout(LONG)
            return websocket_peer.Peer(connection)

        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/", take


def request(peer: websocket_peer.Peer) -> str:
    """Read the head of the client's request."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.exactly(1)
    return head.decode()


def upgrade(peer: websocket_peer.Peer, *more: bytes) -> None:
    """Accept the session, and send `more` in the same segment."""
    fields = dict(line.split(": ") for line in request(peer).split("\r\n")[1:-2])
    accept = websocket_peer.accept_value(fields["Sec-WebSocket-Key"])
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Protocol: chimirror.stdio.v1\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    peer.send_raw(head.encode() + b"".join(more))


def frame(payload: str | bytes, first: int = 0x81) -> bytes:
    """Encode a frame as a server sends it."""
    data = payload if isinstance(payload, bytes) else payload.encode()
    if len(data) < 126:
        return bytes([first, len(data)]) + data
    return bytes([first, 126]) + len(data).to_bytes(2, "big") + data


def read_client_frame(peer: websocket_peer.Peer) -> tuple[int, bytes]:
    """Read a short frame of the client. Returns its opcode and payload."""
    first, size = peer.exactly(2)
    assert size & 0x80
    key = peer.exactly(4)
    return first & 15, websocket_peer.mask(peer.exactly(size & 0x7F), key)


ARGV = (sys.executable, "-P", "-m", "chimirror.connect.main")

ENV = {**os.environ, "PYTHONPATH": ROOT, "LC_ALL": "C.UTF-8"}


def connect(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the client to its end."""
    return subprocess.run(
        [*ARGV, *argv], env=ENV, timeout=LONG, input=stdin, capture_output=True
    )


def shell(script: str, *argv: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script with the client as "$@"."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *ARGV, *argv],
        env=ENV,
        timeout=LONG,
        capture_output=True,
    )


@contextmanager
def running_client(*argv: str, **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start the client. Kills it at the end."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*ARGV, *argv], env=ENV, **(pipes | how)) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def error_text(process: subprocess.CompletedProcess[bytes]) -> str:
    """Return the only line on stderr, without the name of the program."""
    (line,) = process.stderr.decode().splitlines()
    assert line.startswith("chimirror-connect: ")
    return line.removeprefix("chimirror-connect: ")


def ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.read(5) == b"ready"


def peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise LookupError
