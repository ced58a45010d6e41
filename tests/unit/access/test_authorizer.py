"""The order, the time limits and the cache of questions, with a fake transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authorizers import Asked, AuthorizingHost, question
from chimirror.access import ALLOWED, FAILED, FORBIDDEN, UNKNOWN, Answer, Identity
from chimirror.access import answer_cache as module
from chimirror.access.answer_cache import AnswerCache
from chimirror.access.authorizer import MAX_ASKED, Authorizer, PendingQuestion
from chimirror.io.loop import TICKS, EventLoop
from loops import Timer, fake_time_loop, subreaper, turn_until

TIMEOUT = 5.0
ANN = Identity("ann", "Basic")


class FakeTransport:
    """Transport without an authorizer: the test answers."""

    def __init__(self, authorizer: Authorizer) -> None:
        self.authorizer = authorizer
        self.ready = True
        self.asked: list[PendingQuestion] = []
        self.dropped: list[tuple[PendingQuestion, bool]] = []
        self.is_closed = False

    def is_ready(self) -> bool:
        return self.ready

    def ask(self, pending: PendingQuestion) -> None:
        self.asked.append(pending)

    def drop(self, pending: PendingQuestion, *, timed_out: bool) -> None:
        self.dropped.append((pending, timed_out))

    def close(self) -> None:
        self.is_closed = True


class Harness:
    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.host = AuthorizingHost(loop)
        self.authorizer = Authorizer(self.host, "it", TIMEOUT, FakeTransport)
        transport = self.authorizer._transport
        assert isinstance(transport, FakeTransport)
        self.transport = transport

    def ask(self, target: str = "/", port: int = 1, application: str = "a") -> Asked:
        asked = question(
            (b"cookie", b"secret"), target=target, port=port, application=application
        )
        return Asked(self.authorizer, asked)

    def pass_time(self, seconds: float) -> None:
        timer = Timer(self.loop)
        self.loop.set_timer(timer, self.loop.now + seconds)
        turn_until(self.loop, lambda: timer.calls)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with subreaper(), fake_time_loop() as loop:
        yield Harness(loop)


def test_an_answer_comes_in_a_later_call(harness: Harness) -> None:
    asked = harness.ask()
    asked.pending.finish(Answer(ALLOWED, ANN))
    assert not asked.answers
    harness.loop.run_once()
    assert asked.answers[0].identity is ANN
    asked.pending.finish(Answer(FORBIDDEN))
    asked.pending.cancel()
    harness.loop.run_once()
    assert len(asked.answers) == 1


def test_others_wait_in_their_order(harness: Harness) -> None:
    asked = [harness.ask(f"/{n}") for n in range(MAX_ASKED + 2)]
    assert len(harness.transport.asked) == MAX_ASKED
    asked[5].pending.finish(Answer(UNKNOWN))
    assert harness.transport.asked[-1] is asked[MAX_ASKED].pending
    asked[3].pending.cancel()
    assert harness.transport.dropped == [(asked[3].pending, False)]
    assert harness.transport.asked[-1] is asked[MAX_ASKED + 1].pending


def test_each_question_has_its_own_time_limit(harness: Harness) -> None:
    asked = [harness.ask(f"/{n}") for n in range(MAX_ASKED + 1)]
    begin = harness.loop.clock()
    while not asked[-1].answers:
        harness.loop.run_once()
    assert TIMEOUT <= harness.loop.clock() - begin <= TIMEOUT + 2 / TICKS
    assert asked[0].answers[0].status == FAILED
    assert asked[0].answers[0].text == "it: no answer within 5 s"
    assert harness.transport.dropped[0] == (asked[0].pending, True)
    assert all(one.answers for one in asked)


def test_a_question_that_is_never_asked_says_so(harness: Harness) -> None:
    harness.transport.ready = False
    asked = harness.ask()
    harness.pass_time(TIMEOUT + 1)
    assert asked.answers[0].text == "it: not asked, too many wait within 5 s"
    assert not harness.transport.asked


def test_a_cancelled_question_is_not_asked(harness: Harness) -> None:
    harness.transport.ready = False
    asked = harness.ask()
    asked.pending.cancel()
    harness.transport.ready = True
    harness.authorizer.on_room()
    harness.pass_time(TIMEOUT + 1)
    assert not asked.answers
    assert not harness.transport.asked


def test_an_answer_that_waits_to_be_told_can_be_cancelled(harness: Harness) -> None:
    asked = harness.ask()
    asked.pending.finish(Answer(ALLOWED, ANN))
    asked.pending.cancel()
    harness.loop.run_once()
    assert not asked.answers


def test_questions_that_cannot_be_asked_in_time_fail_now(harness: Harness) -> None:
    harness.transport.ready = False
    asked = harness.ask()
    harness.authorizer.fail_waiting("it has ended", harness.loop.now + TIMEOUT)
    assert harness.authorizer.has_waiting
    harness.authorizer.fail_waiting("it has ended", harness.loop.now + TIMEOUT + 1)
    harness.loop.run_once()
    assert asked.answers[0].text == "it: it has ended"


def test_an_error_in_a_handshake_stays_there(harness: Harness) -> None:
    def fail(answer: Answer) -> None:
        raise RuntimeError

    pending = harness.authorizer.ask(question(), fail)
    other = harness.ask("/other")
    for one in (pending, other.pending):
        one.finish(Answer(ALLOWED, ANN))
    harness.loop.run_once()
    assert other.answers
    assert [type(error) for error in harness.host.errors] == [RuntimeError]


def test_close_drops_all_questions(harness: Harness) -> None:
    asked = [harness.ask(f"/{n}") for n in range(MAX_ASKED + 1)]
    harness.authorizer.close()
    harness.pass_time(TIMEOUT + 1)
    assert not any(one.answers for one in asked)
    assert harness.transport.is_closed
    assert len(harness.transport.asked) == MAX_ASKED


# The cache


def test_an_answer_holds_as_long_as_it_says(harness: Harness) -> None:
    harness.ask().pending.finish(Answer(ALLOWED, ANN, max_age=10))
    again = harness.ask(port=2)
    harness.loop.run_once()
    assert again.answers[0].identity is ANN
    assert len(harness.transport.asked) == 1
    harness.pass_time(10)
    harness.ask()
    assert len(harness.transport.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [Answer(ALLOWED, ANN), Answer(FAILED, max_age=60)],
    ids=["no max_age", "failed"],
)
def test_other_answers_are_not_kept(harness: Harness, answer: Answer) -> None:
    harness.ask().pending.finish(answer)
    harness.ask()
    assert len(harness.transport.asked) == 2


def test_refusals_are_kept_too(harness: Harness) -> None:
    harness.ask().pending.finish(Answer(FORBIDDEN, max_age=60))
    again = harness.ask()
    harness.loop.run_once()
    assert again.answers[0].status == FORBIDDEN


def test_another_question_is_another_one(harness: Harness) -> None:
    harness.ask("/a").pending.finish(Answer(ALLOWED, ANN, max_age=60))
    harness.ask("/b")
    harness.ask("/a", application="b")
    assert len(harness.transport.asked) == 3


def test_each_part_of_a_question_counts() -> None:
    cache = AnswerCache()
    keys = {
        cache.key_of(question((b"a", b"bc"))),
        cache.key_of(question((b"ab", b"c"))),
        cache.key_of(question((b"a", b"b"), (b"c", b""))),
        cache.key_of(question(target="/shell?x=2")),
        cache.key_of(question(application="shel", target="l/shell?x=1")),
        AnswerCache().key_of(question((b"a", b"bc"))),  # its secret differs
    }
    assert len(keys) == 6
    assert cache.key_of(question(port=1)) == cache.key_of(question(port=2))


def test_the_cache_is_bounded() -> None:
    cache = AnswerCache()
    for number in range(module.MAX_ENTRIES + 10):
        cache.add(str(number).encode(), Answer(ALLOWED, ANN, max_age=60), 0)
    assert len(cache) == module.MAX_ENTRIES
    assert cache.get(b"9", 0) is None
    assert cache.get(b"10", 0) is not None


def test_the_cache_keeps_no_secret() -> None:
    cache = AnswerCache()
    secret = b"Basic YW5uOnNlY3JldA=="
    key = cache.key_of(question((b"authorization", secret)))
    cache.add(key, Answer(ALLOWED, ANN, max_age=60), 0)
    assert secret not in repr(cache._answers).encode()
    assert len(key) == 32
