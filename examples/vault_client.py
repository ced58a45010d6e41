"""A client of vault.py, for either way in.

    vault_client.py ws://localhost:30747/ set mail 'my secret'
    vault_client.py /run/vault get mail

Over a WebSocket it is served by chimirror-server; over the Unix socket of
chimirror-zygote it is handed the pipes of a vault of its own (chimirror-protocol(7)).
Each connection sees the initial entries and what it has set itself: several commands in
one connection are separated by `--`, or come as lines of standard input.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Vault(Protocol):
    """A connection: one command, one answer."""

    def ask(self, *words: str) -> object: ...


class WebSocketVault:
    """Over a WebSocket: JSON in, wrapped output back."""

    def __init__(self, url: str) -> None:
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        framing = Subprotocol("chimirror.json.v1")
        self._socket = connect(url, subprotocols=[framing], proxy=None)
        self._said = b""

    def ask(self, *words: str) -> object:
        """Send one command; its answer."""
        self._socket.send(json.dumps(words))
        while b"\n" not in self._said:
            message = json.loads(self._socket.recv())
            payload = base64.b64decode(message["payload"])
            if message["type"] != "stdout":
                raise ConnectionError(payload.decode(errors="replace"))
            self._said += payload
        line, _, self._said = self._said.partition(b"\n")
        found: object = json.loads(line)
        return found

    def close(self) -> None:
        """End the session."""
        self._socket.close()


class LocalVault:
    """Over a zygote's socket: the pipes of a process of our own."""

    def __init__(self, path: str) -> None:
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.connect(path)
        self._link.send(b'{"start":1,"stderr":false}')
        packet, pipes, _, _ = socket.recv_fds(self._link, 65536, 2)
        if len(pipes) < 2:
            self._link.close()
            raise ConnectionError(packet.decode() or "the zygote has gone")
        for pipe in pipes:
            os.set_blocking(pipe, True)
        self._stdin = os.fdopen(pipes[0], "w", encoding="utf-8")
        self._stdout = os.fdopen(pipes[1], encoding="utf-8")

    def ask(self, *words: str) -> object:
        """Send one command; its answer."""
        print(json.dumps(words), file=self._stdin, flush=True)
        answer: object = json.loads(self._stdout.readline())
        return answer

    def close(self) -> None:
        """End the session."""
        self._stdin.close()
        self._stdout.close()
        self._link.close()


@contextmanager
def vault(where: str) -> Iterator[Vault]:
    """Connect to ws://… or to the path of a socket."""
    client = WebSocketVault(where) if "://" in where else LocalVault(where)
    try:
        yield client
    finally:
        client.close()


def commands(words: list[str]) -> Iterator[list[str]]:
    """Those on the command line, else those on standard input."""
    if not words:
        yield from (line.strip().split(maxsplit=2) for line in sys.stdin)
        return
    while words:
        end = words.index("--") if "--" in words else len(words)
        yield words[:end]
        words = words[end + 1 :]


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: vault_client.py ws://…|PATH [COMMAND…]", file=sys.stderr)
        return os.EX_USAGE
    with vault(sys.argv[1]) as client:
        for words in commands(sys.argv[2:]):
            print(json.dumps(client.ask(*words)))
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
