"""A session that waits for an authorizer: the test gives its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from chimirror.access import Answer, Identity, Question
from chimirror.access.access_control import AccessControl
from session_harness import SessionHarness
from websocket_peer import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.access.authorizer import Authorizer

ANN = Identity("ann", "Basic", ("staff",))


class FakeAuthorizer:
    """An authorizer that answers when the test wants it."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.cancelled = 0
        self.answer: Callable[[Answer], None] = lambda _: None

    def ask(
        self, question: Question, on_answer: Callable[[Answer], None]
    ) -> FakeAuthorizer:
        self.questions.append(question)
        self.answer = on_answer
        return self

    def cancel(self) -> None:
        self.cancelled += 1


class Asking(SessionHarness):
    """A session that waits for an authorizer."""

    def __init__(self, *arguments: str, allow_anonymous: bool = False) -> None:
        super().__init__("--allow-uid", "0", *arguments)
        self.authorizer = FakeAuthorizer()
        self.context.access = AccessControl(
            {},
            cast("Authorizer", self.authorizer),
            (),
            self.clock,
            allow_anonymous=allow_anonymous,
        )

    def answer(self, answer: Answer) -> None:
        self.authorizer.answer(answer)
        self.settle()

    def field(self, name: bytes) -> bytes | None:
        """Return a field of the question."""
        return dict(self.authorizer.questions[-1].fields).get(name)


def offer(text: str, *fields: str) -> bytes:
    return upgrade("/", "", (f"Sec-WebSocket-Protocol: {text}", *fields))


def get(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
