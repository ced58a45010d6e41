"""The zygote of a server: forked before the first connection, it starts applications.

It serves no session: workers ask it over links (errands, chimirror-protocol(7)) and get
the pipes of a fresh application, or of a copy of one that was loaded before, and are
told of its end.

It is small, and stays so: a process pays for its whole descriptor table at every start
(5,000 descriptors: 1.1 ms instead of 0.1), and its children inherit the table's size.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from chimirror import service
from chimirror.system import capacity, children, errands, fds, prctl, warm
from chimirror.system.child import Program, Starter
from chimirror.system.desk import StartingDesk
from chimirror.system.link import Link
from chimirror.system.loop import NEVER, Loop
from chimirror.system.signalfd import Hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.options import Config
    from chimirror.system.child import Undertaker
    from chimirror.system.desk import Desk
    from chimirror.system.pulse import Pulse

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the supervisor acts on them
NAME = b"zygote"  # as ps(1) shows it beside the workers
DESCRIPTORS = 64  # of our own, beside the links


def make_starter(
    loop: Loop,
    config: Config,
    environment: Mapping[str, str],
    undertaker: Undertaker | None = None,
) -> Starter:
    """The starter of what the command line names; a preloaded one is loaded.

    Args:
        environment: what the module finds in os.environ while it is imported.
        undertaker: see child.Keeper.

    Raises:
        CannotPreload: why, on one line; what the module itself raised is on stderr.
    """
    if config.preload is None:
        return Starter(loop, undertaker)
    os.environ.clear()
    os.environ.update(environment)
    try:
        function = warm.load(config.preload)
    except warm.CannotPreload:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 (the application's own)
        sys.excepthook(type(error), error, error.__traceback__)
        raise warm.CannotPreload(f"importing {config.preload} failed") from None
    return warm.Warm(loop, config.preload, function, undertaker)


class WorkersDesk(StartingDesk):
    """The desk for a worker of ours, which says what it has found in a file.

    That may have changed since, and the worker has judged the request by what it was.
    """

    __slots__ = ()

    def _asked(self, errand: errands.Start) -> Program:
        if not errand.command:
            return super()._asked(errand)
        found = Program(tuple(errand.command), errand.directory or None)
        return found.asked(pty=errand.pty, control=errand.control)


class Zygote:
    """The zygote of a server.

    What sessions leave behind becomes the supervisor's, which is child subreaper and
    has few other children: we would have to look through all applications for it (40
    ms with 25,000), at every tick in which a session ends.

    Args:
        program: what it starts, where a worker does not say what it has found.
        control: to the supervisor, which hands us links; without it, and without
            links, there is nobody to work for.
    """

    def __init__(
        self, config: Config, program: Program, loop: Loop, control: socket.socket
    ) -> None:
        self._config = config
        self._program = program
        self._loop = loop
        self._desks: set[Desk] = set()
        self._over: dict[str, int] = {}  # sessions that the supervisor is to hear of
        self.armed = 0
        self.deadline = NEVER
        self._control = Link(loop, self, control)
        for number in SIGNALS:
            loop.on_signal(number, lambda: None)

    def employ(self, starter: Starter) -> None:
        """There is a starter: so we are ready."""
        self._starter = starter
        self._control.send(errands.encode(errands.Ready()))

    def serve(self) -> None:
        """Start applications until nobody is left to start them for."""
        try:
            while self._loop.running:
                self._loop.turn()
        finally:
            children.end_all()

    def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None:
        """The supervisor hands us a link, or ends everything."""
        errand = errands.decode(packet)
        if isinstance(errand, errands.Stop):
            self._loop.running = False
        elif not pipes:  # dropped: our successor will have a descriptor for it
            raise errands.Nonsense("a link without a descriptor")
        for fd in pipes:
            handle = socket.socket(fileno=fd)
            starter, grace = self._starter, self._config.kill_grace
            desk = WorkersDesk(self._loop, self, handle, starter, grace, self._program)
            self._desks.add(desk)

    def on_lost(self, link: Link) -> None:
        """The supervisor is gone: workers end by themselves, and then so do we."""
        self._starter.sweep_here()
        self._leave_if_alone()

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        """See strays.Strays; the supervisor does it, tick by tick."""
        self._over[session] = pid if survivors else 0
        self._loop.arm(self, self._loop.now)

    def on_stray_end(self) -> None:
        """We adopt nobody."""

    def on_timer(self, now: float) -> None:
        """Say which sessions are over."""
        told, self._over = list(self._over.items()), {}
        for first in range(0, len(told), errands.SESSIONS):
            over = dict(told[first : first + errands.SESSIONS])
            self._control.send(errands.encode(errands.Over(over)))

    def on_event(self, fd: int, events: int) -> None:
        """The links watch their own descriptors."""

    def on_desk_closed(self, desk: Desk) -> None:
        """A worker has gone, and what it had started has ended."""
        self._desks.discard(desk)
        self._leave_if_alone()

    def _leave_if_alone(self) -> None:
        if self._control.fd < 0 and not self._desks:
            self._loop.running = False

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: the supervisor replaces us."""
        raise error


def run(
    config: Config,
    control: socket.socket,
    descriptors: int,
    workers: int,
    pulse: Pulse | None,
) -> int:
    """Be the zygote of a server; the exit status.

    Args:
        control: the only descriptor beside the standard three that stays open.
        descriptors: the soft limit that applications get.
        workers: each has a link, and a new one before its predecessor's is closed.
        pulse: shows that our loop turns; the number after the workers' is ours.
    """
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, warm.HIGHEST)
    fds.silence(0)
    prctl.set_name(NAME)
    capacity.set_descriptor_limit(max(descriptors, DESCRIPTORS + 2 * workers))
    signal.pthread_sigmask(signal.SIG_SETMASK, SIGNALS)  # until they are handled
    loop = Loop()
    served = service.applications(config, os.environ).unnamed
    zygote = Zygote(config, served.program, loop, control)
    try:
        starter = make_starter(loop, config, served.environment, zygote)
    except warm.CannotPreload as error:
        os.write(2, f"chimirror-server: --preload: {error}\n".encode())
        return os.EX_UNAVAILABLE
    if pulse is not None:
        pulse.keep(loop, workers)
    Hints(loop, starter)
    zygote.employ(starter)
    zygote.serve()
    return os.EX_OK
