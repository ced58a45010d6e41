"""Takes questions as JSON lines on standard input, and answers on standard output.

chimirror-protocol(7), section AUTHORIZERS. Answers come in any order. While many
questions are open, no further one is read.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import wait
from functools import partial
from typing import NamedTuple

import orjson

from chimirror.access import ALLOWED
from chimirror.authorize import LoginAttempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any, BinaryIO

    from chimirror.access import Answer
    from chimirror.authorize.verifier_pool import VerifierPool

MAX_LINE = 1 << 18  # bytes of a question
MAX_OPEN = 256  # questions
END_TIMEOUT = 5.0  # seconds for open answers after the end of input
_FORM = 'write {"id":1,"application":"","headers":{}} and more: chimirror-protocol(7)'


class MalformedQuestion(Exception):
    """A line that is no question. str() says why, without its content."""


class JsonQuestion(NamedTuple):
    """A question of a server.

    Attributes:
        id: The number that its answer repeats.
        attempt: The client.
    """

    id: int
    attempt: LoginAttempt


class JsonFront:
    """Serves one server.

    Args:
        pool: Verifies.
        questions: Standard input.
        answers: The descriptor of standard output.
    """

    def __init__(self, pool: VerifierPool, questions: BinaryIO, answers: int) -> None:
        self._pool = pool
        self._questions = questions
        self._answers = answers
        self._room = threading.Semaphore(MAX_OPEN)
        self._writing = threading.Lock()
        self._open: set[Future[Answer]] = set()

    def serve(self) -> bool:
        """Serve until the end of input.

        Returns:
            True if all questions have been answered.

        Raises:
            MalformedQuestion: A line is no question.
        """
        while line := self._questions.readline(MAX_LINE + 1):
            question = read_question(line)
            self._room.acquire()
            future = self._pool.submit(question.attempt)
            self._open.add(future)
            future.add_done_callback(partial(self._answer, question.id))
        _, unanswered = wait([*self._open], END_TIMEOUT)
        return not unanswered

    def _answer(self, number: int, done: Future[Answer]) -> None:
        line = write_answer(number, done.result())
        try:
            with self._writing:
                while line:
                    line = line[os.write(self._answers, line) :]
        except OSError:
            pass  # the server has gone, and the end of input follows
        self._open.discard(done)
        self._room.release()


def read_question(line: bytes) -> JsonQuestion:
    """Read a question.

    Raises:
        MalformedQuestion: It is none.
    """
    if len(line) > MAX_LINE:
        raise MalformedQuestion(f"a question of more than {MAX_LINE >> 10} KiB")
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise MalformedQuestion(f"a line that is not JSON; {_FORM}") from None
    number = _member(found, "id", int, None)
    headers = _member(found, "headers", dict, {})
    return JsonQuestion(
        number,
        LoginAttempt(
            authorization=_member(headers, "authorization", str, ""),
            cookie=_member(headers, "cookie", str, ""),
            application=_member(found, "application", str, ""),
            address=_member(found, "address", str, ""),
        ),
    )


def _member(found: Any, name: str, kind: type, default: Any) -> Any:
    value = found.get(name, default) if isinstance(found, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MalformedQuestion(f'a question whose "{name}" is not usable; {_FORM}')
    return value


def write_answer(number: int, answer: Answer) -> bytes:
    """Return the line of an answer."""
    found: dict[str, Any] = {"id": number, "status": answer.status}
    identity = answer.identity
    if answer.status == ALLOWED and identity is not None:
        if identity.user:
            found["user"] = identity.user
        if identity.groups:
            found["groups"] = identity.groups
        if identity.applications is not None:
            found["applications"] = identity.applications
        if answer.max_age >= 1:
            found["max_age"] = int(answer.max_age)
    if len(answer.challenges) == 1:
        found["challenge"] = answer.challenges[0]
    elif answer.challenges:
        found["challenge"] = answer.challenges
    if answer.text:
        found["text"] = answer.text
    return orjson.dumps(found) + b"\n"
