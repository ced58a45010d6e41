"""Start and end of an application: with a fake spawner, and with real processes.

With the fake spawner pipes are real, but time passes only while no descriptor is ready.
So each timeout is exact to the tick on any machine. The last part covers the cases that
need real processes.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from chimirror.io.loop import HANGUP, TICKS, EventLoop, best_poller
from chimirror.io.selector_poller import SelectorPoller
from chimirror.io.write_buffer import LOW
from chimirror.process import children
from chimirror.process.application_process import (
    ENDED,
    EXITED,
    IDLE,
    MAX_LAST_READS,
    RUNNING,
    STARTING,
    ApplicationProcess,
)
from chimirror.process.pipes import READ_SIZE
from chimirror.process.spawner import Program, Spawner, SpawnRequest
from loops import FakeTimeWithPoller, Timer, event_loop, fill, subreaper, turn_until
from processes import descendants, stopped, until

PID = 4_000_000
PROGRAM = Program(("program",))
SLACK = 2 / TICKS


class Timeouts:
    linger_timeout = 1.0
    stop_grace = 2.0
    kill_grace = 5.0


class Handler:
    """Handler that records its calls, and may act on them."""

    def __init__(self) -> None:
        self.out = {"stdout": b"", "stderr": b""}
        self.late = {"stdout": b"", "stderr": b""}  # output during the stop
        self.events: list[str] = []
        self.acts: dict[str, Callable[[], None]] = {}
        self.faults: list[Exception] = []

    def note(self, word: str) -> None:
        self.events.append(word)
        if word in self.acts:
            self.acts[word]()

    def on_application_started(self) -> None:
        self.note("started")

    def on_application_failed(self, reason: str, shortage: bool) -> None:
        self.note(f"failed {reason}{' just now' * shortage}")

    def on_output(self, stream: str, chunk: bytes) -> None:
        self.out[stream] += chunk
        if "output" in self.acts:
            self.acts["output"]()

    def on_late_output(self, stream: str, chunk: bytes) -> None:
        self.late[stream] += chunk

    def on_stdin_buffer_low(self) -> None:
        self.note("room")

    def on_control_channel(self) -> None:
        self.note("channel")

    def on_application_end(self, status: int) -> None:
        self.note(f"end {status}")

    def on_error(self, error: Exception) -> None:
        self.faults.append(error)


class FakeProcessSpawner:
    """Fake spawner with one process, which the test controls."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.stdin = self.stdout = self.stderr = self.channel = -1
        self.signals: list[tuple[int, int]] = []
        self.times: list[float] = []
        self.finished: list[tuple[int, str, bool]] = []

    def start(self, request: SpawnRequest) -> None:
        assert request.program is PROGRAM
        assert isinstance(request.client, ApplicationProcess)
        self.client = request.client
        self.asked = (request.environment, request.keep_stderr)

    def answer(self) -> None:
        self.stdin, stdin = os.pipe()
        stdout, self.stdout = os.pipe()
        stderr = -1
        if self.asked[1]:
            stderr, self.stderr = os.pipe()
        for fd in {stdin, stdout, stderr, self.stdin, self.stdout, self.stderr} - {-1}:
            os.set_blocking(fd, False)
        self.client.on_started(PID, (stdin, stdout, stderr, self.channel))

    def signal(self, pid: int, number: int) -> bool:
        assert pid == PID
        self.signals.append((pid, number))
        self.times.append(self.loop.now)
        return True

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        self.finished.append((pid, session, survivors))

    def close(self, *names: str) -> None:
        for name in names or ("stdin", "stdout", "stderr"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    def exits(self, status: int, survivors: bool = False) -> None:
        """End the process. With survivors, the pipes stay open."""
        if not survivors:
            self.close()
        self.client.on_exit(status, survivors)

    def read(self) -> bytes | None:
        """Return the content of its stdin, or None at the end."""
        try:
            return os.read(self.stdin, 1 << 20) or None
        except BlockingIOError:
            return b""


class ProcessHarness:
    """A loop, an application, its handler and its process."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.handler = Handler()
        self.process = FakeProcessSpawner(loop)
        self.application = ApplicationProcess(
            self.handler,
            loop,
            self.process,
            Timeouts,
            "session-1",
        )

    def start(self, *, keep_stderr: bool = True, answer: bool = True) -> None:
        self.application.start(PROGRAM, {"A": "B"}, keep_stderr)
        if answer:
            self.process.answer()

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(self.loop, condition)

    def pass_time(self, seconds: float) -> None:
        timer = Timer(self.loop)
        self.loop.set_timer(timer, self.loop.now + seconds)
        self.until(lambda: timer.calls)

    def settle(self) -> None:
        """Serve ready descriptors. (Nearly) no time passes."""
        self.pass_time(0)

    @property
    def signals(self) -> list[int]:
        return [number for _, number in self.process.signals]


@pytest.fixture(params=[best_poller, SelectorPoller], ids=["epoll", "selectors"])
def harness(request: pytest.FixtureRequest) -> Iterator[ProcessHarness]:
    warp = FakeTimeWithPoller(request.param)
    with event_loop(lambda: warp, warp) as loop, ExitStack() as stack:
        made = ProcessHarness(loop)
        stack.callback(made.process.close)
        yield made
        assert made.application.phase in (IDLE, ENDED), "it has no end"
        assert made.handler.faults == []


def last(harness: ProcessHarness) -> None:
    """End the application normally."""
    harness.process.exits(0)
    harness.until(lambda: harness.application.phase == ENDED)


# Starting


def test_starting_is_a_request_and_an_answer(harness: ProcessHarness) -> None:
    harness.start(answer=False)
    assert harness.application.phase == STARTING
    assert harness.process.asked == ({"A": "B"}, True)
    assert harness.handler.events == []
    harness.process.answer()
    assert (harness.application.phase, harness.handler.events) == (RUNNING, ["started"])
    last(harness)
    assert harness.handler.events == ["started", "end 0"]
    assert harness.process.finished == [(PID, "session-1", False)]


def test_what_cannot_be_started_has_ended(harness: ProcessHarness) -> None:
    harness.start(answer=False)
    harness.process.client.on_start_failed("no room", shortage=True)
    assert harness.handler.events == ["failed no room just now"]
    harness.application.stop()
    harness.application.end_input()
    assert harness.application.phase == ENDED


def test_what_was_never_started_needs_no_end(harness: ProcessHarness) -> None:
    harness.application.end_input()
    harness.application.stop()
    harness.application.kill()
    harness.application.resume_output()
    assert (harness.application.phase, harness.handler.events) == (IDLE, [])


def test_the_client_goes_while_it_starts(harness: ProcessHarness) -> None:
    harness.start(answer=False)
    harness.application.end_input()
    harness.application.stop()
    harness.process.answer()
    began = harness.loop.now
    assert harness.process.read() == b""  # closed at the end of the turn
    harness.until(lambda: harness.signals)
    assert harness.process.read() is None
    assert harness.signals == [signal.SIGTERM, signal.SIGCONT]
    assert 2 <= harness.process.times[0] - began <= 2 + SLACK
    last(harness)


def test_it_is_killed_while_it_starts(harness: ProcessHarness) -> None:
    harness.start(answer=False)
    harness.application.kill()
    assert harness.signals == []
    harness.process.answer()
    assert harness.signals == [signal.SIGKILL]
    last(harness)


# Input


def test_input_is_written(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.write([b"a\n", b"b\n"])
    assert harness.process.read() == b"a\nb\n"
    assert harness.application.queued_input == 0
    harness.application.end_input()
    harness.settle()
    assert harness.process.read() is None
    harness.application.write([b"too late"])
    last(harness)


def test_input_waits_for_its_reader_and_so_does_its_end(
    harness: ProcessHarness,
) -> None:
    harness.start()
    sent = [bytes([number]) * 50_000 for number in range(30)]
    for line in sent:
        harness.application.write([line])
    assert harness.application.queued_input > LOW
    harness.application.end_input()
    got: list[bytes] = []
    while (chunk := harness.process.read()) is not None:
        got.append(chunk)
        harness.settle()
    assert b"".join(got) == b"".join(sent)
    assert harness.application.queued_input == 0
    assert "room" in harness.handler.events
    last(harness)


def test_an_inbox_that_empties_leaves_stdin_open(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.write([b"x" * 200_000])
    got = 0
    while got < 200_000:
        got += len(harness.process.read() or b"")
        harness.settle()
    harness.application.write([b"more"])
    assert harness.process.read() == b"more"
    harness.application.flush_input()
    last(harness)


@pytest.mark.parametrize("size", [1, 200_000])
def test_it_closes_its_stdin(size: int, harness: ProcessHarness) -> None:
    """With an empty stdin buffer, or with a full one."""
    harness.start()
    if size > 1:
        harness.application.write([b"x" * size])
    harness.process.close("stdin")
    harness.application.write([b"x"])
    harness.until(lambda: harness.application.stdin < 0)
    assert harness.application.queued_input == 0
    assert ("room" in harness.handler.events) == (size > 1)
    last(harness)


# Output


def test_output_comes_by_stream(harness: ProcessHarness) -> None:
    harness.start()
    os.write(harness.process.stdout, b"out")
    os.write(harness.process.stderr, b"err")
    harness.settle()
    assert harness.handler.out == {"stdout": b"out", "stderr": b"err"}
    last(harness)


def test_without_stderr(harness: ProcessHarness) -> None:
    harness.start(keep_stderr=False)
    os.write(harness.process.stdout, b"out")
    last(harness)
    assert harness.handler.out == {"stdout": b"out", "stderr": b""}


@pytest.mark.parametrize("names", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_it_closes_its_output_and_lives_on(
    names: tuple[str, ...], harness: ProcessHarness
) -> None:
    harness.start()
    harness.process.close(*names)
    harness.pass_time(100)
    assert harness.application.phase == RUNNING
    harness.application.write([b"x"])
    assert harness.process.read() == b"x"
    last(harness)


def test_last_words_between_two_looks_of_the_kernel(harness: ProcessHarness) -> None:
    """poll(2) checks for data, then for writers: one may have exited in between."""
    harness.start(keep_stderr=False)
    os.write(harness.process.stdout, b"last")
    harness.process.close("stdout")
    harness.application.on_event(harness.application.stdout, HANGUP)
    harness.settle()
    assert harness.handler.out["stdout"] == b"last"
    last(harness)


def test_paused_output_waits_in_the_pipe(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.pause_output()
    harness.application.pause_output()
    filled = fill(harness.process.stdout)
    harness.pass_time(100)
    assert harness.handler.out["stdout"] == b""
    harness.application.resume_output()
    harness.application.resume_output()
    harness.until(lambda: len(harness.handler.out["stdout"]) == filled)
    last(harness)


def test_a_stream_waits_for_the_log_alone(harness: ProcessHarness) -> None:
    """The other stream goes on, and other reasons to pause are independent."""
    harness.start()
    harness.application.pause_stream("stderr")
    harness.application.pause_output()
    harness.application.resume_output()
    filled = fill(harness.process.stderr)
    os.write(harness.process.stdout, b"more")
    harness.settle()
    assert harness.handler.out == {"stdout": b"more", "stderr": b""}
    harness.application.resume_stream("stderr")
    harness.until(lambda: len(harness.handler.out["stderr"]) == filled)
    last(harness)


def test_no_end_waits_for_the_log(harness: ProcessHarness) -> None:
    """After the linger timeout the rest is read, although the log takes none of it."""
    harness.start()
    harness.application.pause_stream("stderr")
    filled = fill(harness.process.stderr)
    harness.process.exits(3)
    harness.pass_time(0.9)
    assert harness.application.phase == EXITED
    assert harness.handler.out["stderr"] == b""
    harness.pass_time(0.2)
    assert len(harness.handler.out["stderr"]) == filled
    assert harness.handler.events == ["started", "end 3"]


def test_last_words_of_the_stop_are_late_output(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.stop()
    os.write(harness.process.stderr, b"one")
    harness.settle()
    harness.application.pause_stream("stderr")
    os.write(harness.process.stderr, b" two")
    harness.process.exits(0)
    assert harness.handler.late["stderr"] == b"one two"
    assert harness.handler.out["stderr"] == b""


def test_a_false_alarm_is_nothing(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.on_event(harness.application.stdout, 1)
    assert harness.handler.out["stdout"] == b""
    last(harness)


# Exit


def test_what_it_wrote_before_its_exit_is_delivered(harness: ProcessHarness) -> None:
    harness.start()
    filled = fill(harness.process.stdout) + fill(harness.process.stderr)
    harness.process.exits(3)
    assert harness.application.phase == EXITED
    harness.until(lambda: harness.application.phase == ENDED)
    assert sum(map(len, harness.handler.out.values())) == filled
    assert harness.handler.events == ["started", "end 3"]


def test_it_is_delivered_however_slow_the_client_reads(harness: ProcessHarness) -> None:
    """The linger timeout pauses while output is not read."""
    harness.start()
    filled = fill(harness.process.stdout)
    harness.application.pause_output()
    harness.process.exits(0)
    harness.pass_time(100)
    assert harness.application.phase == EXITED
    harness.application.resume_output()
    harness.until(lambda: harness.application.phase == ENDED)
    assert len(harness.handler.out["stdout"]) == filled


def test_pausing_again_and_again_takes_no_time_from_the_linger(
    harness: ProcessHarness,
) -> None:
    harness.start()
    harness.process.exits(0, survivors=True)
    for _ in range(3):
        harness.pass_time(0.25)
        harness.application.pause_output()
        harness.pass_time(100)
        harness.application.resume_output()
        assert harness.application.phase == EXITED
    resumed = harness.loop.now
    harness.until(lambda: harness.application.phase == ENDED)
    assert 0.25 - 6 * SLACK <= harness.loop.now - resumed <= 0.25 + SLACK


def test_a_grandchild_that_holds_the_pipes_is_waited_for(
    harness: ProcessHarness,
) -> None:
    harness.start()
    harness.process.exits(0, survivors=True)
    exited = harness.loop.now
    harness.pass_time(0.5)
    os.write(harness.process.stdout, b"late")
    harness.until(lambda: harness.application.phase == ENDED)
    assert harness.handler.out["stdout"] == b"late"
    assert 1 <= harness.loop.now - exited <= 1 + SLACK
    assert harness.process.finished == [(PID, "session-1", True)]


def test_a_grandchild_that_ends_ends_the_wait(harness: ProcessHarness) -> None:
    harness.start()
    harness.process.exits(0, survivors=True)
    exited = harness.loop.now
    harness.process.close("stdout")
    harness.settle()
    assert harness.application.phase == EXITED
    harness.process.close("stderr")
    harness.until(lambda: harness.application.phase == ENDED)
    assert harness.loop.now - exited <= 2 * SLACK


def test_a_grandchild_that_floods_has_an_end(harness: ProcessHarness) -> None:
    """Only the content that the application itself may have left is read."""
    harness.start()
    harness.process.exits(0, survivors=True)
    harness.pass_time(0.9)
    before = len(harness.handler.out["stdout"])

    def refill() -> None:
        fill(harness.process.stdout)

    harness.handler.acts["output"] = refill
    refill()
    harness.application._drain()
    assert harness.application.phase == ENDED
    assert len(harness.handler.out["stdout"]) - before <= MAX_LAST_READS * READ_SIZE


def test_all_streams_may_end_in_the_last_look(harness: ProcessHarness) -> None:
    harness.start()
    os.write(harness.process.stdout, b"last")
    harness.process.exits(0, survivors=True)
    harness.process.close()
    harness.application._drain()
    assert harness.handler.out["stdout"] == b"last"
    assert harness.handler.events == ["started", "end 0"]


def test_output_that_ends_the_session_in_the_last_look(harness: ProcessHarness) -> None:
    """The handler may stop the application because of its output."""
    harness.start()
    harness.process.exits(0, survivors=True)
    os.write(harness.process.stdout, b"x")
    os.write(harness.process.stderr, b"y")
    harness.handler.acts["output"] = harness.application.stop
    harness.application._drain()
    assert harness.handler.events == ["started", "end 0"]
    assert harness.handler.out == {"stdout": b"x", "stderr": b""}


def test_it_exits_while_the_client_still_sends(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.write([b"x" * 200_000])
    harness.process.exits(0)
    assert (harness.application.queued_input, harness.handler.events[-1]) == (0, "room")
    harness.application.write([b"x"])
    harness.until(lambda: harness.application.phase == ENDED)


def test_the_client_goes_while_it_lingers(harness: ProcessHarness) -> None:
    harness.start()
    harness.process.exits(0, survivors=True)
    harness.application.stop()
    assert harness.handler.events == ["started", "end 0"]
    assert harness.process.finished == [(PID, "session-1", True)]
    harness.application.stop()
    harness.application.kill()
    assert harness.signals == []


def test_the_client_goes_while_it_lingers_unread(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.pause_output()
    harness.process.exits(0, survivors=True)
    harness.application.stop()
    assert harness.handler.events == ["started", "end 0"]


# The stop sequence


def test_it_ends_with_its_input(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.end_input()
    harness.application.stop()
    harness.settle()
    assert harness.process.read() is None
    os.write(harness.process.stdout, b"nobody reads this")
    harness.process.exits(0)
    assert harness.handler.events == ["started", "end 0"]
    assert harness.handler.out["stdout"] == b""
    harness.pass_time(100)
    assert harness.signals == []


def test_term_and_then_kill(harness: ProcessHarness) -> None:
    harness.start()
    began = harness.loop.now
    harness.application.end_input()
    harness.application.stop()
    harness.application.stop()
    harness.until(lambda: len(harness.signals) == 3)
    assert harness.signals == [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]
    term, _, kill = (when - began for when in harness.process.times)
    assert 2 <= term <= 2 + SLACK
    assert 5 <= kill - term <= 5 + SLACK
    harness.pass_time(100)
    assert len(harness.signals) == 3
    harness.process.exits(-9)
    assert harness.handler.events == ["started", "end -9"]


def test_kill_at_once(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.stop()
    harness.application.kill()
    assert harness.signals == [signal.SIGKILL]
    harness.pass_time(100)
    assert harness.signals == [signal.SIGKILL]
    harness.process.exits(-9)


def test_its_output_is_discarded_while_it_stops(harness: ProcessHarness) -> None:
    """A full pipe must not delay the end, and pausing has no effect any more."""
    harness.start()
    harness.application.pause_output()
    fill(harness.process.stdout)
    harness.application.stop()
    harness.application.pause_output()
    harness.until(lambda: select.select([], [harness.process.stdout], [], 0)[1])
    assert harness.handler.out["stdout"] == b""
    harness.process.exits(0)


def test_the_grace_begins_anew_while_it_reads_what_was_sent(
    harness: ProcessHarness,
) -> None:
    """Data in the pipe counts as read. The stop grace restarts while data is queued."""
    harness.start()
    harness.application.write([b"x" * 1_000_000])
    harness.application.end_input()
    harness.application.stop()
    while harness.application.queued_input:
        harness.process.read()
        harness.pass_time(1.5)
    began = harness.loop.now
    assert harness.signals == []
    harness.until(lambda: harness.signals)
    assert 2 - 1.5 - 2 * SLACK <= harness.loop.now - began <= 2 + SLACK
    harness.process.exits(0)


def test_it_never_reads_a_full_backlog(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.write([b"x" * 1_000_000])
    began = harness.loop.now
    harness.application.end_input()
    harness.application.stop()
    harness.until(lambda: len(harness.signals) == 3)
    assert harness.loop.now - began <= 7 + 2 * SLACK
    harness.process.exits(-9)
    assert harness.application.queued_input == 0


def test_reading_after_term_does_not_save_it(harness: ProcessHarness) -> None:
    harness.start()
    harness.application.write([b"x" * 1_000_000])
    harness.application.end_input()
    harness.application.stop()
    harness.until(lambda: harness.signals)
    began = harness.loop.now
    while len(harness.signals) < 3:
        harness.process.read()
        harness.pass_time(0.9)
    assert harness.loop.now - began <= 5 + 1
    harness.process.exits(-9)


def test_a_bug_is_the_owners_to_answer(harness: ProcessHarness) -> None:
    harness.application.on_error(LookupError())
    assert [type(error) for error in harness.handler.faults] == [LookupError]
    harness.handler.faults.clear()


# Real processes


class ShortTimeouts:
    linger_timeout = 0.05
    stop_grace = 0.05
    kill_grace = 0.1


class RealProcesses:
    """Real sessions of one shell script."""

    def __init__(self, loop: EventLoop, stack: ExitStack) -> None:
        self.loop = loop
        self.stack = stack

    def start(
        self, script: str, stop_timeouts: type[ShortTimeouts] = ShortTimeouts
    ) -> tuple[ApplicationProcess, Handler]:
        spawner = Spawner(self.loop)
        handler = Handler()
        application = ApplicationProcess(
            handler, self.loop, spawner, stop_timeouts, "session-2"
        )
        environment = {"PATH": os.environ["PATH"], "CHIMIRROR_SESSION": "session-2"}
        program = Program(("sh", "-c", script))
        application.start(program, environment, True)
        return application, handler

    def ends(self, application: ApplicationProcess) -> None:
        """Wait until the application and all its strays have ended."""
        turn_until(self.loop, lambda: application.phase == ENDED)
        turn_until(self.loop, lambda: not descendants(os.getpid()))


@pytest.fixture
def real_processes() -> Iterator[RealProcesses]:
    with subreaper(), event_loop() as loop, ExitStack() as stack:
        stack.callback(children.end_all)
        yield RealProcesses(loop, stack)


def test_four_megabytes_before_its_exit_through_a_slow_reader(
    real_processes: RealProcesses,
) -> None:
    application, handler = real_processes.start(
        "head -c 4000000 /dev/zero; echo end >&2; exit 3"
    )

    def pause() -> None:
        application.pause_output()
        timer = ResumeLater(real_processes.loop, application)
        real_processes.loop.set_timer(timer, real_processes.loop.now)

    handler.acts["output"] = pause
    real_processes.ends(application)
    assert len(handler.out["stdout"]) == 4_000_000
    assert handler.out["stderr"] == b"end\n"
    assert handler.events == ["started", "end 3"]


class ResumeLater(Timer):
    """Resumes output after a tick."""

    def __init__(self, loop: EventLoop, application: ApplicationProcess) -> None:
        super().__init__(loop)
        self.application = application

    def on_timer(self, now: float) -> None:
        self.application.resume_output()


STUBBORN = {
    "ignores TERM": "trap '' TERM; echo up; while :; do sleep 1000; done",
    "is stopped": "echo up; kill -STOP $$",
    "is stopped and ignores TERM": "trap '' TERM; echo up; kill -STOP $$; sleep 1000",
    "closes its output": "echo up; exec >&- 2>&- sleep 1000",
    "closes its input": "exec <&-; echo up; exec sleep 1000",
    "floods": "echo up; exec yes",
    "has a family": "sleep 1000 & (sleep 1000 &); echo up; wait",
    "has fled": "setsid sleep 1000 & setsid -f sleep 1000; echo up; exec sleep 1000",
}


@pytest.mark.parametrize("name", STUBBORN)
def test_none_outlives_its_graces(name: str, real_processes: RealProcesses) -> None:
    application, handler = real_processes.start(STUBBORN[name])
    turn_until(real_processes.loop, lambda: handler.out["stdout"].startswith(b"up\n"))
    application.write([b"x" * 300_000])
    application.end_input()
    application.stop()
    real_processes.ends(application)
    assert handler.events[-1] in ("end -9", "end -15")


def test_a_stopped_one_is_let_go_on_to_end_by_itself(
    real_processes: RealProcesses,
) -> None:
    """A stopped process receives TERM only when it is continued."""

    class Patient(ShortTimeouts):
        kill_grace = 30.0

    script = "trap 'exit 5' TERM; echo up; kill -STOP $$"
    application, handler = real_processes.start(script, Patient)
    turn_until(real_processes.loop, lambda: handler.out["stdout"] == b"up\n")
    until(lambda: application.pid in stopped(), "it has stopped")
    application.stop()
    real_processes.ends(application)
    assert handler.events[-1] == "end 5"


def test_a_signal_reaches_the_group(real_processes: RealProcesses) -> None:
    application, handler = real_processes.start(
        "trap 'exit 7' USR1; sleep 1000 & echo up; wait"
    )
    turn_until(real_processes.loop, lambda: handler.out["stdout"] == b"up\n")
    application.signal("USR1")
    real_processes.ends(application)
    assert handler.events[-1] == "end 7"


def test_a_grandchild_that_floods_a_real_pipe(real_processes: RealProcesses) -> None:
    application, handler = real_processes.start("yes & exit 0")
    real_processes.ends(application)
    assert handler.events[-1] == "end 0"
