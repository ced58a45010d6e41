"""Writes records to a sink, as fast as the sink takes them, and no session waits.

Two kinds of records are queued. Records of sessions come first. Their queue is bounded,
and a record beyond it is dropped and counted. Lines of applications follow, in each
turn of the loop a few lines of the next application. Their streams are paused while
lines wait.

With a loop, records are written at the end of a turn, a bounded number of them. If the
sink has no room, the loop reports when it has. A sink that fails is tried again at
intervals, and after a timeout lines are dropped so that no application waits for ever.
A record of its own reports how many records were dropped, and of which session.
Knows no kind of record and no session.
"""

from __future__ import annotations

from errno import EMSGSIZE

from chimirror.builtin_modules import deque
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from chimirror.log.output_logger import OutputLogger
    from chimirror.log.rate_limit import RateLimit
    from chimirror.log.sinks import JournalSink
    from chimirror.log.stream_sinks import StreamSink

    class Loop(Protocol):
        """The event loop of the process."""

        now: float
        clock: Callable[[], float]

        def watch(self, fd: int, handler: RecordWriter, mask: int) -> None: ...

        def set_timer(
            self, handler: RecordWriter | RateLimit, deadline: float
        ) -> None: ...

        def cancel_timer(self, handler: RecordWriter | RateLimit) -> None: ...

        def call_after_turn(self, callback: Callable[[], None]) -> None: ...


NEVER = float("inf")
WRITE = 0x4  # EPOLLOUT, as the loop takes it

MAX_RECORDS = 1024  # of sessions, that wait for the log
RECORDS_PER_TURN = 256
# Records in a row, and lines in a turn. 64 lines take 0.2 ms, and the echo of another
# session waits for two turns. 8 lines cost 1.8 times as much CPU time for each.
SHARE = 16
MAX_ENDED_BYTES = 8 << 20  # of lines whose application has ended
GONE_TIMEOUT = 5.0  # seconds for which lines wait for a sink that fails
RETRY_INTERVAL = 0.25  # seconds between two attempts
# in a row: other processes that write to the same log may take the room first
MAX_VAIN_WAKEUPS = 16
FINAL_TIMEOUT = 5.0  # seconds without progress, before the process exits by itself
MAX_FINAL_TIME = 10.0  # seconds in all


class RecordWriter:
    """Queues in front of a sink.

    Args:
        sink: destination of the records.
        clock: monotonic time in seconds.

    Attributes:
        written: number of records that have been written.
        dropped: number of records that could not be written.
    """

    __slots__ = (
        "_arrived",
        "_blocked_since",
        "_clock",
        "_ended_bytes",
        "_gone_since",
        "_is_scheduled",
        "_is_waiting",
        "_loop",
        "_next_attempt",
        "_queue",
        "_records",
        "_sink",
        "_unreported",
        "_vain_wakeups",
        "_watched_fd",
        "armed",
        "deadline",
        "dropped",
        "written",
    )

    def __init__(
        self, sink: JournalSink | StreamSink, clock: Callable[[], float]
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._loop: Loop | None = None
        self._reset()

    def _reset(self) -> None:
        self._records: deque[bytes] = deque()
        self._queue: deque[OutputLogger] = deque()  # outputs with lines
        self._arrived: list[OutputLogger] = []  # outputs with lines of this turn
        self._ended_bytes = 0
        self._unreported = self.dropped = self.written = 0
        self._is_scheduled = self._is_waiting = False
        self._vain_wakeups = 0
        self._watched_fd = -1
        self._gone_since = self._blocked_since = NEVER
        self._next_attempt = 0.0
        self.armed = 0
        self.deadline = NEVER

    def attach(self, loop: Loop) -> None:
        """Write from this loop from now on.

        After a fork, the child attaches its own loop. Records that the parent has
        queued stay with the parent.
        """
        self._sink.close()
        self._reset()
        self._loop = loop
        self._clock = loop.clock

    def _encode_constant(
        self, output: OutputLogger, stream: str
    ) -> tuple[bytes, bytes]:
        """Encode the parts that all lines of a stream share. For the subclass."""
        raise NotImplementedError

    def _encode_dropped(self, count: int, output: OutputLogger | None) -> bytes:
        """Encode a record that reports dropped records. For the subclass.

        Args:
            count: number of dropped records.
            output: lines of this output were dropped. None for other records.
        """
        raise NotImplementedError

    # Records of sessions

    def append(self, record: bytes) -> None:
        """Queue a record, or drop it if too many wait."""
        if len(self._records) < MAX_RECORDS:
            self._records.append(record)
            self._schedule()
        else:
            self._count_dropped(1)

    def append_after_output(
        self, output: OutputLogger | None, encode: Callable[[int], bytes]
    ) -> None:
        """Queue the last record of a session, behind its lines of output.

        Args:
            output: the lines, if there were any.
            encode: returns the record, given the number of lines that were dropped.
        """
        if output is None:
            self.append(encode(0))
        elif output.is_queued:
            output.encode_final = encode
        else:
            self._append_final(output, encode)

    def _append_final(
        self, output: OutputLogger, encode: Callable[[int], bytes]
    ) -> None:
        """Queue the last record of a session, with the number of dropped lines."""
        if output.unreported:
            self.append(self._encode_dropped(output.unreported, output))
        self.append(encode(output.dropped))

    def _count_dropped(self, count: int, output: OutputLogger | None = None) -> None:
        """Count dropped lines of an output, or other dropped records."""
        self.dropped += count
        if output is None:
            self._unreported += count
        else:
            output.dropped += count
            output.unreported += count

    # Lines of applications

    def add_output(self, output: OutputLogger) -> None:
        """Write the lines of an output, if it has any."""
        max_size = self._sink.max_output
        if not output.has_lines(max_size):
            return
        if output.has_ended and not self._hold(output):
            return
        if not output.is_queued:
            output.is_queued = True
            self._queue.append(output)
        if self._is_waiting:
            output.pause(max_size)
        else:
            self._arrived.append(output)
            self._schedule()

    def _hold(self, output: OutputLogger) -> bool:
        """Keep the last lines of an ended application, or drop them if too many are."""
        self._ended_bytes += output.size
        if self._ended_bytes <= MAX_ENDED_BYTES:
            return True
        self._ended_bytes -= output.size
        self._count_dropped(output.discard(), output)
        return output.is_queued  # it is removed with its turn

    # Writing

    def _schedule(self) -> None:
        if self._is_scheduled or self._is_waiting:
            return
        if self._loop is None:
            self._flush()
            return
        self._is_scheduled = True
        self._loop.call_after_turn(self._flush)

    def _flush(self) -> None:
        """Write a bounded number of records. Pause the streams of remaining lines.

        Called at the end of a turn, but not while the sink has no room.
        """
        self._is_scheduled = False
        has_room = self._write_some()
        arrived, self._arrived = self._arrived, []
        for output in arrived:
            output.pause(self._sink.max_output)
        if self._loop is None:
            return
        if not has_room:
            self._wait()
        elif self._records or self._queue:
            self._schedule()

    def _write_some(self) -> bool:
        """Write records, then lines. Returns False if the sink takes no more."""
        return self._write_records() and self._write_lines()

    def _write_records(self) -> bool:
        records = self._records
        for _ in range(RECORDS_PER_TURN // SHARE):
            if not records:
                break
            batch = [records.popleft() for _ in range(min(SHARE, len(records)))]
            done = self._write(batch)
            if done < len(batch):
                records.extendleft(reversed(batch[done:]))
                return False
        return True

    def _write_lines(self) -> bool:
        """Write a few lines of one application. The next one has the next turn."""
        queue = self._queue
        if not queue:
            return True
        output = queue[0]
        if not self._write_share(output):
            return False
        queue.popleft()
        if output.has_lines(self._sink.max_output):
            queue.append(output)
        else:
            self._on_output_written(output)
        return True

    def _write_share(self, output: OutputLogger) -> bool:
        """Write a few lines of an application. Returns False if some had no room."""
        sink, size = self._sink, output.size
        buffer = output.next_buffer(sink.max_output)
        if buffer is None:
            return True
        lines = buffer.peek(SHARE, sink.max_output)
        constant = buffer.constant
        if constant is None:
            constant = self._encode_constant(output, buffer.stream)
            buffer.constant = constant
        encode = sink.encode_line
        records = [encode(printable(line), constant) for line in lines]
        done = self._write(records, output)
        buffer.consume(done)
        if output.has_ended:
            self._ended_bytes -= size - output.size
        elif not buffer.has_lines(sink.max_output):
            output.resume(buffer)
        return done == len(lines)

    def _on_output_written(self, output: OutputLogger) -> None:
        output.is_queued = False
        if output.encode_final is not None:
            self._append_final(output, output.encode_final)

    def _write(self, records: list[bytes], output: OutputLogger | None = None) -> int:
        """Write records, or drop them. Returns the number of those.

        Args:
            records: lines of an output, or other records. A record precedes them that
                reports the dropped ones of the same kind.
            output: source of the lines.
        """
        if not records:
            return 0
        if self._gone_since != NEVER and self._clock() < self._next_attempt:
            self._count_dropped(len(records), output)
            return len(records)
        report = self._report_dropped(output)
        try:
            done = self._sink.write(report + records)
        except OSError as error:
            return self._on_failure(error, len(records), output)
        if not done:
            return 0
        self._vain_wakeups = 0
        self._gone_since = self._blocked_since = NEVER
        if report:
            self._on_dropped_reported(output)
        self.written += done - len(report)
        return done - len(report)

    def _report_dropped(self, output: OutputLogger | None) -> list[bytes]:
        """Return a record that reports dropped lines or records, if there are any."""
        count = self._unreported if output is None else output.unreported
        return [self._encode_dropped(count, output)] if count else []

    def _on_dropped_reported(self, output: OutputLogger | None) -> None:
        if output is None:
            self._unreported = 0
        else:
            output.unreported = 0

    def _on_failure(
        self, error: OSError, count: int, output: OutputLogger | None
    ) -> int:
        """Called when the sink fails. Returns the number of records to drop."""
        if error.errno == EMSGSIZE:
            count = 1
        else:
            now = self._clock()
            self._gone_since = min(self._gone_since, now)
            if now - self._gone_since < GONE_TIMEOUT:
                return 0
            self._next_attempt = now + RETRY_INTERVAL
        self._count_dropped(count, output)
        return count

    # Waiting for room

    def _wait(self) -> None:
        """Write again when the sink has room, or after an interval if it fails."""
        loop, fd = self._loop, self._sink.fileno()
        assert loop is not None
        self._is_waiting = True
        self._note_blocked()
        is_pollable = fd >= 0 and self._gone_since == NEVER
        if is_pollable and self._vain_wakeups < MAX_VAIN_WAKEUPS:
            try:
                loop.watch(fd, self, WRITE)
            except OSError:
                pass  # epoll_ctl(2) takes no regular file
            else:
                self._watched_fd = fd
                return
        self._vain_wakeups = 0
        loop.set_timer(self, loop.now + RETRY_INTERVAL)

    def _note_blocked(self) -> None:
        if self._blocked_since == NEVER:
            self._blocked_since = self._clock()

    def on_event(self, fd: int, events: int) -> None:
        """Called when the sink has room."""
        self._vain_wakeups += 1
        self._stop_waiting()
        self._schedule()

    def on_timer(self, now: float) -> None:
        """Called when it is time to try again."""
        self._stop_waiting()
        self._schedule()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Raises it, which ends the process."""
        raise error

    def _stop_waiting(self) -> None:
        self._is_waiting = False
        assert self._loop is not None
        if self._watched_fd >= 0:
            self._loop.watch(self._watched_fd, self, 0)
            self._watched_fd = -1
        self._loop.cancel_timer(self)

    # The end

    def finish(self, timeout: float = FINAL_TIMEOUT) -> None:
        """Write everything before the process exits, as long as the sink takes it.

        Args:
            timeout: seconds without progress, those before the call included. Lines
                that are left then are dropped and counted in the last records.
        """
        if self._loop is not None:
            self._stop_waiting()
            self._loop = None
        self._is_scheduled = True  # nothing else writes
        end = self._clock() + MAX_FINAL_TIME
        while self._records or self._queue:
            if self._write_some():
                if self._clock() < end:
                    continue
                break
            self._note_blocked()
            patience = min(self._blocked_since + timeout, end) - self._clock()
            fd = self._sink.fileno()
            is_gone = fd < 0 or self._gone_since != NEVER
            if is_gone or patience <= 0 or not _await_room(fd, patience):
                break
        self._drop_lines()
        self._sink.close()

    def _drop_lines(self) -> None:
        """Drop all lines. Write the last records, as far as there is room."""
        queue = self._queue
        while queue:
            output = queue.popleft()
            self._count_dropped(output.discard(), output)
            self._on_output_written(output)
        while self._records and self._write_records():
            pass


def _await_room(fd: int, timeout: float) -> bool:
    """Wait until a descriptor has room. Returns False if it has none in time."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))
