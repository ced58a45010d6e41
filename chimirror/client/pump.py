"""What moves the bytes under the blocking face: one thread for each connection.

It answers pings, keeps alive and receives (up to the bounds) while the caller is busy
elsewhere. Every access to a party is made under the lock of `changed`; whoever holds
it may send, too, so that nothing that is said has to wait for the thread.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time

from .dial import Deadline, dial
from .line import Line
from .steps import Lookup, Ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .line import Party
    from .opening import Plan
    from .steps import Flow, Step
    from .wire import Wire

    P = TypeVar("P", bound=Party)
    T = TypeVar("T")


class Pump:
    """Runs until the connection has ended."""

    def __init__(self, sock: socket.socket, party: Party) -> None:
        self.changed = threading.Condition()
        self._party = party
        self._wire = party.wire
        self._line = Line(sock, party)
        self._poll = select.poll()
        self._polled = 0  # what the socket is polled for,
        self._until = 0.0  # and until when
        self._asleep = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._poll.register(self._reader, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()

    # For the caller's threads.

    def run(self, flow: Flow[T], timeout: float | None = None) -> T:
        """Run a flow to its end.

        Raises:
            TimeoutError: it is not at its end in so many seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self.changed:
            try:
                while True:
                    try:
                        step = next(flow)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    if not self.settle() or step is not None:
                        self._take(step, end)
            finally:
                flow.close()
                self.settle()
                self.changed.notify_all()

    def _take(self, step: Step, end: float | None) -> None:
        if callable(step):
            self.changed.release()
            try:
                step()
            finally:
                self.changed.acquire()
            return
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("not within the time that was given")
        self.changed.wait(left)

    def abort(self) -> None:
        """Close the connection at once."""
        with self.changed:
            self._party.abort()
            self.settle()
        self.join()

    def join(self) -> None:
        """Wait until the connection has ended, which somebody has seen to."""
        self._thread.join()

    def settle(self) -> bool:
        """Act upon what has changed; to be called with the lock held.

        Returns:
            Whether something has changed by that.
        """
        moved = self._line.settle()
        changed = self._events() != self._polled or self._wire.due() < self._until
        if self._asleep and (changed or self._wire.lost is not None):
            self._asleep = False
            os.write(self._writer, b"-")
        return moved

    # The thread.

    def _run(self) -> None:
        with self.changed:
            try:
                self.settle()
                while self._wire.lost is None:
                    self._turn()
                    self.changed.notify_all()
            finally:
                self._wire.over("an error of the client's own")
                self._line.close()
                os.close(self._reader)
                os.close(self._writer)
                self.changed.notify_all()

    def _turn(self) -> None:
        ready = self._sleep()
        if self._reader in ready:
            os.read(self._reader, 64)
        fd = self._line.fileno()
        if self._line.reading and (fd in ready or self._line.buffered()):
            self._line.receive()
        self.settle()

    def _sleep(self) -> list[int]:
        """Poll, without the lock; what is ready."""
        events, fd = self._events(), self._line.fileno()
        if events != self._polled:
            # Registered without events it would still report a hang-up: a busy loop.
            if events:
                self._poll.register(fd, events)
            else:
                self._poll.unregister(fd)
            self._polled = events
        # What is at hand already will not wake us once more.
        at_hand = self._line.reading and self._line.buffered()
        self._until = self._wire.due()
        left = 0.0 if at_hand else self._until - self._wire.clock()
        self._asleep = True
        self.changed.release()
        try:
            return [fd for fd, _ in self._poll.poll(_milliseconds(left))]
        finally:
            self.changed.acquire()
            self._asleep = False

    def _events(self) -> int:
        events = select.POLLIN if self._line.reading else 0
        return events | select.POLLOUT if self._line.writing else events


def _milliseconds(seconds: float) -> int:
    return int(min(max(seconds, 0), 3600) * 1000) + (seconds > 0)


def connected(
    plan: Plan, subprotocol: str, make: Callable[[Wire], P]
) -> tuple[P, Pump]:
    """Get to a server, and wait until the party made for it is open.

    Raises:
        NotConnected: it did not come about.
    """
    deadline = Deadline(plan.timeout)
    sock = _dialled(dial(plan, deadline))
    party = make(plan.wire(subprotocol, time.monotonic))
    pump = Pump(sock, party)
    try:
        pump.run(party.opened(), deadline.left())
    except BaseException as error:  # noqa: BLE001 whichever, it is raised again
        late = plan.late(party.awaited)
        pump.abort()
        raise (late if isinstance(error, TimeoutError) else error) from None
    return party, pump


def _dialled(flow: Flow[T]) -> T:
    """Run a flow that dials."""
    try:
        step = next(flow)
        while True:
            try:
                answer = _answer(step)
            except (OSError, UnicodeError) as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()


def _answer(step: Step) -> object:
    if isinstance(step, Lookup):
        return socket.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)
    assert isinstance(step, Ready)
    poll = select.poll()
    poll.register(step.sock, select.POLLOUT if step.write else select.POLLIN)
    return bool(poll.poll(_milliseconds(step.seconds)))
