"""Fuzz targets for the answers of authorizers, and for the command of a helper."""

from __future__ import annotations

import socket

from chimirror.access import (
    ALLOWED,
    FAILED,
    FORBIDDEN,
    UNKNOWN,
    Answer,
    Question,
    is_valid_name,
)
from chimirror.access.answer_fields import WrongAnswerError
from chimirror.access.exec_messages import read_line, to_answer
from chimirror.access.http_connection import HttpConnection
from chimirror.access.http_messages import to_answer as to_http_answer
from chimirror.config import command_words
from chimirror.io.loop import EventLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access import Fields

BASIC = b"Basic YW5uOng="
QUESTION = Question(
    application="shell",
    method="GET",
    target="/",
    scheme="http",
    host="localhost",
    address="127.0.0.1",
    port=1,
    fields=[(b"authorization", BASIC)],
)


def check(answer: Answer) -> None:
    """No name can be mistaken for another, and no challenge splits a response."""
    assert (answer.status == ALLOWED) == (answer.identity is not None)
    assert 0 <= answer.max_age < float("inf")
    for challenge in answer.challenges:
        assert challenge.isascii()
        assert challenge.isprintable()
    if answer.identity is not None:
        user = answer.identity.user
        assert not user or is_valid_name(user)
        assert all(map(is_valid_name, answer.identity.groups))


def fuzz_authorizer_line(data: bytes) -> None:
    """A line is an answer that is safe to use, or wrong as a whole."""
    try:
        _, members = read_line(data)
        answer = to_answer(members, QUESTION)
    except WrongAnswerError as error:
        assert str(error).isprintable()
        return
    assert answer.status in (ALLOWED, UNKNOWN, FORBIDDEN, FAILED)
    assert answer.text.isprintable()
    check(answer)


class ResponseReader:
    """Owner of a connection that checks the first response."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.faults: list[str] = []

    def on_response(
        self, connection: HttpConnection, status: int, fields: Fields
    ) -> None:
        self.answers.append(status)
        connection.abort()
        try:
            answer = to_http_answer(
                status, fields, QUESTION, ("remote-user", "remote-groups")
            )
        except WrongAnswerError:
            return
        check(answer)

    def on_connection_fault(self, connection: HttpConnection, reason: str) -> None:
        self.faults.append(reason)
        connection.abort()

    def on_error(self, error: Exception) -> None:
        raise error


def outcome(data: bytes, size: int) -> tuple[list[int], bool]:
    """Read a response in pieces of this size, up to its end."""
    loop, reader = EventLoop(), ResponseReader()
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        connection = HttpConnection(reader, loop, ours.detach())
        connection.send_request("/", [(b"Host", b"localhost")])
        for start in range(0, len(data), size):
            if connection.read_fd >= 0:
                connection.on_data(data[start : start + size])
        if connection.read_fd >= 0:
            connection.on_eof()
        assert connection.read_fd < 0
    loop.run_once()
    loop.close_all()
    return reader.answers, bool(reader.faults)


def fuzz_authorizer_response(data: bytes) -> None:
    """A response has one answer or one fault, however its bytes arrive."""
    found = outcome(data, 1 << 20)
    assert len(found[0]) + found[1] == 1
    assert outcome(data, 1) == found


def fuzz_command_words(data: bytes) -> None:
    """Quoting the words of a command gives the same words again."""
    try:
        words = command_words.split(data.decode(errors="surrogateescape"))
    except ValueError:
        return
    quoted = [word.replace("\\", r"\\").replace('"', r"\"") for word in words]
    assert command_words.split(" ".join(f'"{word}"' for word in quoted)) == words
