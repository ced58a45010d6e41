"""Time limits and bounds of connections, on socket pairs with short times."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import h11
import pytest

from chimirror.access import ALLOWED, FAILED, Answer, Identity
from chimirror.authorize import LoginAttempt, http_front
from chimirror.authorize.http_front import HttpConnection, HttpFront, read_attempt
from chimirror.authorize.verifier_pool import VerifierPool
from chimirror.io.listener import open_unix

PATIENCE = 100.0
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


class FakeVerifier:
    """A verifier that keeps its attempts."""

    threads = 1

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer or Answer(ALLOWED)
        self.asked: list[LoginAttempt] = []

    def verify(self, attempt: LoginAttempt) -> Answer:
        self.asked.append(attempt)
        return self.answer


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    made = VerifierPool(FakeVerifier())
    yield made
    made.close()


def served(
    pool: VerifierPool, *parts: bytes
) -> tuple[bytes, type[BaseException] | None]:
    """Serve a client that sends these bytes and then waits.

    Returns:
        The responses, and the exception that ended the connection.
    """

    async def serve() -> tuple[bytes, type[BaseException] | None]:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            theirs.sendall(b"".join(parts))
            error: type[BaseException] | None = None
            try:
                async with asyncio.timeout(PATIENCE):
                    await HttpConnection(pool, reader, writer).serve()
            except (OSError, TimeoutError) as ended:
                error = type(ended)
            writer.close()
            await writer.wait_closed()
            found = b""
            while part := theirs.recv(1 << 16):
                found += part
            return found, error

    return asyncio.run(serve())


def test_a_slow_head(pool: VerifierPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_front, "HEAD_TIMEOUT", 0.01)
    assert served(pool, HEAD) == (b"", TimeoutError)


def test_an_idle_connection(
    pool: VerifierPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_front, "IDLE_TIMEOUT", 0.01)
    assert served(pool) == (b"", TimeoutError)


def test_a_slow_body(pool: VerifierPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_front, "BODY_TIMEOUT", 0.01)
    found, error = served(pool, HEAD, b"Content-Length: 5\r\n\r\nabc")
    assert (found.count(b"HTTP/1.1 200 OK\r\n"), error) == (1, TimeoutError)


def test_a_large_body(pool: VerifierPool) -> None:
    size = http_front.MAX_BODY + 1
    found, error = served(
        pool, HEAD, b"Content-Length: %d\r\n\r\n" % size, bytes(size), HEAD + b"\r\n"
    )
    assert (found.count(b"HTTP/1.1 200 OK\r\n"), error) == (1, None)


def in_front(directory: Path, pool: VerifierPool, act: Callable[[str], None]) -> None:
    """Run `act` with the path of a front, in a thread. The front is in this one."""
    listener = open_unix(str(directory / "s"), 0o600)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act(str(directory / "s"))
        except BaseException as error:  # noqa: BLE001  # raised again below
            failures.append(error)
        finally:
            signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=run)
    HttpFront(pool, [listener]).serve(thread.start)
    thread.join()
    listener.remove()
    for failure in failures:
        raise failure


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(path)
    return connection


def test_too_many_connections(
    tmp_path: Path, pool: VerifierPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_front, "MAX_CONNECTIONS", 2)

    def act(path: str) -> None:
        with connect(path) as first, connect(path) as second:
            for each in (first, second):
                each.sendall(HEAD + b"\r\n")
                assert each.recv(1 << 16).startswith(b"HTTP/1.1 200")
            with connect(path) as third:
                assert not third.recv(1)
            first.sendall(HEAD + b"\r\n")
            assert first.recv(1 << 16).startswith(b"HTTP/1.1 200")

    in_front(tmp_path, pool, act)


def test_a_signal_closes_open_connections(tmp_path: Path, pool: VerifierPool) -> None:
    kept: list[socket.socket] = []

    def act(path: str) -> None:
        kept.append(connect(path))
        kept[0].sendall(HEAD + b"\r\n")
        assert kept[0].recv(1 << 16).startswith(b"HTTP/1.1 200")

    in_front(tmp_path, pool, act)
    with kept[0] as connection:
        while connection.recv(1 << 16):
            pass  # the rest of the response, and then the end


def test_answers_of_every_kind() -> None:
    identity = Identity("jörg", "Bearer", ("a", "b"), ("shell", "log"))
    for answer, status, field in (
        (
            Answer(ALLOWED, identity, max_age=9.9),
            b"200 OK",
            b"Remote-User: j\xc3\xb6rg",
        ),
        (Answer(ALLOWED, identity), b"200 OK", b"Remote-Groups: a,b"),
        (Answer(ALLOWED, identity), b"200 OK", b"Chimirror-Applications: shell,log"),
        (
            Answer(ALLOWED, identity, max_age=9.9),
            b"200 OK",
            b"Cache-Control: max-age=9",
        ),
        (Answer(ALLOWED, identity, max_age=0.9), b"200 OK", b"Cache-Control: no-store"),
        (Answer(ALLOWED), b"200 OK", b"Cache-Control: no-store"),
        (Answer(FAILED, text="no"), b"503 Service Unavailable", b"Content-Length: 3"),
    ):
        pool = VerifierPool(FakeVerifier(answer))
        found, _ = served(pool, HEAD, b"Connection: close\r\n\r\n")
        pool.close()
        assert found.startswith(b"HTTP/1.1 %b\r\n" % status)
        assert field in found.split(b"\r\n")


def attempt(target: bytes = b"/", *fields: tuple[bytes, bytes]) -> LoginAttempt:
    request = h11.Request(
        method="GET", target=target, headers=[(b"Host", b"x"), *fields]
    )
    return read_attempt(request)


def test_fields_of_a_question() -> None:
    found = attempt(
        b"/",
        (b"Authorization", b"Basic \xe4"),
        (b"Cookie", b"a=b"),
        (b"Cookie", b"c=d"),
        (b"Chimirror-Application", b"shell"),
        (b"X-Forwarded-For", b"198.51.100.1, 192.0.2.1"),
    )
    assert found == LoginAttempt("Basic \xe4", "a=b; c=d", "shell", "192.0.2.1")
    twice = attempt(b"/", (b"Authorization", b"Bearer a"), (b"Authorization", b"b"))
    assert twice.authorization == "Bearer a, b"


@pytest.mark.parametrize(
    ("target", "uri", "application"),
    [
        *((b"/", b"", None), (b"/shell", b"", None)),
        (b"/.well-known/chimirror", b"", ""),
        (b"/authorize", b"/.well-known/chimirror?x=1", ""),
        (b"/authorize", b"/shell/.well-known/chimirror", None),
        (b"/.well-known/chimirror", b"/shell", None),
    ],
)
def test_a_question_without_an_application(
    target: bytes, uri: bytes, application: str | None
) -> None:
    fields = [(b"X-Original-URI", uri)] if uri else []
    assert attempt(target, *fields).application == application
