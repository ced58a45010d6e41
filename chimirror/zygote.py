"""chimirror-zygote: starts applications for local clients, on request.

It serves no session: whoever asks over a Unix socket (errands, chimirror-protocol(7))
gets the pipes of a fresh application, or of a copy of one that was loaded before, and
talks to it directly; the connection is the application's lifetime. In a server the same
is done by the nursery.
"""

from __future__ import annotations

import os
import socket
import sys

from chimirror import options, service
from chimirror.nursery import make_starter
from chimirror.system import children, errands, fds, listen, notify, warm
from chimirror.system.acceptor import Acceptor
from chimirror.system.activation import peer_uid
from chimirror.system.desk import StartingDesk
from chimirror.system.loop import Loop
from chimirror.system.signalfd import Hints
from chimirror.system.strays import SESSION_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.apps import App
    from chimirror.options import Config
    from chimirror.system.child import Starter
    from chimirror.system.desk import Desk
    from chimirror.system.errands import Errand
    from chimirror.system.link import Link
    from chimirror.system.listen import Listener

BACKLOG = 64  # answers that a guest may leave unread
LAST_WORDS = 1.0  # seconds to read why one is refused


class Guest(StartingDesk):
    """The desk for one local client; when it goes, its applications end.

    A variable of the environment can make an application do anything (LD_PRELOAD), so
    only those may set any who could do anything as this user anyway.
    """

    __slots__ = ("_base", "_refused", "_trusted")

    def __init__(self, lodge: Lodge, handle: socket.socket, *, trusted: bool) -> None:
        loop, starter, served = lodge.loop, lodge.starter, lodge.served
        grace = lodge.config.kill_grace
        super().__init__(loop, lodge, handle, starter, grace, served.program)
        self._base = served.environment
        self._trusted = trusted
        self._refused = False

    def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None:
        """See Desk; one that is refused is heard out, and not listened to."""
        if not self._refused:
            super().on_packet(link, packet, pipes)
            return
        for fd in pipes:
            os.close(fd)

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

    def refuse(self, text: str) -> None:
        """Say why, and give it time to read that.

        Closed with an errand unread, its end would break before the answer is read.
        """
        self._refused = True
        self.tell(errands.Refused(text))
        self._loop.arm(self, self._loop.now + LAST_WORDS)

    def on_timer(self, now: float) -> None:
        """See Desk; one that is refused has had its time."""
        if self._refused and not self.lost:
            self.dismiss()
        else:
            super().on_timer(now)

    def on_fault(self, error: Exception) -> None:
        """Nonsense is the client's own fault."""
        if not isinstance(error, errands.Nonsense):
            raise error
        self.refuse(str(error))


class Lodge:
    """Serves local clients that are allowed to ask.

    Args:
        served: the one application, and its environment where a request says nothing
            else.
    """

    def __init__(
        self,
        config: Config,
        loop: Loop,
        starter: Starter,
        served: App,
        listeners: list[Listener],
    ) -> None:
        self.config = config
        self.loop = loop
        self.starter = starter
        self.served = served
        self._trusted = {0, os.geteuid()}
        self._guests: set[Guest] = set()
        self._stopping = False
        for number in service.endings():
            loop.on_signal(number, self.stop)
        self._acceptors = [Acceptor(loop, listener, self) for listener in listeners]

    def serve(self) -> None:
        """Until told to stop, and everything has ended."""
        try:
            self.loop.run()
        finally:
            children.end_all()
        self.loop.close_all()

    def on_client(self, handle: socket.socket) -> None:
        """A client has connected."""
        uid = peer_uid(handle)
        guest = Guest(self, handle, trusted=uid in self._trusted)
        self._guests.add(guest)
        if uid not in self._trusted and uid not in self.config.allowed_uids:
            guest.refuse(f"user {uid} may not ask; see --allow-uid")

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
        for acceptor in self._acceptors:
            acceptor.close()
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
        served = service.applications(config, os.environ).unnamed
        loop = Loop()
        starter = make_starter(loop, config, served.environment)
        Hints(loop, starter)
        lodge = Lodge(config, loop, starter, served, listeners)
        for listener in listeners:
            os.write(2, f"listening on {listener.address}\n".encode())
        notify.tell("READY=1")
        lodge.serve()
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
