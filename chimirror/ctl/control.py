"""Asks workers and bridges, over their control sockets: JSON-RPC 2.0, by lines.

What one of them answers is judged field by field. One that does not answer is told of
and left: the others are still asked. Knows no WebSocket.
"""

from __future__ import annotations

import os
import socket

import orjson

from chimirror.ctl import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.fields import Object

PATIENCE = 2.0  # seconds for one answer
LONGEST = 1 << 26  # bytes of one answer


class Silent(Exception):
    """A worker that is there and gives no answer, or none that can be read."""


class HungUp(Silent):
    """A worker that has closed the connection: it has ended, or does not want us."""


class Refused(Silent):
    """An answer that says why there is no other."""


class Worker:
    """A connection to one worker, or to one bridge.

    Raises:
        FileNotFoundError, ConnectionRefusedError: there is no worker any more.
        OSError: it cannot be asked.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._handle.settimeout(PATIENCE)
        self._asked = 0
        try:
            self._handle.connect(path)
        except OSError:
            self._handle.close()
            raise
        self._reader = self._handle.makefile("rb")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()
        self._handle.close()

    def ask(self, method: str, **params: object) -> Object:
        """The result of one request, an object.

        Raises:
            Silent: there is none.
            HungUp: nor will there be one.
            Refused: why.
        """
        try:
            return fields.as_object(self.call(method, params))
        except fields.Malformed as error:
            raise Silent(f"{self._path}: {error}") from None

    def call(self, method: str, params: object) -> object:
        """The same, whatever it is."""
        self._asked += 1
        request = {
            "jsonrpc": "2.0",
            "id": self._asked,
            "method": method,
            "params": params,
        }
        try:
            self._handle.sendall(orjson.dumps(request) + b"\n")
            line = self._reader.readline(LONGEST)
            if not line:
                raise HungUp(f"{self._path} has hung up")
            answer = fields.decode(line)
            if "error" in answer:
                fault = fields.as_object(answer["error"])
                raise Refused(f"{self._path}: {fields.text(fault, 'message')}")
            if answer.get("id") != self._asked:
                raise Silent(f"{self._path} has answered something else")
            return answer.get("result")
        except TimeoutError:
            raise Silent(f"{self._path} has not answered in {PATIENCE:g} s") from None
        except (BrokenPipeError, ConnectionResetError):
            raise HungUp(f"{self._path} has hung up") from None
        except (OSError, fields.Malformed) as error:
            raise Silent(f"{self._path}: {error}") from None

    def sessions(self) -> Iterator[Object]:
        """What it says of each of its sessions; they come by pages."""
        page = self.ask("sessions")
        yield from fields.objects(page, "sessions")
        while fields.flag(page, "more"):
            page = self.ask("sessions", more=True)
            yield from fields.objects(page, "sessions")

    def end(self, ids: list[str], *, force: bool) -> list[str]:
        """End sessions; those that it had."""
        method = "kill" if force else "close"
        return fields.texts(self.ask(method, ids=ids), "ids")


def servers(place: str) -> Iterator[tuple[int, list[str]]]:
    """The servers whose sockets are in a directory: supervisor, and paths."""
    for name in sorted(os.listdir(place), key=lambda name: name.zfill(20)):
        if name.isdigit():
            try:
                numbers = sorted(
                    os.listdir(f"{place}/{name}"), key=lambda n: n.zfill(8)
                )
            except FileNotFoundError:
                continue
            yield int(name), [f"{place}/{name}/{number}" for number in numbers]
