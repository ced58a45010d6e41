"""The spawn client of a worker: its messages, their receivers, and its callbacks.

The loop and the links are real. The test plays the zygote and the supervisor, and
writes their packets.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import Any

import pytest

from chimirror.io import packet_socket
from chimirror.io.loop import TICKS, EventLoop
from chimirror.process.spawner import Program, SpawnRequest
from chimirror.spawn import messages
from chimirror.spawn.client import UNKNOWN_STATUS, ZygoteClient
from chimirror.spawn.messages import (
    AdoptRequest,
    ExitNotice,
    FinishRequest,
    SignalBatch,
    StartFailed,
    StartReply,
    StartRequest,
)
from chimirror.spawn.start_marks import StartMarks
from chimirror.spawn.start_queue import (
    BAR_TIME,
    MAX_DEATHS,
    MAX_IN_FLIGHT,
    MAX_KILLS,
    ZYGOTE_TIMEOUT,
)
from spawner_fixture import kept_requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.process.spawner import Pipes

PROGRAM = Program(("cat", "-u"), "/usr", from_file=True)


class Link:
    """The other end of a link, read and written at once."""

    def __init__(self, loop: EventLoop, handle: socket.socket) -> None:
        self.loop = loop
        self.handle = handle
        handle.setblocking(False)

    def receive_all(self) -> list[Any]:
        """Return all messages sent so far."""
        from_file: list[Any] = []
        while True:
            try:
                packet = self.handle.recv(1 << 19)
            except BlockingIOError:
                return from_file
            if not packet:
                return from_file
            from_file.append(messages.decode(packet))

    def send(self, message: messages.Message, *pipes: int) -> None:
        socket.send_fds(self.handle, [messages.encode(message)], list(pipes))
        run_once(self.loop)

    def start(self, request: StartRequest, pid: int) -> None:
        """Reply with descriptors of the null device as pipes."""
        count = 2 + request.stderr + request.control
        nulls = [os.open(os.devnull, os.O_RDWR) for _ in range(count)]
        self.send(StartReply(request.start, pid, ""), *nulls)
        for fd in nulls:
            os.close(fd)

    def close(self) -> None:
        self.handle.close()
        run_once(self.loop)

    def receive_finish(self) -> list[str]:
        """Return the sessions of one FinishRequest."""
        said: list[Any] = []
        while not said:
            self.loop.run_once()
            said = self.receive_all()
        (finish,) = said
        assert isinstance(finish, FinishRequest)
        return list(finish.finish)


def run_once(loop: EventLoop) -> None:
    """Serve ready descriptors without waiting."""

    class Now:
        armed, deadline = 0, 0.0

        def on_timer(self, now: float) -> None: ...

        def on_error(self, error: Exception) -> None: ...

    loop.set_timer(Now(), 0)
    loop.run_once()


def exited(pid: int, status: int | None, *, survivors: bool = False) -> ExitNotice:
    """Return the exit notice of one application."""
    return ExitNotice([(pid, status, survivors)])


class Client:
    """Client of a start that records its calls."""

    def __init__(self, harness: ClientHarness, session: str) -> None:
        self.harness = harness
        self.session = session
        self.told: list[object] = []
        self.pid = 0
        self.pipes: Pipes = (-1, -1, -1, -1)

    def on_started(self, pid: int, pipes: Pipes) -> None:
        self.pid = pid
        self.pipes = pipes
        self.told.append(("started", pid, sum(fd >= 0 for fd in pipes)))
        for fd in pipes:
            if fd >= 0:
                os.close(fd)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        self.told.append(("shortage" if shortage else "failed", reason))

    def on_signals_taken(self) -> None:
        self.told.append("taken")

    def on_exit(self, status: int, survivors: bool) -> None:
        self.told.append(("exited", status, survivors))
        if self.session == "broken":
            raise LookupError("a bug")

    def on_error(self, error: Exception) -> None:
        self.told.append(error.args[0])

    def finish(self) -> None:
        self.harness.spawner.end_session(self.pid, self.session, survivors=False)


class ClientHarness:
    """The spawn client of a worker, its supervisor and its zygotes."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        ours, theirs = packet_socket.pair()
        self.marks = StartMarks(1)
        self.spawner = ZygoteClient(self.loop, ours, self.marks)
        self.supervisor = Link(self.loop, theirs)
        self.posts = [self.supervisor]
        self.deserted: list[bool] = []
        self.spawner.on_supervisor_lost = lambda: self.deserted.append(True)

    def zygote(self, generation: int = 1) -> Link:
        ours, theirs = packet_socket.pair()
        self.supervisor.send(messages.ZygoteLinkMessage(generation), ours.fileno())
        ours.close()
        self.posts.append(Link(self.loop, theirs))
        return self.posts[-1]

    def start(
        self, session: str = "s", *, keep_stderr: bool = True, control: bool = False
    ) -> Client:
        client = Client(self, session)
        variables = {"CHIMIRROR_SESSION": session, "A": "\udcff"}
        what = PROGRAM.with_options(control=control)
        self.spawner.start(
            SpawnRequest(client, what, variables, keep_stderr=keep_stderr)
        )
        return client

    def run(self, link: Link, session: str, pid: int) -> Client:
        """Start an application, and reply."""
        client = self.start(session)
        (request,) = link.receive_all()
        link.start(request, pid)
        return client


@contextmanager
def client_harness() -> Iterator[ClientHarness]:
    thread = ClientHarness()
    yield thread
    for each in (*thread.spawner._generations, thread.spawner._supervisor_link):
        each.close()
    for link in thread.posts:
        link.handle.close()
    thread.loop.close_all()


@pytest.fixture
def harness() -> Iterator[ClientHarness]:
    with client_harness() as thread:
        yield thread


def test_start_to_end(harness: ClientHarness) -> None:
    former = kept_requests()
    zygote = harness.zygote()
    client = harness.start("s-1")
    (asked,) = zygote.receive_all()
    environment = {"CHIMIRROR_SESSION": "s-1", "A": "\udcff"}
    assert asked == StartRequest(
        asked.start, environment, True, ["cat", "-u"], "/usr", user=[], size=[]
    )
    assert len(kept_requests(former)) == 1
    zygote.start(asked, 4711)
    assert not kept_requests(former)
    harness.spawner.signal(4711, 15)
    zygote.send(exited(4711, 3, survivors=True))
    harness.spawner.signal(4711, 9)  # too late: the pid may be reused
    harness.spawner.end_session(4711, "s-1", survivors=True)
    harness.spawner.end_session(4711, "s-1", survivors=True)
    assert zygote.receive_all() == [SignalBatch([[15, 4711, "s-1"]])]
    assert zygote.receive_finish() == ["s-1"]
    assert client.told == [("started", 4711, 3), ("exited", 3, True)]
    assert not any(harness.spawner._running.values())
    assert not harness.spawner._ended


def test_without_stderr(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    client = harness.start(keep_stderr=False)
    (asked,) = zygote.receive_all()
    assert not asked.stderr
    zygote.start(asked, 1)
    assert client.told == [("started", 1, 2)]


@pytest.mark.parametrize("keep", [True, False])
def test_a_control_channel(keep: bool, harness: ClientHarness) -> None:
    zygote = harness.zygote()
    client = harness.start(keep_stderr=keep, control=True)
    (asked,) = zygote.receive_all()
    assert asked.control
    zygote.start(asked, 1)
    assert client.told == [("started", 1, 3 + keep)]
    assert (client.pipes[2] >= 0, client.pipes[3] >= 0) == (keep, True)


def test_what_cannot_be_started(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    client = harness.start()
    zygote.send(StartFailed(zygote.receive_all()[0].start, "no such program"))
    assert client.told == [("failed", "no such program")]
    client = harness.start()
    zygote.send(StartFailed(zygote.receive_all()[0].start, "no memory", shortage=True))
    assert client.told == [("shortage", "no memory")]


def test_an_environment_that_fits_no_packet(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    client = Client(harness, "s")
    large = {"A": "x" * (1 << 22)}
    harness.spawner.start(SpawnRequest(client, PROGRAM, large, keep_stderr=True))
    text = "its command and environment are too large: 4194454 bytes"
    assert client.told == [("failed", text)]
    harness.run(zygote, "next", 1)


def test_starts_in_flight_are_limited(harness: ClientHarness) -> None:
    clients = [harness.start(str(number)) for number in range(20)]
    zygote = harness.zygote()
    asked = zygote.receive_all()
    assert len(asked) == MAX_IN_FLIGHT
    for number in range(20):
        request = asked.pop(0)
        if number % 2:
            zygote.start(request, number + 1)
        else:
            zygote.send(StartFailed(request.start, "no"))
        asked += zygote.receive_all()
        assert len(asked) == min(MAX_IN_FLIGHT, 19 - number)
    assert [len(client.told) for client in clients] == [1] * 20


def test_an_error_of_one_client_affects_no_other(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    broken = harness.run(zygote, "broken", 1)
    other = harness.run(zygote, "other", 2)
    zygote.send(ExitNotice([(1, 0, False), (3, 0, False), (2, 0, False)]))
    assert broken.told[-1] == "a bug"
    assert other.told[-1] == ("exited", 0, False)


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_pipes_that_did_not_arrive(arrived: int, harness: ClientHarness) -> None:
    """No descriptor was left for the pipes: the started application must end."""
    zygote = harness.zygote()
    client = harness.start("s-1")
    (asked,) = zygote.receive_all()
    previous = os.listdir("/proc/self/fd")
    zygote.send(StartReply(asked.start, 4711, "s-1"), *range(arrived))
    assert os.listdir("/proc/self/fd") == previous
    assert client.told == [("shortage", "no descriptors left for its pipes")]
    assert zygote.receive_all() == [SignalBatch([[9, 4711, "s-1"]])]
    zygote.send(exited(4711, -9))
    assert zygote.receive_finish() == ["s-1"]


def test_the_ends_of_one_tick_share_a_message(
    harness: ClientHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_SESSIONS", 3)
    monkeypatch.setattr(
        harness.loop, "clock", lambda: harness.loop.now
    )  # the clock stands
    zygote = harness.zygote()
    clients = [harness.run(zygote, str(number), number) for number in range(1, 8)]
    for client in clients:
        zygote.send(exited(client.pid, 0))
        client.finish()
    assert zygote.receive_all() == []
    monkeypatch.setattr(harness.loop, "clock", lambda: harness.loop.now + 1 / TICKS)
    run_once(harness.loop)
    said = [finish.finish for finish in zygote.receive_all()]
    assert said == [["1", "2", "3"], ["4", "5", "6"], ["7"]]


def test_messages_to_a_dead_zygote_are_dropped(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    client = harness.run(zygote, "a", 1)
    zygote.send(exited(1, 0))
    client.finish()
    zygote.close()
    assert harness.supervisor.receive_all() == [AdoptRequest({}, {}, 1, more=False)]
    assert not harness.spawner._finished


# Start and loss of zygotes


def test_unanswered_starts_are_repeated_in_order(harness: ClientHarness) -> None:
    first = harness.zygote(1)
    clients = [harness.start(str(number)) for number in range(MAX_IN_FLIGHT + 2)]
    first.start(first.receive_all()[0], 4711)
    sessions = [asked.environment["CHIMIRROR_SESSION"] for asked in first.receive_all()]
    assert sessions == ["8"]
    first.close()
    assert harness.supervisor.receive_all() == [
        AdoptRequest({"0": 4711}, {}, 1, more=False)
    ]
    second = harness.zygote(2)
    asked = second.receive_all()
    sessions = [request.environment["CHIMIRROR_SESSION"] for request in asked]
    assert sessions == list("12345678")
    for number, request in enumerate(asked):
        second.start(request, number + 1)
    second.start(second.receive_all()[0], 9)
    assert all(client.told for client in clients)


def test_adopted_applications_belong_to_the_supervisor(harness: ClientHarness) -> None:
    first = harness.zygote(1)
    running, ending = harness.run(first, "a", 1), harness.run(first, "b", 2)
    lone = harness.run(first, "d", 4)
    first.send(exited(2, 5, survivors=True))
    first.send(exited(4, 5))
    first.close()
    claimed = AdoptRequest({"a": 1}, {"b": 2, "d": 0}, 1, more=False)
    assert harness.supervisor.receive_all() == [claimed]
    second = harness.zygote(2)
    other = harness.run(second, "c", 3)
    harness.spawner.signal(1, 15)
    harness.spawner.signal(3, 10)
    second.send(exited(1, 7))  # not an application of this link
    assert len(running.told) == 1
    harness.supervisor.send(exited(1, None))
    assert running.told[-1] == ("exited", UNKNOWN_STATUS, False)
    for thread in (lone, ending, running):  # in one tick
        thread.finish()
    assert harness.supervisor.receive_all() == [SignalBatch([[15, 1, "a"]])]
    assert harness.supervisor.receive_finish() == ["d", "b", "a"]
    assert second.receive_all() == [SignalBatch([[10, 3, "c"]])]
    second.send(exited(3, 0))
    assert other.told[-1] == ("exited", 0, False)


def test_a_successor_may_come_before_the_end_is_seen(harness: ClientHarness) -> None:
    first = harness.zygote(1)
    client = harness.run(first, "a", 1)
    waiting = harness.start("b")
    second = harness.zygote(2)
    first.send(exited(1, 4))  # messages sent before the end still count
    assert client.told[-1] == ("exited", 4, False)
    first.close()
    assert harness.supervisor.receive_all() == [
        AdoptRequest({}, {"a": 0}, 1, more=False)
    ]
    (asked,) = second.receive_all()
    second.start(asked, 2)
    assert waiting.told == [("started", 2, 3)]


def test_many_adoptions_are_split(
    harness: ClientHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_SESSIONS", 3)
    zygote = harness.zygote(5)
    for number in range(1, 8):
        harness.run(zygote, str(number), number)
    zygote.close()
    said = harness.supervisor.receive_all()
    assert [len(adopt.adopt) for adopt in said] == [3, 3, 1]
    assert [adopt.more for adopt in said] == [True, True, False]
    assert {adopt.zygote for adopt in said} == {5}


# Loss of the supervisor


def test_without_supervisor_the_zygote_still_serves(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    client = harness.run(zygote, "a", 1)
    harness.supervisor.close()
    assert harness.deserted == [True]
    zygote.send(exited(1, 0))
    assert client.told[-1] == ("exited", 0, False)
    harness.run(zygote, "b", 2)


def test_without_both_everything_has_ended(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    running = harness.run(zygote, "a", 1)
    asked = harness.start("b")
    harness.supervisor.close()
    zygote.close()
    late = harness.start("c")
    assert running.told[-1] == ("exited", UNKNOWN_STATUS, False)
    assert asked.told == late.told == [("failed", "the supervisor is gone")]
    running.finish()


def test_a_link_that_did_not_arrive_is_asked_for_again(harness: ClientHarness) -> None:
    """The sessions of a worker without a free descriptor live on."""
    client = harness.start("a")
    harness.supervisor.send(messages.ZygoteLinkMessage(1))
    while not (said := harness.supervisor.receive_all()):
        harness.loop.run_once()
    assert said == [messages.ZygoteLinkMessage(1)]
    zygote = harness.zygote()
    zygote.start(zygote.receive_all()[0], 1)
    assert client.told == [("started", 1, 3)]


@pytest.mark.parametrize(
    "packet",
    [
        b"nonsense",
        b'{"ready":true}',
        b'{"started":77,"pid":1}',
        b'{"failed":77,"reason":"none"}',
        b'{"exited":[[1,99999,false]]}',
        b'{"finish":["a"]}',
        b"x" * 5000,
    ],
)
def test_a_faulty_packet_is_dropped_alone(
    packet: bytes, harness: ClientHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_socket, "_buffer", mmap(-1, 4096))
    reasons: list[str] = []
    harness.spawner.on_faulty_packet = reasons.append
    zygote = harness.zygote()
    client = harness.run(zygote, "a", 1)
    descriptors = os.listdir("/proc/self/fd")
    for link in (zygote, harness.supervisor):
        socket.send_fds(link.handle, [packet], [0, 1])
        run_once(harness.loop)
    assert len(reasons) == 2
    assert os.listdir("/proc/self/fd") == descriptors
    zygote.send(exited(1, 3))
    assert client.told[-1] == ("exited", 3, False)


# Starts that kill zygotes


def kill(harness: ClientHarness, zygote: Link, request: StartRequest) -> None:
    """Let a zygote die of a start."""
    harness.marks.begin(0, request.start, 1.0)
    zygote.close()


def test_a_start_that_has_killed_a_zygote_is_not_repeated(
    harness: ClientHarness,
) -> None:
    first = harness.zygote(1)
    clients = [harness.start(str(number)) for number in range(4)]
    kill(harness, first, first.receive_all()[2])
    assert clients[2].told == [("failed", "cat: the zygote died of this start")]
    second = harness.zygote(2)
    asked = second.receive_all()
    sessions = [request.environment["CHIMIRROR_SESSION"] for request in asked]
    assert sessions == ["0", "1", "3"]
    second.close()  # killed by another process: no mark
    assert len(harness.zygote(3).receive_all()) == 3


def test_a_start_in_flight_at_many_deaths_fails(harness: ClientHarness) -> None:
    client = harness.start()
    for generation in range(MAX_DEATHS):
        assert client.told == []
        harness.zygote(generation + 1).close()
    assert client.told == [("shortage", "zygotes die again and again")]
    assert not harness.spawner._starts._in_flight


def test_a_program_that_kills_zygotes_is_barred_for_a_while(
    harness: ClientHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for generation in range(MAX_KILLS):
        harness.start()
        zygote = harness.zygote(generation + 1)
        kill(harness, zygote, zygote.receive_all()[0])
    zygote = harness.zygote(9)
    barred = harness.start()
    assert barred.told == [("shortage", "it has killed 2 zygotes; see the log")]
    other = Client(harness, "other")
    harness.spawner.start(
        SpawnRequest(other, Program(("other",)), {}, keep_stderr=True)
    )
    assert len(zygote.receive_all()) == 1
    harness.loop.now += BAR_TIME
    harness.start()
    assert len(zygote.receive_all()) == 1


def test_without_a_zygote_starts_fail_after_a_while(harness: ClientHarness) -> None:
    zygote = harness.zygote(1)
    running = harness.run(zygote, "a", 1)
    zygote.close()
    waiting = harness.start("b")
    starts = harness.spawner._starts
    assert starts.deadline == harness.loop.now + ZYGOTE_TIMEOUT
    starts.on_timer(starts.deadline)
    late = harness.start("c")
    assert waiting.told == late.told == [("shortage", "no zygote runs")]
    harness.run(harness.zygote(2), "d", 4)
    assert running.told == [("started", 1, 3)]


# Signals


def test_waiting_signals_are_merged_and_starts_pass(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    clients = [harness.run(zygote, str(pid), pid) for pid in (1, 2)]
    assert harness.spawner.signal(1, 18)
    assert zygote.receive_all() == [SignalBatch([[18, 1, "1"]])]
    assert harness.spawner.signal(1, 18)
    results = [harness.spawner.signal(1, 18) for _ in range(10_000)]
    assert not any(results)
    assert harness.spawner.signal(2, 10)
    assert harness.spawner.signal(1, 10)
    waiting = harness.start("3")
    zygote.start(zygote.receive_all()[0], 3)
    assert waiting.told == [("started", 3, 3)]
    assert len(harness.spawner._signals[harness.spawner._starts.zygote]) == 4  # type: ignore[index]
    zygote.send(messages.SignalsTaken(1))
    batch = [[18, 1, "1"], [10, 2, "2"], [10, 1, "1"]]
    assert zygote.receive_all() == [SignalBatch(batch)]
    assert [client.told[-1] for client in clients] == ["taken", ("started", 2, 3)]
    zygote.send(messages.SignalsTaken(3))
    assert zygote.receive_all() == []


def test_cont_stays_behind_the_term_before_it(harness: ClientHarness) -> None:
    zygote = harness.zygote()
    harness.run(zygote, "a", 1)
    for number in (10, 18, 15, 18, 15):
        harness.spawner.signal(1, number)
    zygote.receive_all()
    zygote.send(messages.SignalsTaken(1))
    assert zygote.receive_all() == [SignalBatch([[15, 1, "a"], [18, 1, "a"]])]


def test_signals_that_a_dead_zygote_has_not_taken_are_sent_again(
    harness: ClientHarness,
) -> None:
    zygote = harness.zygote()
    client = harness.run(zygote, "a", 1)
    for number in (15, 18, 9, 9):
        harness.spawner.signal(1, number)
    zygote.close()
    adopt, first = harness.supervisor.receive_all()
    assert adopt == AdoptRequest({"a": 1}, {}, 1, more=False)
    assert first == SignalBatch([[15, 1, "a"]])
    harness.supervisor.send(messages.SignalsTaken(1))
    assert harness.supervisor.receive_all() == [
        SignalBatch([[18, 1, "a"], [9, 1, "a"]])
    ]
    assert client.told[-1] == "taken"


def test_signals_are_sent_in_batches(
    harness: ClientHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_SESSIONS", 3)
    zygote = harness.zygote()
    harness.run(zygote, "a", 1)
    for number in range(1, 9):
        harness.spawner.signal(1, number)
    sizes = []
    while batches := zygote.receive_all():
        sizes += [len(batch.signals) for batch in batches]
        zygote.send(messages.SignalsTaken(1))
    assert sizes == [1, 3, 3, 1]
