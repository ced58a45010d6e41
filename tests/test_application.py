"""An application's life and end: on a starter that is told, and with real processes.

With the fake starter, pipes are real, but time passes only while nothing is ready:
each grace is kept to the tick, whatever the machine is doing. Real processes are in
the last part, for what only they can do.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from chimirror.system import children
from chimirror.system.application import (
    ENDED,
    EXITED,
    IDLE,
    LAST_READS,
    RUNNING,
    STARTING,
    Application,
)
from chimirror.system.child import Program, Starter
from chimirror.system.loop import HANGUP, TICKS, Loop, best_poller
from chimirror.system.outbox import LOW
from chimirror.system.outlet import READ_SIZE
from chimirror.system.selecting import SelectorPoller
from looping import Timer, Warp, fill, looping, subreaping, turn_until
from settling import descendants

PID = 4_000_000
PROGRAM = Program(("program",))
SLACK = 2 / TICKS


class Graces:
    linger_timeout = 1.0
    stop_grace = 2.0
    kill_grace = 5.0


class Owner:
    """Notes what it is told, and may act on it."""

    def __init__(self) -> None:
        self.out = {"stdout": b"", "stderr": b""}
        self.said: list[str] = []
        self.acts: dict[str, Callable[[], None]] = {}
        self.faults: list[Exception] = []

    def note(self, word: str) -> None:
        self.said.append(word)
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

    def on_input_room(self) -> None:
        self.note("room")

    def on_channel(self) -> None:
        self.note("channel")

    def on_application_end(self, status: int) -> None:
        self.note(f"end {status}")

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)


class Process:
    """A starter whose one process does what the test does."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.stdin = self.stdout = self.stderr = self.channel = -1
        self.signals: list[tuple[int, int]] = []
        self.times: list[float] = []
        self.finished: list[tuple[int, str, bool]] = []

    def start(
        self,
        client: Application,
        program: Program,
        environment: dict[str, str],
        keep_stderr: bool,
    ) -> None:
        assert program is PROGRAM
        self.client = client
        self.asked = (environment, keep_stderr)

    def answer(self) -> None:
        self.stdin, stdin = os.pipe()
        stdout, self.stdout = os.pipe()
        stderr = -1
        if self.asked[1]:
            stderr, self.stderr = os.pipe()
        for fd in {stdin, stdout, stderr, self.stdin, self.stdout, self.stderr} - {-1}:
            os.set_blocking(fd, False)
        self.client.on_started(PID, (stdin, stdout, stderr, self.channel))

    def signal(self, pid: int, number: int) -> None:
        assert pid == PID
        self.signals.append((pid, number))
        self.times.append(self.loop.now)

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        self.finished.append((pid, session, survivors))

    def close(self, *names: str) -> None:
        for name in names or ("stdin", "stdout", "stderr"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    def exits(self, status: int, survivors: bool = False) -> None:
        """It ends; with survivors, somebody holds the pipes."""
        if not survivors:
            self.close()
        self.client.on_exit(status, survivors)

    def read(self) -> bytes | None:
        """What its stdin has; None at the end."""
        try:
            return os.read(self.stdin, 1 << 20) or None
        except BlockingIOError:
            return b""


class Scene:
    """A loop, an application, its owner and its process."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.owner = Owner()
        self.process = Process(loop)
        self.application = Application(
            self.owner,
            loop,
            self.process,  # type: ignore[arg-type]  # what it needs of a Starter
            Graces,
            "session-1",
        )

    def start(self, *, keep_stderr: bool = True, answer: bool = True) -> None:
        self.application.start(PROGRAM, {"A": "B"}, keep_stderr)
        if answer:
            self.process.answer()

    def until(self, ask: Callable[[], object]) -> None:
        turn_until(self.loop, ask)

    def passes(self, seconds: float) -> None:
        timer = Timer(self.loop)
        self.loop.arm(timer, self.loop.now + seconds)
        self.until(lambda: timer.calls)

    def settle(self) -> None:
        """Serve what is ready; (nearly) no time passes."""
        self.passes(0)

    @property
    def signals(self) -> list[int]:
        return [number for _, number in self.process.signals]


@pytest.fixture(params=[best_poller, SelectorPoller], ids=["epoll", "selectors"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    warp = Warp(request.param)
    with looping(lambda: warp, warp) as loop, ExitStack() as stack:
        made = Scene(loop)
        stack.callback(made.process.close)
        yield made
        assert made.application.phase in (IDLE, ENDED), "it has no end"
        assert made.owner.faults == []


def last(scene: Scene) -> None:
    """Its plain end."""
    scene.process.exits(0)
    scene.until(lambda: scene.application.phase == ENDED)


# Starting


def test_starting_is_a_request_and_an_answer(scene: Scene) -> None:
    scene.start(answer=False)
    assert scene.application.phase == STARTING
    assert scene.process.asked == ({"A": "B"}, True)
    assert scene.owner.said == []
    scene.process.answer()
    assert (scene.application.phase, scene.owner.said) == (RUNNING, ["started"])
    last(scene)
    assert scene.owner.said == ["started", "end 0"]
    assert scene.process.finished == [(PID, "session-1", False)]


def test_what_cannot_be_started_has_ended(scene: Scene) -> None:
    scene.start(answer=False)
    scene.process.client.on_start_failed("no room", shortage=True)
    assert scene.owner.said == ["failed no room just now"]
    scene.application.stop()
    scene.application.end_input()
    assert scene.application.phase == ENDED


def test_what_was_never_started_needs_no_end(scene: Scene) -> None:
    scene.application.end_input()
    scene.application.stop()
    scene.application.kill()
    scene.application.resume_output()
    assert (scene.application.phase, scene.owner.said) == (IDLE, [])


def test_the_client_goes_while_it_starts(scene: Scene) -> None:
    scene.start(answer=False)
    scene.application.end_input()
    scene.application.stop()
    scene.process.answer()
    began = scene.loop.now
    assert scene.process.read() == b""  # its end comes with the turn
    scene.until(lambda: scene.signals)
    assert scene.process.read() is None
    assert scene.signals == [signal.SIGTERM, signal.SIGCONT]
    assert 2 <= scene.process.times[0] - began <= 2 + SLACK
    last(scene)


def test_it_is_killed_while_it_starts(scene: Scene) -> None:
    scene.start(answer=False)
    scene.application.kill()
    assert scene.signals == []
    scene.process.answer()
    assert scene.signals == [signal.SIGKILL]
    last(scene)


# Input


def test_input_is_written(scene: Scene) -> None:
    scene.start()
    scene.application.write([b"a\n", b"b\n"])
    assert scene.process.read() == b"a\nb\n"
    assert scene.application.backlog == 0
    scene.application.end_input()
    scene.settle()
    assert scene.process.read() is None
    scene.application.write([b"too late"])
    last(scene)


def test_input_waits_for_its_reader_and_so_does_its_end(scene: Scene) -> None:
    scene.start()
    sent = [bytes([number]) * 50_000 for number in range(30)]
    for line in sent:
        scene.application.write([line])
    assert scene.application.backlog > LOW
    scene.application.end_input()
    got: list[bytes] = []
    while (chunk := scene.process.read()) is not None:
        got.append(chunk)
        scene.settle()
    assert b"".join(got) == b"".join(sent)
    assert scene.application.backlog == 0
    assert "room" in scene.owner.said
    last(scene)


def test_an_inbox_that_empties_leaves_stdin_open(scene: Scene) -> None:
    scene.start()
    scene.application.write([b"x" * 200_000])
    got = 0
    while got < 200_000:
        got += len(scene.process.read() or b"")
        scene.settle()
    scene.application.write([b"more"])
    assert scene.process.read() == b"more"
    scene.application.flush_input()
    last(scene)


@pytest.mark.parametrize("size", [1, 200_000])
def test_it_closes_its_stdin(size: int, scene: Scene) -> None:
    """Before something waits for it, or with a full backlog."""
    scene.start()
    if size > 1:
        scene.application.write([b"x" * size])
    scene.process.close("stdin")
    scene.application.write([b"x"])
    scene.until(lambda: scene.application.stdin < 0)
    assert scene.application.backlog == 0
    assert ("room" in scene.owner.said) == (size > 1)
    last(scene)


# Output


def test_output_comes_by_stream(scene: Scene) -> None:
    scene.start()
    os.write(scene.process.stdout, b"out")
    os.write(scene.process.stderr, b"err")
    scene.settle()
    assert scene.owner.out == {"stdout": b"out", "stderr": b"err"}
    last(scene)


def test_without_stderr(scene: Scene) -> None:
    scene.start(keep_stderr=False)
    os.write(scene.process.stdout, b"out")
    last(scene)
    assert scene.owner.out == {"stdout": b"out", "stderr": b""}


@pytest.mark.parametrize("names", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_it_closes_its_output_and_lives_on(
    names: tuple[str, ...], scene: Scene
) -> None:
    scene.start()
    scene.process.close(*names)
    scene.passes(100)
    assert scene.application.phase == RUNNING
    scene.application.write([b"x"])
    assert scene.process.read() == b"x"
    last(scene)


def test_last_words_between_two_looks_of_the_kernel(scene: Scene) -> None:
    """It looks for data, then for writers: one has written and gone in between."""
    scene.start(keep_stderr=False)
    os.write(scene.process.stdout, b"last")
    scene.process.close("stdout")
    scene.application.on_event(scene.application.stdout, HANGUP)
    scene.settle()
    assert scene.owner.out["stdout"] == b"last"
    last(scene)


def test_paused_output_waits_in_the_pipe(scene: Scene) -> None:
    scene.start()
    scene.application.pause_output()
    scene.application.pause_output()
    filled = fill(scene.process.stdout)
    scene.passes(100)
    assert scene.owner.out["stdout"] == b""
    scene.application.resume_output()
    scene.application.resume_output()
    scene.until(lambda: len(scene.owner.out["stdout"]) == filled)
    last(scene)


def test_a_false_alarm_is_nothing(scene: Scene) -> None:
    scene.start()
    scene.application.on_event(scene.application.stdout, 1)
    assert scene.owner.out["stdout"] == b""
    last(scene)


# It exits


def test_what_it_wrote_before_its_exit_is_delivered(scene: Scene) -> None:
    scene.start()
    filled = fill(scene.process.stdout) + fill(scene.process.stderr)
    scene.process.exits(3)
    assert scene.application.phase == EXITED
    scene.until(lambda: scene.application.phase == ENDED)
    assert sum(map(len, scene.owner.out.values())) == filled
    assert scene.owner.said == ["started", "end 3"]


def test_it_is_delivered_however_slow_the_client_reads(scene: Scene) -> None:
    """The linger timeout stands still while we do not read."""
    scene.start()
    filled = fill(scene.process.stdout)
    scene.application.pause_output()
    scene.process.exits(0)
    scene.passes(100)
    assert scene.application.phase == EXITED
    scene.application.resume_output()
    scene.until(lambda: scene.application.phase == ENDED)
    assert len(scene.owner.out["stdout"]) == filled


def test_pausing_again_and_again_takes_no_time_from_the_linger(scene: Scene) -> None:
    scene.start()
    scene.process.exits(0, survivors=True)
    for _ in range(3):
        scene.passes(0.25)
        scene.application.pause_output()
        scene.passes(100)
        scene.application.resume_output()
        assert scene.application.phase == EXITED
    resumed = scene.loop.now
    scene.until(lambda: scene.application.phase == ENDED)
    assert 0.25 - 6 * SLACK <= scene.loop.now - resumed <= 0.25 + SLACK


def test_a_grandchild_that_holds_the_pipes_is_waited_for(scene: Scene) -> None:
    scene.start()
    scene.process.exits(0, survivors=True)
    exited = scene.loop.now
    scene.passes(0.5)
    os.write(scene.process.stdout, b"late")
    scene.until(lambda: scene.application.phase == ENDED)
    assert scene.owner.out["stdout"] == b"late"
    assert 1 <= scene.loop.now - exited <= 1 + SLACK
    assert scene.process.finished == [(PID, "session-1", True)]


def test_a_grandchild_that_ends_ends_the_wait(scene: Scene) -> None:
    scene.start()
    scene.process.exits(0, survivors=True)
    exited = scene.loop.now
    scene.process.close("stdout")
    scene.settle()
    assert scene.application.phase == EXITED
    scene.process.close("stderr")
    scene.until(lambda: scene.application.phase == ENDED)
    assert scene.loop.now - exited <= 2 * SLACK


def test_a_grandchild_that_floods_has_an_end(scene: Scene) -> None:
    """What the pipe may hold of the application itself is read, and no more."""
    scene.start()
    scene.process.exits(0, survivors=True)
    scene.passes(0.9)
    before = len(scene.owner.out["stdout"])

    def refill() -> None:
        fill(scene.process.stdout)

    scene.owner.acts["output"] = refill
    refill()
    scene.application._drain()
    assert scene.application.phase == ENDED
    assert len(scene.owner.out["stdout"]) - before <= LAST_READS * READ_SIZE


def test_all_streams_may_end_in_the_last_look(scene: Scene) -> None:
    scene.start()
    os.write(scene.process.stdout, b"last")
    scene.process.exits(0, survivors=True)
    scene.process.close()
    scene.application._drain()
    assert scene.owner.out["stdout"] == b"last"
    assert scene.owner.said == ["started", "end 0"]


def test_output_that_ends_the_session_in_the_last_look(scene: Scene) -> None:
    """The owner may stop it because of what it wrote."""
    scene.start()
    scene.process.exits(0, survivors=True)
    os.write(scene.process.stdout, b"x")
    os.write(scene.process.stderr, b"y")
    scene.owner.acts["output"] = scene.application.stop
    scene.application._drain()
    assert scene.owner.said == ["started", "end 0"]
    assert scene.owner.out == {"stdout": b"x", "stderr": b""}


def test_it_exits_while_the_client_still_sends(scene: Scene) -> None:
    scene.start()
    scene.application.write([b"x" * 200_000])
    scene.process.exits(0)
    assert (scene.application.backlog, scene.owner.said[-1]) == (0, "room")
    scene.application.write([b"x"])
    scene.until(lambda: scene.application.phase == ENDED)


def test_the_client_goes_while_it_lingers(scene: Scene) -> None:
    scene.start()
    scene.process.exits(0, survivors=True)
    scene.application.stop()
    assert scene.owner.said == ["started", "end 0"]
    assert scene.process.finished == [(PID, "session-1", True)]
    scene.application.stop()
    scene.application.kill()
    assert scene.signals == []


def test_the_client_goes_while_it_lingers_unread(scene: Scene) -> None:
    scene.start()
    scene.application.pause_output()
    scene.process.exits(0, survivors=True)
    scene.application.stop()
    assert scene.owner.said == ["started", "end 0"]


# The ladder


def test_it_ends_with_its_input(scene: Scene) -> None:
    scene.start()
    scene.application.end_input()
    scene.application.stop()
    scene.settle()
    assert scene.process.read() is None
    os.write(scene.process.stdout, b"nobody reads this")
    scene.process.exits(0)
    assert scene.owner.said == ["started", "end 0"]
    assert scene.owner.out["stdout"] == b""
    scene.passes(100)
    assert scene.signals == []


def test_term_and_then_kill(scene: Scene) -> None:
    scene.start()
    began = scene.loop.now
    scene.application.end_input()
    scene.application.stop()
    scene.application.stop()
    scene.until(lambda: len(scene.signals) == 3)
    assert scene.signals == [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]
    term, _, kill = (when - began for when in scene.process.times)
    assert 2 <= term <= 2 + SLACK
    assert 5 <= kill - term <= 5 + SLACK
    scene.passes(100)
    assert len(scene.signals) == 3
    scene.process.exits(-9)
    assert scene.owner.said == ["started", "end -9"]


def test_kill_at_once(scene: Scene) -> None:
    scene.start()
    scene.application.stop()
    scene.application.kill()
    assert scene.signals == [signal.SIGKILL]
    scene.passes(100)
    assert scene.signals == [signal.SIGKILL]
    scene.process.exits(-9)


def test_its_output_is_discarded_while_it_stops(scene: Scene) -> None:
    """A full pipe must not hold what would end; and nobody can pause it any more."""
    scene.start()
    scene.application.pause_output()
    fill(scene.process.stdout)
    scene.application.stop()
    scene.application.pause_output()
    scene.until(lambda: select.select([], [scene.process.stdout], [], 0)[1])
    assert scene.owner.out["stdout"] == b""
    scene.process.exits(0)


def test_the_grace_begins_anew_while_it_reads_what_was_sent(scene: Scene) -> None:
    """What is in the pipe has been delivered; it counts as long as we hold some."""
    scene.start()
    scene.application.write([b"x" * 1_000_000])
    scene.application.end_input()
    scene.application.stop()
    while scene.application.backlog:
        scene.process.read()
        scene.passes(1.5)
    began = scene.loop.now
    assert scene.signals == []
    scene.until(lambda: scene.signals)
    assert 2 - 1.5 - 2 * SLACK <= scene.loop.now - began <= 2 + SLACK
    scene.process.exits(0)


def test_it_never_reads_a_full_backlog(scene: Scene) -> None:
    scene.start()
    scene.application.write([b"x" * 1_000_000])
    began = scene.loop.now
    scene.application.end_input()
    scene.application.stop()
    scene.until(lambda: len(scene.signals) == 3)
    assert scene.loop.now - began <= 7 + 2 * SLACK
    scene.process.exits(-9)
    assert scene.application.backlog == 0


def test_reading_after_term_does_not_save_it(scene: Scene) -> None:
    scene.start()
    scene.application.write([b"x" * 1_000_000])
    scene.application.end_input()
    scene.application.stop()
    scene.until(lambda: scene.signals)
    began = scene.loop.now
    while len(scene.signals) < 3:
        scene.process.read()
        scene.passes(0.9)
    assert scene.loop.now - began <= 5 + 1
    scene.process.exits(-9)


def test_a_bug_is_the_owners_to_answer(scene: Scene) -> None:
    scene.application.on_fault(LookupError())
    assert [type(error) for error in scene.owner.faults] == [LookupError]
    scene.owner.faults.clear()


# Real processes


class Brief:
    linger_timeout = 0.05
    stop_grace = 0.05
    kill_grace = 0.1


class Play:
    """Real sessions of one shell script."""

    def __init__(self, loop: Loop, stack: ExitStack) -> None:
        self.loop = loop
        self.stack = stack

    def start(
        self, script: str, graces: type[Brief] = Brief
    ) -> tuple[Application, Owner]:
        starter = Starter(self.loop)
        owner = Owner()
        application = Application(owner, self.loop, starter, graces, "session-2")
        environment = {"PATH": os.environ["PATH"], "CHIMIRROR_SESSION": "session-2"}
        program = Program(("sh", "-c", script))
        application.start(program, environment, True)
        return application, owner

    def ends(self, application: Application) -> None:
        """It ends, and so does all that it has left."""
        turn_until(self.loop, lambda: application.phase == ENDED)
        turn_until(self.loop, lambda: not descendants(os.getpid()))


@pytest.fixture
def play() -> Iterator[Play]:
    with subreaping(), looping() as loop, ExitStack() as stack:
        stack.callback(children.end_all)
        yield Play(loop, stack)


def test_four_megabytes_before_its_exit_through_a_slow_reader(play: Play) -> None:
    application, owner = play.start("head -c 4000000 /dev/zero; echo end >&2; exit 3")

    def pause() -> None:
        application.pause_output()
        timer = Again(play.loop, application)
        play.loop.arm(timer, play.loop.now)

    owner.acts["output"] = pause
    play.ends(application)
    assert len(owner.out["stdout"]) == 4_000_000
    assert owner.out["stderr"] == b"end\n"
    assert owner.said == ["started", "end 3"]


class Again(Timer):
    """Reads on after a tick."""

    def __init__(self, loop: Loop, application: Application) -> None:
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
def test_none_outlives_its_graces(name: str, play: Play) -> None:
    application, owner = play.start(STUBBORN[name])
    turn_until(play.loop, lambda: owner.out["stdout"].startswith(b"up\n"))
    application.write([b"x" * 300_000])
    application.end_input()
    application.stop()
    play.ends(application)
    assert owner.said[-1] in ("end -9", "end -15")


def test_a_stopped_one_is_let_go_on_to_end_by_itself(play: Play) -> None:
    """Of TERM alone it would learn only when somebody continues it."""

    class Patient(Brief):
        kill_grace = 30.0

    script = "trap 'exit 5' TERM; echo up; kill -STOP $$"
    application, owner = play.start(script, Patient)
    turn_until(play.loop, lambda: owner.out["stdout"] == b"up\n")
    application.stop()
    play.ends(application)
    assert owner.said[-1] == "end 5"


def test_a_signal_reaches_the_group(play: Play) -> None:
    application, owner = play.start("trap 'exit 7' USR1; sleep 1000 & echo up; wait")
    turn_until(play.loop, lambda: owner.out["stdout"] == b"up\n")
    application.signal("USR1")
    play.ends(application)
    assert owner.said[-1] == "end 7"


def test_a_grandchild_that_floods_a_real_pipe(play: Play) -> None:
    application, owner = play.start("yes & exit 0")
    play.ends(application)
    assert owner.said[-1] == "end 0"
