"""A log for tests that has as much room as the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from chimirror.log.records import EventLog

if TYPE_CHECKING:
    from chimirror.io.loop import EventLoop
    from chimirror.log.stream_sinks import StreamSink


class FakeSink:
    """Log with a fixed amount of room that keeps its records.

    Attributes:
        room: records that it takes. None for any number.
        failure: raised by each write, if set.
        fd: descriptor to poll, or -1.
    """

    max_output = 100

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.room: int | None = None
        self.failure: OSError | None = None
        self.fd = -1
        self.attempts = 0

    def encode(self, fields: list[tuple[str, str]]) -> bytes:
        return b" ".join(value.encode() for _, value in fields)

    def encode_constant(
        self, fields: list[tuple[str, str]], prefix: str
    ) -> tuple[bytes, bytes]:
        return prefix.encode(), self.encode(fields)

    def encode_line(self, text: str, constant: tuple[bytes, bytes]) -> bytes:
        return text.encode()

    def write(self, records: list[bytes]) -> int:
        self.attempts += 1
        if self.failure is not None:
            raise self.failure
        done = len(records) if self.room is None else min(self.room, len(records))
        if self.room is not None:
            self.room -= done
        self.records += records[:done]
        return done

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """There is nothing to close."""


def event_log_to(sink: FakeSink, loop: EventLoop) -> EventLog:
    """Return an event log that writes to this sink."""
    event_log = EventLog(environ={})
    event_log._sink = cast("StreamSink", sink)
    event_log.attach(loop)
    return event_log
