"""Answers questions in threads, a bounded number at once.

A question that has waited for long is not verified any more: its server has given up.
So many wrong passwords cannot make all later questions late. An internal error ends no
thread, and the line about it holds no value of the question.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from chimirror.access import FAILED, Answer
from chimirror.authorize.messages import warn_internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from chimirror.authorize import LoginAttempt, Verifier

MAX_WAIT = 5.0  # seconds for a question in the queue


class VerifierPool:
    """Threads that ask a verifier.

    Args:
        verifier: Decides.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self, verifier: Verifier, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._verifier = verifier
        self._clock = clock
        self._threads = ThreadPoolExecutor(verifier.threads, "verifier")

    def submit(self, attempt: LoginAttempt) -> Future[Answer]:
        """Verify an attempt in a thread. The answer never is an exception."""
        return self._threads.submit(self._verify, attempt, self._clock())

    def close(self) -> None:
        """End the threads, after the attempts that they verify just now."""
        self._threads.shutdown(cancel_futures=True)

    def _verify(self, attempt: LoginAttempt, asked: float) -> Answer:
        if self._clock() > asked + MAX_WAIT:
            return Answer(FAILED, text="too many questions at once")
        try:
            return self._verifier.verify(attempt)
        except Exception as error:  # noqa: BLE001  # this question alone fails
            warn_internal(error)
            return Answer(FAILED, text="internal error")
