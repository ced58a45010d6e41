"""A worker's side of errands: what is asked, of whom, and what clients are told.

Law: the loop and the links are real; the zygote and the supervisor are this test, which
writes their packets.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chimirror.system import errands, link
from chimirror.system.child import Program
from chimirror.system.errands import Adopt, Exited, Failed, Finish, Start, Started
from chimirror.system.loop import TICKS, Loop
from chimirror.system.remote import IN_FLIGHT, UNKNOWN, RemoteStarter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.child import Pipes

PROGRAM = Program(("cat", "-u"), "/usr", found=True)


class Post:
    """The other end of a link, read and written at once."""

    def __init__(self, loop: Loop, handle: socket.socket) -> None:
        self.loop = loop
        self.handle = handle
        handle.setblocking(False)

    def hear(self) -> list[Any]:
        """All that has been sent so far."""
        found: list[Any] = []
        while True:
            try:
                packet = self.handle.recv(1 << 19)
            except BlockingIOError:
                return found
            if not packet:
                return found
            found.append(errands.decode(packet))

    def say(self, errand: errands.Errand, *pipes: int) -> None:
        socket.send_fds(self.handle, [errands.encode(errand)], list(pipes))
        turn_once(self.loop)

    def start(self, request: Start, pid: int) -> None:
        """Answer with pipes of the null device."""
        count = 2 + request.stderr + request.control
        nulls = [os.open(os.devnull, os.O_RDWR) for _ in range(count)]
        self.say(Started(request.start, pid, ""), *nulls)
        for fd in nulls:
            os.close(fd)

    def close(self) -> None:
        self.handle.close()
        turn_once(self.loop)

    def hear_finish(self) -> list[str]:
        """Of which sessions it is told, together, that they are over."""
        said: list[Any] = []
        while not said:
            self.loop.turn()
            said = self.hear()
        (finish,) = said
        assert isinstance(finish, Finish)
        return list(finish.finish)


def turn_once(loop: Loop) -> None:
    """Serve what is there, wait for nothing."""

    class Now:
        armed, deadline = 0, 0.0

        def on_timer(self, now: float) -> None: ...

        def on_event(self, fd: int, events: int) -> None: ...

        def on_fault(self, error: Exception) -> None: ...

    loop.arm(Now(), 0)
    loop.turn()


def exited(pid: int, status: int | None, *, survivors: bool = False) -> Exited:
    """One application has ended."""
    return Exited([(pid, status, survivors)])


class Client:
    """Who is told."""

    def __init__(self, house: House, session: str) -> None:
        self.house = house
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

    def on_exit(self, status: int, survivors: bool) -> None:
        self.told.append(("exited", status, survivors))
        if self.session == "broken":
            raise LookupError("a bug")

    def on_fault(self, error: Exception) -> None:
        self.told.append(error.args[0])

    def finish(self) -> None:
        self.house.starter.finish(self.pid, self.session, survivors=False)


class House:
    """A worker's starter, its supervisor and its zygotes."""

    def __init__(self) -> None:
        self.loop = Loop()
        ours, theirs = link.pair()
        self.starter = RemoteStarter(self.loop, ours)
        self.supervisor = Post(self.loop, theirs)
        self.posts = [self.supervisor]
        self.deserted: list[bool] = []
        self.starter.on_deserted = lambda: self.deserted.append(True)

    def zygote(self, generation: int = 1) -> Post:
        ours, theirs = link.pair()
        self.supervisor.say(errands.Zygote(generation), ours.fileno())
        ours.close()
        self.posts.append(Post(self.loop, theirs))
        return self.posts[-1]

    def start(
        self, session: str = "s", *, keep_stderr: bool = True, control: bool = False
    ) -> Client:
        client = Client(self, session)
        variables = {"CHIMIRROR_SESSION": session, "A": "\udcff"}
        what = PROGRAM.asked(control=control)
        self.starter.start(client, what, variables, keep_stderr)
        return client

    def run(self, post: Post, session: str, pid: int) -> Client:
        """Start one, and answer."""
        client = self.start(session)
        (request,) = post.hear()
        post.start(request, pid)
        return client


@contextmanager
def opened() -> Iterator[House]:
    one = House()
    yield one
    for each in (*one.starter._generations, one.starter._line):
        each.close()
    for post in one.posts:
        post.handle.close()
    one.loop.close_all()


@pytest.fixture
def house() -> Iterator[House]:
    with opened() as one:
        yield one


def test_a_life(house: House) -> None:
    zygote = house.zygote()
    client = house.start("s-1")
    (asked,) = zygote.hear()
    environment = {"CHIMIRROR_SESSION": "s-1", "A": "\udcff"}
    assert asked == Start(asked.start, environment, True, ["cat", "-u"], "/usr")
    zygote.start(asked, 4711)
    house.starter.signal(4711, 15)
    zygote.say(exited(4711, 3, survivors=True))
    house.starter.signal(4711, 9)  # too late, the number may be another's
    house.starter.finish(4711, "s-1", survivors=True)
    house.starter.finish(4711, "s-1", survivors=True)
    assert zygote.hear() == [errands.Signal(15, 4711, "s-1")]
    assert zygote.hear_finish() == ["s-1"]
    assert client.told == [("started", 4711, 3), ("exited", 3, True)]
    assert not any(house.starter._running.values())
    assert not house.starter._ended


def test_without_stderr(house: House) -> None:
    zygote = house.zygote()
    client = house.start(keep_stderr=False)
    (asked,) = zygote.hear()
    assert not asked.stderr
    zygote.start(asked, 1)
    assert client.told == [("started", 1, 2)]


@pytest.mark.parametrize("keep", [True, False])
def test_a_control_channel(keep: bool, house: House) -> None:
    zygote = house.zygote()
    client = house.start(keep_stderr=keep, control=True)
    (asked,) = zygote.hear()
    assert asked.control
    zygote.start(asked, 1)
    assert client.told == [("started", 1, 3 + keep)]
    assert (client.pipes[2] >= 0, client.pipes[3] >= 0) == (keep, True)


def test_what_cannot_be_started(house: House) -> None:
    zygote = house.zygote()
    client = house.start()
    zygote.say(Failed(zygote.hear()[0].start, "no such program"))
    assert client.told == [("failed", "no such program")]
    client = house.start()
    zygote.say(Failed(zygote.hear()[0].start, "no memory", shortage=True))
    assert client.told == [("shortage", "no memory")]


def test_an_environment_that_fits_no_packet(house: House) -> None:
    zygote = house.zygote()
    client = Client(house, "s")
    house.starter.start(client, PROGRAM, {"A": "x" * (1 << 22)}, True)
    assert client.told == [("failed", "its environment: Message too long")]
    house.run(zygote, "next", 1)


def test_few_are_in_flight_and_the_others_wait(house: House) -> None:
    clients = [house.start(str(number)) for number in range(20)]
    zygote = house.zygote()
    asked = zygote.hear()
    assert len(asked) == IN_FLIGHT
    for number in range(20):
        request = asked.pop(0)
        if number % 2:
            zygote.start(request, number + 1)
        else:
            zygote.say(Failed(request.start, "no"))
        asked += zygote.hear()
        assert len(asked) == min(IN_FLIGHT, 19 - number)
    assert [len(client.told) for client in clients] == [1] * 20


def test_a_bug_of_one_client_is_its_own(house: House) -> None:
    zygote = house.zygote()
    broken = house.run(zygote, "broken", 1)
    other = house.run(zygote, "other", 2)
    zygote.say(Exited([(1, 0, False), (3, 0, False), (2, 0, False)]))
    assert broken.told[-1] == "a bug"
    assert other.told[-1] == ("exited", 0, False)


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_pipes_that_did_not_arrive(arrived: int, house: House) -> None:
    """No descriptor was left for them: what has started must end."""
    zygote = house.zygote()
    client = house.start("s-1")
    (asked,) = zygote.hear()
    before = os.listdir("/proc/self/fd")
    zygote.say(Started(asked.start, 4711, "s-1"), *range(arrived))
    assert os.listdir("/proc/self/fd") == before
    assert client.told == [("shortage", "no descriptors left for its pipes")]
    assert zygote.hear() == [errands.Signal(9, 4711, "s-1")]
    zygote.say(exited(4711, -9))
    assert zygote.hear_finish() == ["s-1"]


def test_the_ends_of_one_tick_are_told_together(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "SESSIONS", 3)
    monkeypatch.setattr(house.loop, "clock", lambda: house.loop.now)  # time stands
    zygote = house.zygote()
    clients = [house.run(zygote, str(number), number) for number in range(1, 8)]
    for client in clients:
        zygote.say(exited(client.pid, 0))
        client.finish()
    assert zygote.hear() == []
    monkeypatch.setattr(house.loop, "clock", lambda: house.loop.now + 1 / TICKS)
    turn_once(house.loop)
    said = [finish.finish for finish in zygote.hear()]
    assert said == [["1", "2", "3"], ["4", "5", "6"], ["7"]]


def test_what_a_dead_zygote_was_not_told_is_told_to_nobody(house: House) -> None:
    zygote = house.zygote()
    client = house.run(zygote, "a", 1)
    zygote.say(exited(1, 0))
    client.finish()
    zygote.close()
    assert house.supervisor.hear() == [Adopt({}, {}, 1, more=False)]
    assert not house.starter._over


# Zygotes come and go


def test_what_was_not_answered_is_asked_again_in_order(house: House) -> None:
    first = house.zygote(1)
    clients = [house.start(str(number)) for number in range(IN_FLIGHT + 2)]
    first.start(first.hear()[0], 4711)
    sessions = [asked.environment["CHIMIRROR_SESSION"] for asked in first.hear()]
    assert sessions == ["8"]
    first.close()
    assert house.supervisor.hear() == [Adopt({"0": 4711}, {}, 1, more=False)]
    second = house.zygote(2)
    asked = second.hear()
    sessions = [request.environment["CHIMIRROR_SESSION"] for request in asked]
    assert sessions == list("12345678")
    for number, request in enumerate(asked):
        second.start(request, number + 1)
    second.start(second.hear()[0], 9)
    assert all(client.told for client in clients)


def test_adopted_ones_belong_to_the_supervisor(house: House) -> None:
    first = house.zygote(1)
    running, ending = house.run(first, "a", 1), house.run(first, "b", 2)
    lone = house.run(first, "d", 4)
    first.say(exited(2, 5, survivors=True))
    first.say(exited(4, 5))
    first.close()
    claimed = Adopt({"a": 1}, {"b": 2, "d": 0}, 1, more=False)
    assert house.supervisor.hear() == [claimed]
    second = house.zygote(2)
    other = house.run(second, "c", 3)
    house.starter.signal(1, 15)
    house.starter.signal(3, 10)
    second.say(exited(1, 7))  # not its own to tell
    assert len(running.told) == 1
    house.supervisor.say(exited(1, None))
    assert running.told[-1] == ("exited", UNKNOWN, False)
    for one in (lone, ending, running):  # in one tick
        one.finish()
    assert house.supervisor.hear() == [errands.Signal(15, 1, "a")]
    assert house.supervisor.hear_finish() == ["d", "b", "a"]
    assert second.hear() == [errands.Signal(10, 3, "c")]
    second.say(exited(3, 0))
    assert other.told[-1] == ("exited", 0, False)


def test_a_successor_may_come_before_the_end_is_seen(house: House) -> None:
    first = house.zygote(1)
    client = house.run(first, "a", 1)
    waiting = house.start("b")
    second = house.zygote(2)
    first.say(exited(1, 4))  # what it said before its end still counts
    assert client.told[-1] == ("exited", 4, False)
    first.close()
    assert house.supervisor.hear() == [Adopt({}, {"a": 0}, 1, more=False)]
    (asked,) = second.hear()
    second.start(asked, 2)
    assert waiting.told == [("started", 2, 3)]


def test_many_are_claimed_in_pieces(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "SESSIONS", 3)
    zygote = house.zygote(5)
    for number in range(1, 8):
        house.run(zygote, str(number), number)
    zygote.close()
    said = house.supervisor.hear()
    assert [len(adopt.adopt) for adopt in said] == [3, 3, 1]
    assert [adopt.more for adopt in said] == [True, True, False]
    assert {adopt.zygote for adopt in said} == {5}


# The supervisor goes


def test_without_supervisor_the_zygote_still_serves(house: House) -> None:
    zygote = house.zygote()
    client = house.run(zygote, "a", 1)
    house.supervisor.close()
    assert house.deserted == [True]
    zygote.say(exited(1, 0))
    assert client.told[-1] == ("exited", 0, False)
    house.run(zygote, "b", 2)


def test_without_both_everything_has_ended(house: House) -> None:
    zygote = house.zygote()
    running = house.run(zygote, "a", 1)
    asked = house.start("b")
    house.supervisor.close()
    zygote.close()
    late = house.start("c")
    assert running.told[-1] == ("exited", UNKNOWN, False)
    assert asked.told == late.told == [("failed", "the supervisor is gone")]
    running.finish()


def test_a_link_that_did_not_arrive(house: House) -> None:
    """Without it there is nothing to do here: the worker ends, and is replaced."""
    with pytest.raises(errands.Nonsense):
        house.supervisor.say(errands.Zygote(1))


def test_nonsense_is_a_fault_of_ours(house: House) -> None:
    with pytest.raises(errands.Nonsense):
        house.supervisor.say(errands.Ready())
