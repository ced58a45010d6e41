"""Questions and answers as JSON lines."""

from __future__ import annotations

import io
import json
import os
import threading

import pytest

from chimirror.access import ALLOWED, FAILED, FORBIDDEN, UNKNOWN, Answer, Identity
from chimirror.authorize import LoginAttempt, json_front
from chimirror.authorize.json_front import (
    MAX_LINE,
    JsonFront,
    MalformedQuestion,
    read_question,
    write_answer,
)
from chimirror.authorize.verifier_pool import VerifierPool

# The question of chimirror-protocol(7), with a cookie.
QUESTION = {
    "id": 7,
    "application": "shell",
    "method": "GET",
    "path": "/shell?x=1",
    "scheme": "https",
    "host": "example.org",
    "address": "192.0.2.1",
    "port": 4711,
    "headers": {"authorization": "Bearer cm_x", "cookie": "a=b", "user-agent": "x"},
    "later": [1],
}


def test_a_question() -> None:
    found = read_question(json.dumps(QUESTION).encode())
    attempt = LoginAttempt("Bearer cm_x", "a=b", "shell", "192.0.2.1")
    assert found == (7, attempt)
    assert read_question(b'{"id":0}').attempt == LoginAttempt()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"secret\n", "a line that is not JSON"),
        (b"[1]", '"id" is not usable'),
        (b'{"id":"7"}', '"id" is not usable'),
        (b'{"id":true}', '"id" is not usable'),
        (b'{"id":1,"headers":[]}', '"headers" is not usable'),
        (b'{"id":1,"headers":{"cookie":["secret"]}}', '"cookie" is not usable'),
        (b'{"id":1,"application":null}', '"application" is not usable'),
        (b" " * (MAX_LINE + 1), "a question of more than 256 KiB"),
    ],
)
def test_no_question(line: bytes, fault: str) -> None:
    with pytest.raises(MalformedQuestion) as caught:
        read_question(line)
    assert fault in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            Answer(
                ALLOWED, Identity("ann", "Bearer", ("a", "b"), ("shell",)), max_age=9.7
            ),
            {
                "id": 1,
                "status": 200,
                "user": "ann",
                "groups": ["a", "b"],
                "applications": ["shell"],
                "max_age": 9,
            },
        ),
        (
            Answer(ALLOWED, Identity("", "Bearer"), max_age=0.5),
            {"id": 1, "status": 200},
        ),
        (
            Answer(UNKNOWN, challenges=("Basic",), text="who?"),
            {"id": 1, "status": 401, "challenge": "Basic", "text": "who?"},
        ),
        (
            Answer(UNKNOWN, challenges=("Basic", "Bearer")),
            {"id": 1, "status": 401, "challenge": ["Basic", "Bearer"]},
        ),
        (Answer(FORBIDDEN, text="no"), {"id": 1, "status": 403, "text": "no"}),
        (Answer(FAILED), {"id": 1, "status": 503}),
    ],
)
def test_answers(answer: Answer, line: object) -> None:
    written = write_answer(1, answer)
    assert written.endswith(b"}\n")
    assert written.count(b"\n") == 1
    assert json.loads(written) == line


class SlowFirst:
    """A verifier whose first answer comes after the second one."""

    threads = 2

    def __init__(self) -> None:
        self._second = threading.Event()

    def verify(self, attempt: LoginAttempt) -> Answer:
        if attempt.application == "1":
            assert self._second.wait(100)
        else:
            self._second.set()
        return Answer(ALLOWED)


def test_answers_come_in_any_order_and_all_before_the_end() -> None:
    lines = b'{"id":1,"application":"1"}\n{"id":2}'
    reading, writing = os.pipe()
    pool = VerifierPool(SlowFirst())
    assert JsonFront(pool, io.BytesIO(lines), writing).serve()
    pool.close()
    os.close(writing)
    with open(reading, "rb") as answers:
        found = sorted(json.loads(line)["id"] for line in answers)
    assert found == [1, 2]


def test_a_server_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    pool = VerifierPool(SlowFirst())
    assert JsonFront(pool, io.BytesIO(b'{"id":2}\n'), writing).serve()
    pool.close()
    os.close(writing)


class Hanging:
    """A verifier that answers when it is told to."""

    threads = 1

    def __init__(self) -> None:
        self.may_answer = threading.Event()

    def verify(self, attempt: LoginAttempt) -> Answer:
        assert self.may_answer.wait(100)
        return Answer(ALLOWED)


def test_the_end_of_input_is_not_delayed_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_front, "END_TIMEOUT", 0.01)
    verifier = Hanging()
    pool = VerifierPool(verifier)
    reading, writing = os.pipe()
    assert not JsonFront(pool, io.BytesIO(b'{"id":1}\n'), writing).serve()
    verifier.may_answer.set()
    pool.close()
    os.close(writing)
    os.close(reading)
