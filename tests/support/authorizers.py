"""Authorizers for tests: a fake host, questions, helper scripts and a served socket.

A test is the server of an HTTP authorizer itself, in the same thread. It reads the
request and sends the bytes of the response.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chimirror.access import Answer, Question
from chimirror.access.authorizer import Authorizer, PendingQuestion
from chimirror.access.authorizer_factory import open_authorizer
from chimirror.access.endpoint import Endpoint
from chimirror.access.exec_transport import ExecTransport
from chimirror.io.loop import EventLoop
from chimirror.process.spawner import Spawner
from loops import event_loop, subreaper, turn_until
from spawner_fixture import PATH

HELPER = Path(__file__).with_name("authorizer_helper.py")
TIMEOUT = 5.0
NAMES = ("remote-user", "remote-groups")


class EveryRecord:
    """Limit of records that suppresses all after the first few."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def allows(self, label: str) -> bool:
        self.left -= 1
        return self.left >= 0


class RecordingLog:
    """Event log that keeps the texts of its records."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, priority: int, text: str) -> None:
        self.texts.append(text)

    def limit(
        self, limit: int, period: float, report: Callable[[str, int], None]
    ) -> EveryRecord:
        self.report = report
        return EveryRecord(limit)


class AuthorizingHost:
    """Context of sessions, as an Authorizer knows it."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.spawner = Spawner(loop)
        self.event_log = RecordingLog()
        self.errors: list[Exception] = []

    def log_internal_error(
        self, error: Exception, session: str = "", *, part: str = ""
    ) -> None:
        self.errors.append(error)


def question(
    *fields: tuple[bytes, bytes],
    application: str = "shell",
    target: str = "/shell?x=1",
    port: int = 4711,
) -> Question:
    return Question(
        application=application,
        method="GET",
        target=target,
        scheme="https",
        host="example.org",
        address="192.0.2.1",
        port=port,
        fields=fields,
    )


class Asked:
    """One question and its answer, once it is there."""

    def __init__(self, authorizer: Authorizer, asked: Question) -> None:
        self.answers: list[Answer] = []
        self.pending: PendingQuestion = authorizer.ask(asked, self.answers.append)
        assert not self.answers, "the answer came before ask() has returned"


class AuthorizerHarness:
    """A loop, its host, and authorizers that are closed in the end."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.host = AuthorizingHost(loop)
        self.made: list[Authorizer] = []

    @property
    def log(self) -> list[str]:
        return self.host.event_log.texts

    def open(self, endpoint: Endpoint, timeout: float = TIMEOUT) -> Authorizer:
        authorizer = open_authorizer(self.host, endpoint, timeout, NAMES, PATH)
        self.made.append(authorizer)
        return authorizer

    def helper(self, *words: str, timeout: float = TIMEOUT) -> Authorizer:
        """An authorizer with a helper that behaves as these words say."""
        argv = (sys.executable, str(HELPER), *words)
        return self.open(Endpoint("exec:helper", argv=argv), timeout)

    def answer(self, authorizer: Authorizer, asked: Question) -> Answer:
        """Ask, and wait for the answer."""
        return self.wait(Asked(authorizer, asked))

    def wait(self, asked: Asked) -> Answer:
        turn_until(self.loop, lambda: asked.answers)
        (answer,) = asked.answers
        return answer

    def wait_for_log(self, text: str) -> None:
        turn_until(self.loop, lambda: any(text in line for line in self.log))


@contextmanager
def authorizer_harness(loop: EventLoop | None = None) -> Iterator[AuthorizerHarness]:
    """A harness. All its processes have ended afterwards."""
    with subreaper(), event_loop() as own:
        harness = AuthorizerHarness(loop or own)
        try:
            yield harness
        finally:
            for authorizer in harness.made:
                authorizer.close()
            turn_until(harness.loop, lambda: not any(map(has_helper, harness.made)))
            assert not harness.host.errors


def has_helper(authorizer: Authorizer) -> bool:
    transport = authorizer._transport
    return isinstance(transport, ExecTransport) and transport._helper is not None


class AuthorizerServer:
    """The listener of an HTTP authorizer."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.connections: list[socket.socket] = []

    @property
    def endpoint(self) -> Endpoint:
        family, address = self.listener.family, self.listener.getsockname()
        return Endpoint(
            "http://authorizer",
            addresses=((family, address),),
            authority="localhost:80",
            uri="/auth?x=1",
        )

    def accepts(self) -> bool:
        """Accept a connection, if there is one: the last of `connections`."""
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return False
        self.connections.append(connection)
        return True

    def close(self) -> None:
        for connection in [*self.connections, self.listener]:
            connection.close()


@contextmanager
def authorizer_server(path: Path | None = None) -> Iterator[AuthorizerServer]:
    """A server on TCP, or on a Unix socket."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    listener.setblocking(False)
    server = AuthorizerServer(listener)
    try:
        yield server
    finally:
        server.close()


def read_head(connection: socket.socket) -> list[str]:
    """Return the lines of a request without a body."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = connection.recv(65536)
        assert more, "the connection has ended within a request"
        data += more
    return data.decode("latin-1").split("\r\n")[:-2]
