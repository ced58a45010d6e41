"""Starts of a worker that its zygote has not answered: waiting, or in flight.

A start that has killed a zygote is never sent again. Others that were in flight then
are sent to the next zygote. A program whose starts kill zygotes again and again is not
started for a while, so that those of others can be. Knows messages, no processes.
"""

from __future__ import annotations

from collections import deque

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.spawn import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.io.loop import EventLoop
    from chimirror.io.packet_socket import PacketSocket
    from chimirror.process.spawner import Program, SpawnClient, SpawnRequest
    from chimirror.spawn.start_marks import StartMarks

MAX_IN_FLIGHT = 8  # starts: with more in flight, every answer comes late
MAX_DEATHS = 3  # zygotes that may die while one start is in flight
ZYGOTE_TIMEOUT = 5.0  # seconds without any zygote after which starts fail
# A program that has killed MAX_KILLS zygotes within BAR_TIME is not started before
# BAR_TIME is over.
MAX_KILLS = 2
BAR_TIME = 30.0  # seconds


class PendingStart:
    """A start without an answer.

    Attributes:
        request: the start.
        link: of the zygote that was asked, or None.
        deaths: of zygotes, while this start was in flight.
    """

    __slots__ = ("deaths", "link", "request")

    def __init__(self, request: SpawnRequest) -> None:
        self.request = request
        self.link: PacketSocket | None = None
        self.deaths = 0


class StartQueue(FatalErrorHandler):
    """The unanswered starts of one worker. Sends them to the zygote.

    Args:
        loop: event loop of this worker.
        marks: names the start that a dead zygote was performing.
        worker: the number of this worker.
    """

    def __init__(self, loop: EventLoop, marks: StartMarks, worker: int) -> None:
        self._loop = loop
        self._marks = marks
        self._worker = worker
        marks.take(worker)  # of an earlier worker with this number
        self.zygote: PacketSocket | None = None
        self._is_final = False  # there will be no other zygote
        self._is_late = False  # ZYGOTE_TIMEOUT has passed without a zygote
        self._waiting: deque[PendingStart] = deque()
        self._in_flight: dict[int, PendingStart] = {}
        self._sequence = 0
        # times at which a start of the program has killed a zygote
        self._kills: dict[Program, list[float]] = {}
        self.armed = 0
        self.deadline = NEVER

    def add(self, start: PendingStart) -> None:
        """Send a start, now or later."""
        if self._is_barred(start.request.program):
            reason = f"it has killed {MAX_KILLS} zygotes; see the log"
            fail(start, reason, shortage=True)
        elif self._is_late:
            fail(start, "no zygote runs", shortage=True)
        else:
            self._waiting.append(start)
            self.send_waiting()

    def take(self, number: int) -> PendingStart | None:
        """Return the start that an answer belongs to, or None if there is none."""
        return self._in_flight.pop(number, None)

    def send_waiting(self) -> None:
        """Send waiting starts, up to the limit in flight."""
        while self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            if self.zygote is None:
                if self._is_final:
                    self.fail_waiting("the supervisor is gone", shortage=False)
                elif not self.armed:
                    self._loop.set_timer(self, self._loop.now + ZYGOTE_TIMEOUT)
                return
            self._send(self._waiting.popleft(), self.zygote)

    def _send(self, start: PendingStart, zygote: PacketSocket) -> None:
        self._sequence = number = self._sequence + 1
        start.link = zygote
        request = start.request
        program = request.program
        found = program.argv, program.directory or "", program.user_ids
        command, directory, user = found if program.from_file else ((), "", ())
        options = program.pty, program.control
        environment, stderr = dict(request.environment), request.keep_stderr
        size = request.size or ()
        message = messages.StartRequest(
            *(number, environment, stderr, command, directory, *options, user, size),
            request.cgroup,
        )
        packet = messages.encode(message)
        try:
            zygote.send(packet)
        except OSError:  # EMSGSIZE
            text = f"its command and environment are too large: {len(packet)} bytes"
            fail(start, text, shortage=False)
            return
        self._in_flight[number] = start

    # Start and loss of zygotes

    def on_zygote(self, zygote: PacketSocket) -> None:
        """Called when there is a zygote. Sends it the waiting starts."""
        self.zygote = zygote
        self._is_late = False
        self._loop.cancel_timer(self)
        self.send_waiting()

    def on_zygote_lost(self, link: PacketSocket) -> None:
        """Called when a zygote has died. Sends its starts to the next one, but one."""
        if self.zygote is link:
            self.zygote = None
        killer = self._marks.take(self._worker)
        lost = [
            number for number, start in self._in_flight.items() if start.link is link
        ]
        for number in reversed(lost):
            start = self._in_flight.pop(number)
            start.deaths += 1
            if number == killer:
                program = start.request.program
                self._note_kill(program)
                reason = f"{program.argv[0]}: the zygote died of this start"
                fail(start, reason, shortage=False)
            elif start.deaths >= MAX_DEATHS:
                fail(start, "zygotes die again and again", shortage=True)
            else:
                self._waiting.appendleft(start)
        self.send_waiting()

    def on_supervisor_lost(self) -> None:
        """Called when the supervisor, which forks zygotes, is gone."""
        self._is_final = True
        self.send_waiting()

    def on_timer(self, now: float) -> None:
        """Called when there has been no zygote for too long. Fails all starts."""
        self._is_late = True
        self.fail_waiting("no zygote runs", shortage=True)

    def fail_waiting(self, reason: str, *, shortage: bool) -> None:
        """Fail all waiting starts."""
        waiting, self._waiting = self._waiting, deque()
        for start in waiting:
            fail(start, reason, shortage=shortage)

    # Programs that kill zygotes

    def _note_kill(self, program: Program) -> None:
        since = self._loop.now - BAR_TIME
        self._kills = {
            known: times for known, times in self._kills.items() if times[-1] > since
        }
        times = self._kills.get(program, [])
        self._kills[program] = [*times[1 - MAX_KILLS :], self._loop.now]

    def _is_barred(self, program: Program) -> bool:
        times = self._kills.get(program, [])
        return len(times) >= MAX_KILLS and times[-1] > self._loop.now - BAR_TIME


def fail(start: PendingStart, reason: str, *, shortage: bool) -> None:
    """Report that a start has failed."""
    client = start.request.client
    call(client, client.on_start_failed, reason, shortage)


def call(client: SpawnClient, method: Callable[..., None], *arguments: object) -> None:
    """Call a method of a client, which answers for its own errors."""
    try:
        method(*arguments)
    except Exception as error:  # noqa: BLE001 (its own client answers)
        client.on_error(error)
