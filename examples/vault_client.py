"""A client of vault.py, over a WebSocket or a Unix socket.

    vault_client.py ws://localhost:30747/ set mail 'my secret'
    vault_client.py /run/vault get mail

chimirror-server serves it over a WebSocket. chimirror-zygote passes it the pipes of its
own vault over a Unix socket (chimirror-protocol(7)). Each connection sees the initial
entries and its own. Several commands in one connection are separated by `--`, or are
lines of standard input.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection


class Vault(Protocol):
    """A connection, which answers one command at a time."""

    def ask(self, *words: str) -> object: ...


class WebSocketVault:
    """A vault over a WebSocket: sends JSON, receives wrapped output."""

    def __init__(self, connection: ClientConnection) -> None:
        self._socket = connection
        self._said = b""

    def ask(self, *words: str) -> object:
        """Send one command. Returns its answer."""
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


class LocalVault:
    """A vault behind a zygote's socket: uses the pipes of a process of its own."""

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
        """Send one command. Returns its answer."""
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
    """Connect to ws://… or to the path of a Unix socket."""
    if "://" not in where:
        with closing(LocalVault(where)) as local:
            yield local
        return
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    framing = Subprotocol("chimirror.json.v1")
    with connect(where, subprotocols=[framing], proxy=None) as connection:
        yield WebSocketVault(connection)


def commands(words: list[str]) -> Iterator[list[str]]:
    """Yield the commands of the command line, or those of standard input."""
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
