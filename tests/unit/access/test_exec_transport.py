"""Questions to a real helper process: answers, faults, restarts and time limits."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator

import pytest

from authorizers import Asked, AuthorizerHarness, authorizer_harness, question
from chimirror.access import ALLOWED, FAILED, FORBIDDEN, UNKNOWN, Answer, Question
from chimirror.access import exec_transport as module
from chimirror.access.authorizer import ASKED as PENDING
from chimirror.access.authorizer import MAX_ASKED, WAITING, Authorizer
from chimirror.access.endpoint import Endpoint
from chimirror.io.write_buffer import HIGH
from loops import turn_until

PIPE = 64 * 1024  # bytes that a pipe holds (pipe(7))


@pytest.fixture
def harness() -> Iterator[AuthorizerHarness]:
    with authorizer_harness() as made:
        yield made


def words(text: str) -> Question:
    """A question with a user that tells the helper how to answer."""
    credentials = base64.b64encode(f"{text}:secret".encode())
    return question((b"authorization", b"Basic " + credentials))


def pid_in(answer: Answer) -> int:
    assert answer.identity is not None
    return int(answer.identity.groups[0])


def allowed(harness: AuthorizerHarness, authorizer: Authorizer) -> Answer:
    """Ask until there is an answer in time: a start may take long."""
    while True:
        answer = harness.answer(authorizer, words("yes ann"))
        if answer.status == ALLOWED:
            return answer


def test_a_helper_names_the_user(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper("pid")
    first = harness.answer(authorizer, words("yes ann"))
    second = harness.answer(authorizer, words("yes ben"))
    assert (first.status, second.status) == (ALLOWED, ALLOWED)
    assert first.identity
    assert second.identity
    assert (first.identity.user, first.identity.auth_type) == ("ann", "Basic")
    assert second.identity.user == "ben"
    assert pid_in(first) == pid_in(second)


def test_a_refusal_has_challenge_and_text(harness: AuthorizerHarness) -> None:
    answer = harness.answer(harness.helper(), words("no"))
    assert answer.status == UNKNOWN
    assert answer.challenges == ('Basic realm="x"',)
    assert answer.text == "wrong"


def test_an_answer_may_come_byte_by_byte(harness: AuthorizerHarness) -> None:
    assert harness.answer(harness.helper(), words("slowly")).status == FORBIDDEN


def test_two_hundred_questions_at_once(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper()
    asked = [Asked(authorizer, words(f"yes user{n}")) for n in range(200)]
    turn_until(harness.loop, lambda: all(one.answers for one in asked))
    users = [one.answers[0].identity.user for one in asked if one.answers[0].identity]
    assert users == [f"user{n}" for n in range(200)]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("garbage", "it wrote a line of 9 bytes that is not JSON"),
        ("other", "its answer has the id of no question"),
        ("long", "it wrote a line of more than 65536 bytes"),
        ("endless", "it wrote a line of more than 65536 bytes"),
        ("echo", 'its answer has no "status" of 200, 401, 403 or 503'),
        ("die", "it has ended: exit 3"),
        ("half", "it has ended: exit 0"),
    ],
)
def test_a_wrong_helper_is_started_again(
    harness: AuthorizerHarness, kind: str, reason: str
) -> None:
    authorizer = harness.helper("pid")
    former = pid_in(harness.answer(authorizer, words("yes ann")))
    failed = harness.answer(authorizer, words(kind))
    assert (failed.status, failed.text) == (FAILED, f"exec:helper: {reason}")
    again = harness.answer(authorizer, words("yes ann"))
    assert pid_in(again) != former
    (line,) = harness.log
    assert reason in line
    assert line.endswith("; it is started again in 0.1 s at the earliest")
    assert "secret" not in line
    assert base64.b64encode(b"echo:secret").decode() not in line


def test_all_open_questions_of_a_dead_helper_fail(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper()
    kinds = ["hang", "late", "die", "hang"]
    asked = [Asked(authorizer, words(kind)) for kind in kinds]
    answers = [harness.wait(one) for one in asked]
    assert [answer.status for answer in answers] == [FAILED] * 4


def test_a_second_answer_to_a_question_is_ignored(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper("pid")
    former = pid_in(harness.answer(authorizer, words("yes ann")))
    harness.answer(authorizer, words("twice"))
    assert pid_in(harness.answer(authorizer, words("yes ann"))) == former


def test_an_answer_after_the_client_has_gone_is_dropped(
    harness: AuthorizerHarness,
) -> None:
    authorizer = harness.helper("pid")
    gone = Asked(authorizer, words("late"))
    turn_until(harness.loop, lambda: gone.pending.state == PENDING)
    gone.pending.cancel()
    gone.pending.cancel()
    first = harness.answer(authorizer, words("yes ann"))  # the late one follows it
    second = harness.answer(authorizer, words("yes ann"))
    assert pid_in(first) == pid_in(second)
    assert not gone.answers
    assert not harness.log


def test_a_helper_that_does_not_read_makes_questions_wait(
    harness: AuthorizerHarness,
) -> None:
    """The pipe and the buffer before it are full. All is asked once it reads again."""
    authorizer = harness.helper("pid")
    helper = pid_in(harness.answer(authorizer, words("yes ann")))
    os.kill(helper, signal.SIGSTOP)
    credentials = words("yes ann").fields
    large = question(*credentials, (b"x-large", b"x" * 16000))
    asked = [Asked(authorizer, large) for _ in range(MAX_ASKED)]
    states = [one.pending.state for one in asked]
    assert states == sorted(states, reverse=True)
    assert HIGH < 16000 * states.count(PENDING) < HIGH + 2 * PIPE
    assert states.count(WAITING) > 0
    os.kill(helper, signal.SIGCONT)
    assert all(harness.wait(one).status == ALLOWED for one in asked)


def test_a_hung_helper_is_killed_after_three_timeouts(
    harness: AuthorizerHarness,
) -> None:
    authorizer = harness.helper("pid", timeout=0.5)
    former = pid_in(allowed(harness, authorizer))
    asked = [Asked(authorizer, words("hang")) for _ in range(module.TIMEOUTS)]
    for one in asked:
        assert harness.wait(one).text == "exec:helper: no answer within 0.5 s"
    assert pid_in(allowed(harness, authorizer)) != former
    harness.wait_for_log("3 questions in a row had no answer in time")


def test_questions_of_clients_that_have_gone_time_out_too(
    harness: AuthorizerHarness,
) -> None:
    """Clients that go at once cannot keep a hung helper alive."""
    authorizer = harness.helper("pid", timeout=0.5)
    asked = [Asked(authorizer, words("hang")) for _ in range(2 * MAX_ASKED)]
    turn_until(harness.loop, lambda: asked[0].pending.state == PENDING)
    for one in asked:
        one.pending.cancel()
    harness.wait_for_log("3 questions in a row had no answer in time")
    allowed(harness, authorizer)


def test_a_helper_that_cannot_be_started(harness: AuthorizerHarness) -> None:
    authorizer = harness.open(Endpoint("exec:/none", argv=("/none",)), timeout=0.3)
    answer = harness.answer(authorizer, words("yes ann"))
    assert answer.status == FAILED
    assert answer.text.startswith("exec:/none: ")
    assert "cannot be started: /none" in harness.log[0]


def test_starts_are_further_apart_each_time(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper("die-at-once", timeout=0.5)
    delays: list[str] = []
    while len(delays) < 4:
        assert harness.answer(authorizer, words("yes ann")).status == FAILED
        starts = [line for line in harness.log if "started again in" in line]
        delays = [line.partition("again in ")[2].partition(" ")[0] for line in starts]
    assert delays[:4] == ["0.1", "0.2", "0.4", "0.8"]
    assert any("no such database" in line for line in harness.log)


def test_a_question_fails_at_once_if_the_next_start_is_too_late(
    harness: AuthorizerHarness,
) -> None:
    authorizer = harness.helper("die-at-once", timeout=0.05)
    answers = [harness.answer(authorizer, words("yes ann")) for _ in range(2)]
    assert [answer.status for answer in answers] == [FAILED, FAILED]


def test_a_helper_that_reads_no_questions(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper("deaf", timeout=0.5)
    for _ in range(3):
        assert harness.answer(authorizer, words("yes ann")).status == FAILED
    assert harness.log


def test_standard_error_goes_to_the_log_in_lines(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper()
    harness.answer(authorizer, words("big 10000"))
    turn_until(harness.loop, lambda: len(harness.log) == 3)
    assert harness.log[0] == "authorizer exec:helper: " + 4096 * "y"
    assert "".join(harness.log).count("y") == 10000


def test_a_flood_on_standard_error_is_bounded(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper()
    harness.answer(authorizer, words("lines 500"))
    turn_until(harness.loop, lambda: len(harness.log) >= module.STDERR_LINES)
    harness.answer(authorizer, words("yes ann"))
    assert len(harness.log) == module.STDERR_LINES


def test_the_environment_has_an_id_of_its_own(
    harness: AuthorizerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "secret")
    answer = harness.answer(harness.helper(), words("environment"))
    assert answer.identity
    assert "PASSWORD" not in answer.identity.groups
    assert {"CHIMIRROR_SESSION", "PATH"} <= set(answer.identity.groups)


def test_closing_ends_a_helper_that_does_not_exit(harness: AuthorizerHarness) -> None:
    authorizer: Authorizer = harness.helper("pid", "stopped")
    pid = pid_in(harness.answer(authorizer, words("yes ann")))
    waiting = Asked(authorizer, words("hang"))
    authorizer.close()
    turn_until(harness.loop, lambda: not is_running(pid))
    assert not waiting.answers


def test_nothing_is_asked_after_the_end(harness: AuthorizerHarness) -> None:
    authorizer = harness.helper(timeout=0.1)
    authorizer.close()
    assert harness.answer(authorizer, words("yes ann")).status == FAILED
    assert not harness.log


def test_an_internal_error_restarts_the_helper(
    harness: AuthorizerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Answer:
        raise RuntimeError

    authorizer = harness.helper()
    with monkeypatch.context() as patched:
        patched.setattr(module, "to_answer", fail)
        asked = Asked(authorizer, words("yes ann"))
        assert harness.wait(asked).text == "exec:helper: an internal error"
    assert [type(error) for error in harness.host.errors] == [RuntimeError]
    harness.host.errors.clear()
    allowed(harness, authorizer)


def test_suppressed_lines_are_counted(
    harness: AuthorizerHarness,
) -> None:
    authorizer = harness.helper()
    harness.answer(authorizer, words("lines 60"))
    turn_until(harness.loop, lambda: len(harness.log) >= module.STDERR_LINES)
    harness.host.event_log.report("stderr", 10)
    expected = "authorizer exec:helper: 10 more lines on its stderr in 10 s"
    assert harness.log[-1] == expected


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
