"""Runs chimirror-authorize, and asks it by both of its protocols.

The questions are literal: JSON lines, and requests of http.client.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from processes import PATIENCE, until
from serve import LAUNCH, ROOT

ARGV = (*LAUNCH, "chimirror.authorize.main")
ENVIRONMENT = os.environ | {"PYTHONPATH": ROOT}


def basic(user: str, password: str, encoding: str = "utf-8") -> str:
    """Return the Authorization field of a user."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode(encoding)).decode()}"


def run(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program to its end, with this text on standard input."""
    return subprocess.run(
        [*ARGV, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=PATIENCE,
    )


def set_password(path: Path, user: str, password: str, *flags: str) -> None:
    """Write a password with the real htpasswd."""
    flags = (*(flags or ("-B", "-C4")), *(() if path.exists() else ("-c",)))
    argv = ["htpasswd", "-i", *flags, str(path), user]
    subprocess.run(argv, input=password.encode(), check=True, stderr=subprocess.PIPE)


class JsonServer:
    """The server's end of the pipes of an authorizer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._number = 0

    def ask(
        self, authorization: str = "", application: str = "", **more: object
    ) -> dict[str, Any]:
        """Ask about a client. Returns the answer without its id."""
        assert self.process.stdin
        assert self.process.stdout
        self._number += 1
        headers = {"authorization": authorization} if authorization else {}
        question = {"application": application, "headers": headers}
        line = json.dumps({"id": self._number, **question, **more})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert answer.pop("id") == self._number
        return answer


@contextmanager
def json_authorizer(
    *arguments: object, inside: Sequence[str] = ()
) -> Iterator[JsonServer]:
    """Run an authorizer on pipes. It ends with its input, and reports no error.

    Args:
        arguments: Its command line.
        inside: A command that runs it.
    """
    with subprocess.Popen(
        [*inside, *ARGV, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield JsonServer(process)
            assert process.stdin
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


class HttpAnswer(NamedTuple):
    """A response of an authorizer."""

    status: int
    headers: Message
    text: str


class HttpAuthorizer:
    """An authorizer that listens on a Unix socket.

    Attributes:
        path: The socket.
        log: The file of its standard error.
    """

    def __init__(self, process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
        self.process = process
        self.path = path
        self.log = log

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(str(self.path))
        return connection

    def ask(self, method: str = "GET", target: str = "/", **fields: str) -> HttpAnswer:
        """Ask on a connection of its own. `_` in a name of a field stands for `-`."""
        with self.connect() as connection:
            caller = http.client.HTTPConnection("localhost")
            caller.sock = connection
            named = {name.replace("_", "-"): value for name, value in fields.items()}
            caller.request(method, target, headers=named)
            response = caller.getresponse()
            body = response.read().decode()
            return HttpAnswer(response.status, response.headers, body)


@contextmanager
def http_authorizer(directory: Path, *arguments: object) -> Iterator[HttpAuthorizer]:
    """Run an authorizer on a Unix socket until it is told to end."""
    path, log = directory / "authorize", directory / "authorize.log"
    argv = [*ARGV, "--listen", f"unix:{path}", *map(str, arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stderr=output, env=ENVIRONMENT
        )
    with process:
        try:
            ready = "it listens, or has ended"
            until(
                # that it says so comes after its signal handlers
                lambda: (
                    "listening on " in log.read_text() or process.poll() is not None
                ),
                ready,
            )
            assert process.poll() is None, log.read_text()
            yield HttpAuthorizer(process, path, log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert not path.exists()
        finally:
            process.kill()
