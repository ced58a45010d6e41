"""Threads that verify: errors, and questions that have waited for long."""

from __future__ import annotations

import threading

import pytest

from chimirror.access import ALLOWED, FAILED, Answer
from chimirror.authorize import LoginAttempt
from chimirror.authorize.verifier_pool import MAX_WAIT, VerifierPool

PATIENCE = 100.0


class FakeVerifier:
    """A verifier that waits until it may answer."""

    threads = 1

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked: list[LoginAttempt] = []

    def verify(self, attempt: LoginAttempt) -> Answer:
        assert self.may_answer.wait(PATIENCE)
        self.asked.append(attempt)
        if attempt.application == "broken":
            raise KeyError(attempt.authorization)
        return Answer(ALLOWED)


def test_an_error_fails_one_question(capfd: pytest.CaptureFixture[str]) -> None:
    verifier = FakeVerifier()
    verifier.may_answer.set()
    pool = VerifierPool(verifier)
    broken = LoginAttempt(authorization="secret", application="broken")
    assert pool.submit(broken).result(PATIENCE).status == FAILED
    assert pool.submit(LoginAttempt()).result(PATIENCE).status == ALLOWED
    pool.close()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("chimirror-authorize: internal error: KeyError in ")
    assert "secret" not in line


def test_a_question_that_has_waited_for_long_is_not_verified() -> None:
    verifier, now = FakeVerifier(), [0.0]
    pool = VerifierPool(verifier, lambda: now[0])
    first, second = pool.submit(LoginAttempt()), pool.submit(LoginAttempt())
    now[0] = MAX_WAIT + 1
    third = pool.submit(LoginAttempt())
    verifier.may_answer.set()
    assert second.result(PATIENCE).status == FAILED
    assert second.result().text == "too many questions at once"
    assert third.result(PATIENCE).status == ALLOWED
    first.result(PATIENCE)
    pool.close()
