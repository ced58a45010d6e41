"""The log of `chat server` on standard error, which never stops the server.

A terminal can be held (Ctrl-S), and a pipe can be full. So a thread writes the lines.
While it waits, a limited number of lines is kept, and then lines are dropped. The
thread uses no lock of the interpreter's stream, which the exit would wait for.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress
from queue import Full, Queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINES = 1000
STDERR = 2
PATIENCE = 3.0  # seconds at the end for the lines that are left

logger = logging.getLogger("chat")


class BoundedQueueHandler(logging.Handler):
    """Queues lines, or counts them when the queue is full."""

    def __init__(self, lines: Queue[str]) -> None:
        super().__init__()
        self._lines = lines
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                self._lines.put_nowait(f"lines of the log lost: {self._dropped}")
                self._dropped = 0
            self._lines.put_nowait(self.format(record))
        except Full:
            self._dropped += 1


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Write the log of this package to standard error, until the context ends."""
    lines: Queue[str] = Queue(MAX_LINES)
    handler = BoundedQueueHandler(lines)
    writer = threading.Thread(target=write_lines, args=(lines,), daemon=True)
    writer.start()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(Full):
            lines.put("", timeout=PATIENCE)
            writer.join(PATIENCE)


def write_lines(lines: Queue[str]) -> None:
    """Write lines until an empty one. Standard error may be closed at any time."""
    while line := lines.get():
        try:
            os.write(STDERR, f"{line}\n".encode(errors="replace"))
        except OSError:
            pass
