"""One worker of the server: it accepts, and drives its sessions in one loop.

All workers share the listeners and one table of limits; nothing else is shared, so a
worker that dies takes only its own sessions with it.
"""

from __future__ import annotations

from sys import intern

from chimirror import keys, service
from chimirror.control import Office
from chimirror.entrance import Door, Leaving
from chimirror.service import Peer, Service, new_identity
from chimirror.session import Session
from chimirror.system.activation import peer_uid, plain_address
from chimirror.system.lean import environment, os, signal, socket
from chimirror.system.listen import open_unix
from chimirror.system.loop import EXCLUSIVE, NEVER, READ, Loop
from chimirror.system.remote import RemoteStarter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.entrance import Seats
    from chimirror.options import Config
    from chimirror.system.application import Starter
    from chimirror.system.listen import Listener
    from chimirror.system.pulse import Pulse
    from chimirror.system.records import Records

HANDSHAKES = 512  # in flight; more wait in the listener's queue
SHORTAGE_PAUSE = 0.25  # seconds without accepting, when the kernel has no room
LAST_WORDS = 1.0  # seconds for close frames to be read, when all has to end at once
ABORT = signal.SIGUSR1  # to a worker; SIGTERM may come from systemd too, to all of us
TURN_AWAY = signal.SIGUSR2  # instead of SIGTERM, where nobody will have our listeners
# What a worker acts on, or leaves to the supervisor to act on.
_OTHERS = (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
SIGNALS = (signal.SIGTERM, ABORT, TURN_AWAY, *_OTHERS)
MARGIN = 5.0  # seconds for sessions to end, beside the graces of their applications


class Worker(Service):
    """See the module.

    Args:
        seats, number: the shared limits, and which of the workers we are.
        capacity: sessions that our descriptors allow.
        office: the directory of all workers' control sockets.
    """

    __slots__ = (
        "_aborting",
        "_capacity",
        "_doors",
        "_draining",
        "_expired",
        "_number",
        "_office",
        "_seats",
        "_short",
        "_shortages",
        "_turning",
        "armed",
        "deadline",
        "open",
    )

    def __init__(
        self,
        config: Config,
        loop: Loop,
        starter: Starter,
        records: Records,
        seats: Seats,
        number: int,
        capacity: int,
        office: str | None = None,
    ) -> None:
        served = service.applications(config, environment())
        super().__init__(config, served, loop, starter, lambda: records, seats)
        self._seats = seats
        self._number = number
        self._capacity = capacity
        self._office = office
        self._doors: list[Door] = []
        self._draining = self._expired = self._aborting = False
        self._turning = False  # who comes is told that we go
        self._short = False
        self._shortages = 0  # since a connection was last accepted
        self.armed = 0
        self.deadline = NEVER
        self.open = False
        loop.on_signal(signal.SIGTERM, self.drain)
        loop.on_signal(ABORT, self.abort)
        loop.on_signal(TURN_AWAY, self.turn_away)
        loop.on_signal(signal.SIGINT, lambda: None)  # the supervisor's to act on
        loop.on_signal(signal.SIGHUP, lambda: None)

    def serve(self, listeners: list[Listener]) -> None:
        """Accept and serve until drained."""
        self._doors = [Door(self, listener) for listener in listeners]
        self._admit()
        self.loop.run()
        while self._turning and self._take_last():
            self.loop.running = True
            self.loop.run()

    def _take_last(self) -> bool:
        """Let those in who have come since we were idle; whether there are any.

        As long as another worker has sessions, it lets them in.
        """
        last = self._seats.are_empty
        for door in self._doors:
            if last:
                door.narrow()
            door.on_event(door.fd, READ)
        return not self.idle

    # Control

    @property
    def number(self) -> int:
        """See Service."""
        return self._number

    def is_steerable(self) -> bool:
        """See Service."""
        return self._office is not None

    def control_path(self, identity: str, secret: str) -> str | None:
        """The worker that has made the secret knows it; it may be ourselves."""
        number = keys.number(secret)
        return None if number < 0 else f"{self._office}/{number}"

    # Accepting

    def on_connection(self, fd: int, address: object) -> None:
        """A client has connected."""
        self._shortages = 0
        try:
            os.set_blocking(fd, False)
            peer = self._peer_of(fd, address)
            session = Session(self, peer, fd, fd, new_identity())
        except Exception:
            os.close(fd)
            raise
        session.connection.begin()
        self._admit()

    def _peer_of(self, fd: int, address: object) -> Peer:
        if isinstance(address, tuple):
            # One text for all sessions of an address: behind a proxy, for all of them.
            return Peer(intern(plain_address(address[0])), address[1])
        handle = socket.socket(-1, -1, -1, fd)
        try:
            return Peer("", 0, peer_uid(handle))
        finally:
            handle.detach()

    def _admit(self) -> None:
        """Poll the listeners if, and only if, there is room for one more."""
        room = (
            (self._turning or not self._draining)
            and not self._short
            and self.connecting < HANDSHAKES
            and len(self.sessions) + len(self.couriers) < self._capacity
        )
        if room != self.open:
            self.open = room
            for door in self._doors:
                self.loop.watch(door.fd, door, READ | EXCLUSIVE if room else 0)

    def on_decided(self) -> None:
        """A handshake is over."""
        super().on_decided()
        if not self.open:
            self._admit()

    def on_shortage(self, error: Exception) -> None:
        """accept(2) failed for want of something: try again in a moment."""
        if not self._shortages:
            self.records.note(4, f"cannot accept connections just now: {error}")
        self._shortages += 1
        self._short = True
        self._admit()
        if not self._draining:  # else our timer ends that, and who leaves makes room
            self.loop.arm(self, self.loop.now + SHORTAGE_PAUSE)

    # Draining

    def turn_away(self) -> None:
        """Drain, and tell those that come meanwhile: else the kernel hangs up on them.

        Nobody will have our listeners after us, who could serve them.
        """
        if not self._draining:
            self._turning = True
            self._short = False
            self.admission = Leaving(self.admission)
            self.drain()

    def drain(self) -> None:
        """Stop accepting, let sessions end; 1001 for those that last too long."""
        if self._draining:
            return
        self._draining = True
        if self._turning:
            self._admit()
        else:
            self._shut()
        self.loop.arm(self, self.loop.now + self.config.drain_timeout)
        self._leave_if_empty()

    def _shut(self) -> None:
        """Nobody comes in any more, and nobody is told."""
        self._turning = False
        self._admit()
        for door in self._doors:
            door.close()
        self._doors = []

    def abort(self) -> None:
        """End every session at once."""
        self.drain()
        self._shut()
        self._aborting = True
        for one in self.everybody():
            one.abort()
        self.loop.arm(self, self.loop.now + LAST_WORDS)

    def on_timer(self, now: float) -> None:
        """The drain timeout is over, or the shortage may be."""
        if self._aborting:
            for one in self.everybody():
                one.connection.finish()
            self.loop.running = False
        elif self._expired:
            self.abort()
        elif self._draining:
            self._expire()
        else:
            self._short = False
            self._admit()

    def _expire(self) -> None:
        """Sessions did not end by themselves: close them."""
        self._expired = True
        self._shut()
        for one in self.everybody():
            one.close(1001, "drain")
        every = [self.config, *(one.app.config for one in self.sessions.values())]
        graces = max(config.stop_grace + config.kill_grace for config in every)
        self.loop.arm(self, self.loop.now + graces + MARGIN)

    def on_vacancy(self) -> None:
        """Somebody has left: room for another."""
        if self._draining:
            self._short = False
        if not self.open:
            self._admit()
        self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if self._draining and self.idle:
            self.loop.running = False

    def on_event(self, fd: int, events: int) -> None:
        """We watch no descriptor ourselves."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours in the worker itself: the supervisor replaces us."""
        raise error


def run(
    config: Config,
    listeners: list[Listener],
    records: Records,
    seats: Seats,
    number: int,
    capacity: int,
    line: socket.socket,
    office: str | None,
    pulse: Pulse | None,
) -> None:
    """Be worker `number` until drained.

    Whatever it leaves, the zygote ends: it holds the other end of our link.

    Args:
        line: to the supervisor; when that is gone, nobody could replace or stop us.
        office: the directory for our control socket.
        pulse: shows that our loop turns.
    """
    loop = Loop()
    records.defer(loop.at_end)
    starter = RemoteStarter(loop, line)
    worker = Worker(config, loop, starter, records, seats, number, capacity, office)
    starter.on_deserted = worker.drain
    if pulse is not None:
        pulse.keep(loop, number)
    desk = None
    if office is not None:
        desk = Office(worker, open_unix(f"{office}/{number}", 0o600))
    try:
        worker.serve(listeners)
    finally:
        records.flush()
    if desk is not None:
        desk.close()
