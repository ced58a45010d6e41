"""Tests the bounded queue of the log of `chat server`."""

from __future__ import annotations

import logging
from queue import Queue

from chat.server_log import BoundedQueueHandler


def test_lines_over_the_limit_are_counted() -> None:
    lines: Queue[str] = Queue(2)
    handler = BoundedQueueHandler(lines)

    def log(*texts: str) -> None:
        for text in texts:
            handler.handle(logging.makeLogRecord({"msg": text}))

    def taken() -> list[str]:
        return [lines.get() for _ in range(lines.qsize())]

    log("one", "two", "three", "four")
    assert taken() == ["one", "two"]
    log("five", "six")
    assert taken() == ["lines of the log lost: 2", "five"]
    log("seven")
    assert taken() == ["lines of the log lost: 1", "seven"]
