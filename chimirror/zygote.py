"""chimirror-zygote: the process that starts applications, for others, on request.

It serves no session: whoever asks over a link (errands, chimirror-protocol(7)) gets the
pipes of a fresh application, or of a copy of one that was loaded before, and is told of
its end. In the server it is forked before the first connection and asked by the
workers; as a program of its own it is asked by local clients over a Unix socket.

It is small, and stays so: a process pays for its whole descriptor table at every start
(5,000 descriptors: 1.1 ms instead of 0.1), and its children inherit the table's size.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from chimirror import options, service
from chimirror.system import (
    capacity,
    children,
    errands,
    fds,
    listen,
    notify,
    prctl,
    warm,
)
from chimirror.system.activation import peer_uid
from chimirror.system.child import Starter
from chimirror.system.desk import StartingDesk
from chimirror.system.link import Link
from chimirror.system.loop import NEVER, READ, Loop
from chimirror.system.signalfd import Hints
from chimirror.system.strays import SESSION_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from chimirror.options import Config
    from chimirror.system.child import Undertaker
    from chimirror.system.desk import Desk
    from chimirror.system.errands import Errand
    from chimirror.system.listen import Listener
    from chimirror.system.pulse import Pulse

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the supervisor acts on them
NAME = b"zygote"  # as ps(1) shows it beside the workers
DESCRIPTORS = 64  # of our own, beside the links
SHORTAGE_PAUSE = 0.25  # seconds without accepting, when the kernel has no room
BACKLOG = 64  # answers that a guest may leave unread


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
        return Starter(loop, config.command, undertaker)
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


# In the server


class Zygote:
    """The zygote of a server.

    What sessions leave behind becomes the supervisor's, which is child subreaper and
    has few other children: we would have to look through all applications for it (40
    ms with 25,000), at every tick in which a session ends.

    Args:
        control: to the supervisor, which hands us links; without it, and without
            links, there is nobody to work for.
    """

    def __init__(self, config: Config, loop: Loop, control: socket.socket) -> None:
        self._config = config
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
        for fd in pipes:
            handle = socket.socket(fileno=fd)
            desk = StartingDesk(
                self._loop, self, handle, self._starter, self._config.kill_grace
            )
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
    environment: Mapping[str, str],
    control: socket.socket,
    descriptors: int,
    workers: int,
    pulse: Pulse | None,
) -> int:
    """Be the zygote of a server; the exit status.

    Args:
        environment: of applications, as far as it is the same for all of them.
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
    zygote = Zygote(config, loop, control)
    try:
        starter = make_starter(loop, config, environment, zygote)
    except warm.CannotPreload as error:
        os.write(2, f"chimirror-server: --preload: {error}\n".encode())
        return os.EX_UNAVAILABLE
    if pulse is not None:
        pulse.keep(loop, workers)
    Hints(loop, starter)
    zygote.employ(starter)
    zygote.serve()
    return os.EX_OK


def become(
    config: Config,
    environment: Mapping[str, str],
    control: socket.socket,
    descriptors: int,
    workers: int,
    pulse: Pulse | None,
) -> NoReturn:
    """In the supervisor's child: be the zygote, and end."""
    status = os.EX_SOFTWARE
    try:
        status = run(config, environment, control, descriptors, workers, pulse)
    except BaseException:  # noqa: BLE001 (told, and the process ends)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


# As a program of its own


class Guest(StartingDesk):
    """The desk for one local client; when it goes, its applications end.

    A variable of the environment can make an application do anything (LD_PRELOAD), so
    only those may set any who could do anything as this user anyway.
    """

    __slots__ = ("_base", "_trusted")

    def __init__(
        self, reception: Reception, handle: socket.socket, *, trusted: bool
    ) -> None:
        loop, starter = reception.loop, reception.starter
        super().__init__(loop, reception, handle, starter, reception.config.kill_grace)
        self._base = reception.environment
        self._trusted = trusted

    def _run(self, errand: Errand) -> None:
        if (
            isinstance(errand, errands.Start)
            and errand.environment
            and not self._trusted
        ):
            reason = "only our own user and root may set an environment"
            self.tell(errands.Failed(errand.start, reason))
        else:
            super()._run(errand)

    def _environment(self, asked: Mapping[str, str]) -> Mapping[str, str]:
        return {**self._base, SESSION_VARIABLE: service.new_identity(), **asked}

    def tell(self, errand: Errand, pipes: tuple[int, ...] = ()) -> None:
        """See Desk; one who reads no answers has gone."""
        super().tell(errand, pipes)
        if self.link.backlog > BACKLOG:
            self.dismiss()

    def dismiss(self) -> None:
        """Serve this client no more."""
        if not self.lost:
            self.link.close()
            self.on_lost(self.link)

    def on_fault(self, error: Exception) -> None:
        """Nonsense is the client's own fault."""
        if not isinstance(error, errands.Nonsense):
            raise error
        self.tell(errands.Refused(str(error)))
        self.dismiss()


class Reception:
    """Serves local clients that are allowed to ask.

    Args:
        environment: of applications, where a request says nothing else.
    """

    def __init__(
        self,
        config: Config,
        loop: Loop,
        starter: Starter,
        environment: Mapping[str, str],
        listeners: list[Listener],
    ) -> None:
        self.config = config
        self.loop = loop
        self.starter = starter
        self.environment = environment
        self._listeners = {one.fd: one for one in listeners}
        self._trusted = {0, os.geteuid()}
        self._guests: set[Guest] = set()
        self._stopping = False
        self.armed = 0
        self.deadline = NEVER
        for number in service.endings():
            loop.on_signal(number, self.stop)
        self._listen()

    def serve(self) -> None:
        """Until told to stop, and everything has ended."""
        try:
            self.loop.run()
        finally:
            children.end_all()
        self.loop.close_all()

    def _listen(self) -> None:
        for fd in self._listeners:
            self.loop.watch(fd, self, READ)

    def on_event(self, fd: int, events: int) -> None:
        """A client has connected."""
        listener = socket.socket(fileno=fd)
        try:
            self._welcome(listener.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError:  # no descriptor is left, or no memory
            self.loop.watch(fd, self, 0)
            self.loop.arm(self, self.loop.now + SHORTAGE_PAUSE)
        finally:
            listener.detach()

    def on_timer(self, now: float) -> None:
        """Perhaps there is room again."""
        self._listen()

    def _welcome(self, handle: socket.socket) -> None:
        uid = peer_uid(handle)
        guest = Guest(self, handle, trusted=uid in self._trusted)
        self._guests.add(guest)
        if uid not in self._trusted and uid not in self.config.allowed_uids:
            guest.tell(errands.Refused(f"user {uid} may not ask; see --allow-uid"))
            guest.dismiss()

    def on_desk_closed(self, desk: Desk) -> None:
        """A client has gone, and what it had started has ended."""
        self._guests = {guest for guest in self._guests if guest is not desk}
        self._leave_if_empty()

    def stop(self) -> None:
        """SIGTERM: everybody has to go; a second one kills what is left."""
        if self._stopping:
            self.loop.running = False
            return
        self._stopping = True
        notify.tell("STOPPING=1")
        self.loop.disarm(self)
        for fd, listener in self._listeners.items():
            self.loop.watch(fd, self, 0)
            listener.remove()
        self._listeners = {}
        for guest in list(self._guests):
            guest.dismiss()
        self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if self._stopping and not self._guests:
            self.loop.running = False

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        raise error


def main() -> None:
    """Run the program; exit statuses are sysexits."""
    try:
        config = options.zygote(sys.argv[1:])
        fds.fill_standard()
        listeners = _open(config)
    except options.UsageError as error:
        sys.exit(service.complain(str(error), error.status))
    except listen.ListenError as error:
        sys.exit(service.complain(f"chimirror-zygote: {error}", os.EX_UNAVAILABLE))
    try:
        fds.seal()
        if config.directory is not None:
            os.chdir(config.directory)
        environment = service.allowed(os.environ, config)
        loop = Loop()
        starter = make_starter(loop, config, environment)
        Hints(loop, starter)
        reception = Reception(config, loop, starter, environment, listeners)
        for listener in listeners:
            os.write(2, f"listening on {listener.address}\n".encode())
        notify.tell("READY=1")
        reception.serve()
    except warm.CannotPreload as error:
        sys.exit(service.complain(f"chimirror-zygote: {error}", os.EX_UNAVAILABLE))
    except OSError as error:
        text, status = service.explain(error)
        sys.exit(service.complain(f"chimirror-zygote: {text}", status))
    finally:
        for listener in listeners:
            listener.remove()


def _open(config: Config) -> list[Listener]:
    """The socket that was asked for, or systemd's."""
    kind = socket.SOCK_SEQPACKET
    inherited = listen.inherited(os.environ, kind)
    if inherited and config.socket is not None:
        raise listen.ListenError(
            "sockets came from systemd and --socket was given too: use one of them"
        )
    if config.socket is not None:
        return [listen.open_unix(config.socket, config.socket_mode, kind)]
    if not inherited:
        raise options.UsageError(
            "chimirror-zygote", "no socket; write --socket /run/game/zygote"
        )
    return inherited


if __name__ == "__main__":
    main()
