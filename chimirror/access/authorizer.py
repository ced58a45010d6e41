"""Asks an authorizer who a client is: in order, in bounded number and bounded time.

An authorizer is another process: a helper that this one starts, or an HTTP server. The
transport knows how it is asked. This file knows when: MAX_ASKED questions at once, the
others wait in their order, and each has the time limit of --authorize-timeout. No
question waits for another one longer than that, and no handshake waits for a question
but its own. Knows no session.
"""

from __future__ import annotations

from chimirror.access import FAILED, Answer
from chimirror.access.answer_cache import AnswerCache
from chimirror.builtin_modules import OrderedDict
from chimirror.io.loop import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from chimirror.access import Question
    from chimirror.io.loop import EventLoop
    from chimirror.process.application_process import SpawnBackend

    class RecordLimit(Protocol):
        """Bounds the records of one kind."""

        def allows(self, label: str) -> bool: ...

    class AuthorizerLog(Protocol):
        """The event log of this process."""

        def message(self, priority: int, text: str) -> None: ...

        def limit(
            self, limit: int, period: float, report: Callable[[str, int], None]
        ) -> RecordLimit: ...

    class AuthorizerHost(Protocol):
        """The context of the sessions of this process."""

        @property
        def loop(self) -> EventLoop: ...

        @property
        def spawner(self) -> SpawnBackend: ...

        @property
        def event_log(self) -> AuthorizerLog: ...

        def log_internal_error(
            self, error: Exception, session: str = "", *, part: str = ""
        ) -> None: ...

    class Transport(Protocol):
        """Carries questions to the authorizer, and answers back."""

        def is_ready(self) -> bool:
            """Return True if one more question can be asked now.

            Otherwise `Authorizer.on_room` follows once that is possible.
            """

        def ask(self, pending: PendingQuestion) -> None:
            """Ask a question. `pending.finish` follows, possibly at once."""

        def drop(self, pending: PendingQuestion, *, timed_out: bool) -> None:
            """Forget a question that is asked: its answer is not awaited any more.

            Args:
                pending: the question.
                timed_out: True if its time limit is over, False if the client has gone.
            """

        def close(self) -> None:
            """Close all connections, or end the helper process."""


MAX_ASKED = 64  # questions at once
WAITING, ASKED, ANSWERED, DONE = range(4)  # states of a question


class PendingQuestion:
    """A question without an answer yet.

    Args:
        authorizer: is asked.
        question: the question.
        key: of the question, in the cache.
        on_answer: called once with the answer, never before `ask` has returned.

    Attributes:
        answer: the answer, once it is there.
        deadline: the time by which it has to be there.
        question, key: as given.
        state: WAITING, ASKED, ANSWERED or DONE.
    """

    __slots__ = (
        "_authorizer",
        "_on_answer",
        "answer",
        "armed",
        "deadline",
        "key",
        "question",
        "state",
    )

    def __init__(
        self,
        authorizer: Authorizer,
        question: Question,
        key: bytes,
        on_answer: Callable[[Answer], object],
    ) -> None:
        self._authorizer = authorizer
        self._on_answer: Callable[[Answer], object] | None = on_answer
        self.question = question
        self.key = key
        self.answer: Answer | None = None
        self.state = WAITING
        self.armed = 0
        self.deadline = NEVER

    def cancel(self) -> None:
        """Called when the client has gone. `on_answer` is not called any more."""
        if self.state != DONE:
            self._authorizer.forget(self)
            self._end()

    def finish(self, answer: Answer) -> None:
        """Called by the transport with the answer. Ignored if it is not awaited."""
        if self.state == ASKED:
            self._authorizer.on_answered(self, answer)

    def fail(self, text: str) -> None:
        """Called by the transport if there is no answer.

        Args:
            text: the reason, for the log.
        """
        self.finish(Answer(FAILED, text=f"{self._authorizer.name}: {text}"))

    def _end(self) -> None:
        self.state = DONE
        self._on_answer = None

    def on_timer(self, now: float) -> None:
        """Called when the time limit is over."""
        self._authorizer.on_timeout(self)

    def on_turn(self) -> None:
        """Called in this turn or a later one. Passes the answer on."""
        answer, on_answer = self.answer, self._on_answer
        self._end()
        if answer is not None and on_answer is not None:
            on_answer(answer)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. The client has been refused."""
        self._authorizer.on_internal_error(error)


class Authorizer:
    """Asks one authorizer.

    Args:
        host: the context of the sessions of this process.
        name: of the authorizer, for the log.
        timeout: seconds for each question, the time that it waits included.
        make_transport: called with this object. Returns what carries the questions.

    Attributes:
        host, name: as given.
    """

    __slots__ = (
        "_asked",
        "_cache",
        "_is_asking",
        "_timeout",
        "_transport",
        "_waiting",
        "host",
        "name",
    )

    def __init__(
        self,
        host: AuthorizerHost,
        name: str,
        timeout: float,
        make_transport: Callable[[Authorizer], Transport],
    ) -> None:
        self.host = host
        self.name = name
        self._timeout = timeout
        self._is_asking = False
        self._cache = AnswerCache()
        self._waiting: OrderedDict[PendingQuestion, None] = OrderedDict()
        self._asked: set[PendingQuestion] = set()
        self._transport = make_transport(self)

    def ask(
        self, question: Question, on_answer: Callable[[Answer], object]
    ) -> PendingQuestion:
        """Ask who a client is.

        Args:
            question: the request of the client.
            on_answer: called once, in a later call of the event loop, unless the
                question is cancelled. An answer with FAILED has the reason as text.
        """
        loop = self.host.loop
        key = self._cache.key_of(question)
        pending = PendingQuestion(self, question, key, on_answer)
        cached = self._cache.get(key, loop.now)
        if cached is not None:
            self._deliver(pending, cached)
            return pending
        self._waiting[pending] = None
        loop.set_timer(pending, loop.now + self._timeout)
        self.on_room()
        return pending

    def on_room(self) -> None:
        """Called by the transport when it can take questions. Asks those that wait."""
        if self._is_asking:
            return  # the transport has answered or started at once
        self._is_asking = True
        try:
            while len(self._asked) < MAX_ASKED and self._waiting:
                if not self._transport.is_ready():
                    break
                pending, _ = self._waiting.popitem(last=False)
                pending.state = ASKED
                self._asked.add(pending)
                self._transport.ask(pending)
        finally:
            self._is_asking = False

    def on_answered(self, pending: PendingQuestion, answer: Answer) -> None:
        """Called with the answer to a question that is asked."""
        self._asked.discard(pending)
        if answer.status != FAILED:
            self._cache.add(pending.key, answer, self.host.loop.now)
        self._deliver(pending, answer)
        self.on_room()

    def on_timeout(self, pending: PendingQuestion) -> None:
        """Called when a question has had no answer in time."""
        problem = "no answer" if pending.state == ASKED else "not asked, too many wait"
        self.forget(pending, timed_out=True)
        self._fail(pending, f"{problem} within {self._timeout:g} s")

    def fail_waiting(self, text: str, until: float) -> None:
        """Called when no question can be asked before `until`.

        Those whose time is over by then fail now.
        """
        for pending in list(self._waiting):
            if pending.deadline < until:
                del self._waiting[pending]
                self._fail(pending, text)

    @property
    def has_waiting(self) -> bool:
        """Whether a question waits to be asked."""
        return bool(self._waiting)

    def forget(self, pending: PendingQuestion, *, timed_out: bool = False) -> None:
        """Called with a question whose answer is not awaited any more."""
        loop, state = self.host.loop, pending.state
        pending.state = ANSWERED
        if state == WAITING:
            self._waiting.pop(pending, None)
        elif state == ASKED:
            self._asked.discard(pending)
            self._transport.drop(pending, timed_out=timed_out)
            self.on_room()
        loop.cancel_soon(pending)
        loop.cancel_timer(pending)

    def _fail(self, pending: PendingQuestion, text: str) -> None:
        self._deliver(pending, Answer(FAILED, text=f"{self.name}: {text}"))

    def _deliver(self, pending: PendingQuestion, answer: Answer) -> None:
        self.host.loop.cancel_timer(pending)
        pending.answer, pending.state = answer, ANSWERED
        self.host.loop.call_soon(pending)

    def on_internal_error(self, error: Exception) -> None:
        """Called on an internal error. Logs it: no other handshake ends by it."""
        self.host.log_internal_error(error, part="the authorizer's questions")

    def close(self) -> None:
        """Called at the end. Drops all questions, and ends the helper process."""
        for pending in [*self._waiting, *self._asked]:
            pending.cancel()
        self._transport.close()
