"""Sessions whose standard error goes to the log, while the log has no room."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Any

import pytest

from fake_sink import FakeSink, event_log_to
from loops import fill
from session_harness import SessionHarness
from websocket_peer import Closed


class LoggedSession(SessionHarness):
    """A session with --stderr log. The log has room for the start record.

    Attributes:
        sink: the log.
    """

    def __init__(self, *arguments: str) -> None:
        super().__init__("--stderr=log", *arguments)
        self.sink = FakeSink()
        self.event_log: Any = event_log_to(self.sink, self.loop)

    def flood(self) -> int:
        """Write short lines to standard error, as much as the pipe takes."""
        written = 0
        try:
            while True:
                written += os.write(self.application.stderr, b"x\n" * 2048)
        except BlockingIOError:
            return written

    def is_blocked(self) -> bool:
        """Whether standard error of the application takes no more."""
        return not select.select([], [self.application.stderr], [], 0)[1]


@pytest.fixture
def harness() -> Iterator[LoggedSession]:
    made = LoggedSession()
    with made:
        made.open()
        made.wait(1)
        os.set_blocking(made.application.stderr, False)
        made.sink.room = 0
        yield made


def test_the_start_is_recorded_before_the_first_line() -> None:
    """The first tick would record it later."""
    harness = LoggedSession()
    with harness:
        harness.open()
        os.write(harness.application.stderr, b"line\n")
        harness.settle()
        start, line = harness.sink.records
        assert start.startswith(b"session 01234567 for ")
        assert line == b"line"


def test_only_standard_error_waits(harness: LoggedSession) -> None:
    """The application waits in its second write, and the echo goes on."""
    written = harness.flood()
    harness.settle()
    written += harness.flood()
    harness.settle()
    assert harness.is_blocked()
    harness.print(b"answer")
    assert harness.peer.output(6) == b"answer"
    harness.sink.records.clear()
    harness.sink.room = None
    harness.until(lambda: len(harness.sink.records) == written // 2)
    assert not harness.is_blocked()
    assert harness.event_log.dropped == 0


def test_the_client_gets_the_exit_before_the_log_gets_the_lines(
    harness: LoggedSession,
) -> None:
    """After the linger timeout, the session ends. Its lines and its record follow."""
    written = harness.flood()
    harness.settle()
    written += harness.flood()
    harness.application.exit(3)
    harness.wait(1.1)
    assert harness.peer.receive() == Closed(1011, "exit 3")
    harness.peer.close()
    harness.until(lambda: not harness.context.sessions)
    harness.sink.records.clear()
    harness.sink.room = None
    harness.until(lambda: len(harness.sink.records) == written // 2 + 1)
    assert set(harness.sink.records[:-1]) == {b"x"}
    assert b"exit 3" in harness.sink.records[-1]
    assert harness.event_log.dropped == 0


def test_the_log_gets_the_last_words_of_a_stop(harness: LoggedSession) -> None:
    """The client has left. What the application then writes is logged."""
    harness.sink.room = None
    harness.sink.records.clear()
    harness.peer.send_close(1000)
    harness.settle()
    os.write(harness.application.stderr, b"saved\n")
    os.write(harness.application.stdout, b"to nobody\n")
    harness.settle()
    assert harness.sink.records == [b"saved"]
    os.write(harness.application.stderr, b"bye")
    harness.exit()
    harness.until(lambda: len(harness.sink.records) == 3)
    assert harness.sink.records[1] == b"bye"


def test_a_stop_does_not_wait_for_the_log(harness: LoggedSession) -> None:
    """The stop sequence goes on, although the application is blocked in a write."""
    harness.flood()
    harness.settle()
    fill(harness.application.stderr)
    harness.peer.send_close(1000)
    harness.wait(20)
    assert harness.application.signals == [15, 18, 9]
    harness.application.exit(-9)
    harness.settle()
    assert not harness.context.sessions
