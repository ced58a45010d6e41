"""chimirror-zygote: starts applications at the request of local clients.

A client connects to a Unix socket and sends requests (chimirror-protocol(7)). For each
request it gets the pipes of a fresh application, or of a copy of a preloaded one, and
talks to the application directly. The application ends with the connection. This
program serves no session. In chimirror-server, the zygote process does the same for the
workers.
"""

from __future__ import annotations

import os
import sys

import chimirror.process.pty  # noqa: F401 (an upgrade may replace the file later)
from chimirror import program, session
from chimirror.apps.program_check import ProgramFault
from chimirror.builtin_modules import socket
from chimirror.config import parser
from chimirror.host import sd_notify
from chimirror.io import fds, listener
from chimirror.io.acceptor import Acceptor
from chimirror.io.activation import peer_uid
from chimirror.io.loop import NEVER, EventLoop
from chimirror.io.packet_socket import PacketError
from chimirror.io.pending_connections import PendingConnections
from chimirror.log.stderr import ERROR, INFO, report, report_exception, set_format
from chimirror.process import children, process_title
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.process.sigchld import SigchldReader
from chimirror.spawn import messages
from chimirror.spawn.handler import SpawnHandler
from chimirror.spawn.preload import PreloadError, make_spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.apps import Application
    from chimirror.config import Config
    from chimirror.io.listener import Listener
    from chimirror.io.packet_socket import PacketSocket
    from chimirror.process.spawner import Spawner
    from chimirror.spawn.handler import LinkHandler, ManagedProcess
    from chimirror.spawn.messages import Message

BACKLOG = 64  # unread answers at which a client is disconnected
# Connections without an application: of all clients, and of one user that is not
# trusted. Beyond them, the oldest one is disconnected.
MAX_IDLE, MAX_IDLE_PER_USER = 256, 64
MAX_UNFINISHED = 1000  # sessions of a client that have ended without its request
EXPECTED = (
    *(parser.UsageError, listener.ListenError, PreloadError, ProgramFault),
    OSError,
)
STOP_TIMEOUT = 1.0  # seconds for a refused client to read the reason
STOP_MARGIN = 5.0  # seconds for applications to end after the kill grace


class ClientSpawnHandler(SpawnHandler):
    """Handler of the requests of one local client. Its applications end with it.

    Args:
        trusted: The client may set environment variables. A variable such as LD_PRELOAD
            makes an application run any code. So only root and this process's own user
            are trusted: they can run any code as this user anyway.

    Attributes:
        refused: True once the client was refused. It is disconnected soon.
        uid: User of the client.
    """

    __slots__ = ("_base", "_server", "_trusted", "refused", "uid")

    def __init__(
        self, server: ZygoteServer, handle: socket.socket, uid: int, *, trusted: bool
    ) -> None:
        loop, spawner, app = server.loop, server.spawner, server.app
        grace = server.config.kill_grace
        super().__init__(loop, server, handle, spawner, grace, app.program)
        self._base = app.environment
        self._server = server
        self._trusted = trusted
        self.uid = uid
        self.refused = False

    def on_packet(self, link: PacketSocket, packet: bytes, pipes: list[int]) -> None:
        """Called for each packet; discards those of a client that was refused."""
        if not self.refused:
            super().on_packet(link, packet, pipes)
            return
        for fd in pipes:
            os.close(fd)

    def _dispatch(self, message: Message) -> None:
        if (
            isinstance(message, messages.StartRequest)
            and message.environment
            and not self._trusted
        ):
            reason = "only our own user and root may set an environment"
            self.send(messages.StartFailed(message.start, reason))
        else:
            super()._dispatch(message)

    def add_process(self, process: ManagedProcess) -> None:
        """Called when an application has been started for this client."""
        super().add_process(process)
        self._server.on_client_busy(self)

    def _environment_for(self, asked: Mapping[str, str]) -> Mapping[str, str]:
        return {**self._base, SESSION_VARIABLE: session.new_session_id(), **asked}

    def send(self, message: Message, pipes: tuple[int, ...] = ()) -> None:
        """Send a message. Disconnect a client that leaves many answers unread."""
        super().send(message, pipes)
        if self.link.queued_packets > BACKLOG:
            self.disconnect()

    def on_process_exit(
        self, process: ManagedProcess, status: int | None, survivors: bool
    ) -> None:
        """Called when an application has ended. Finishes the oldest of many sessions.

        A client need not send FinishRequest.
        """
        super().on_process_exit(process, status, survivors)
        while len(self._ended) > MAX_UNFINISHED:
            self._finish(next(iter(self._ended)))
        if not (self._running or self.lost):
            self._server.on_client_idle(self)

    @property
    def applications(self) -> int:
        """Number of running applications."""
        return self._running

    def disconnect(self) -> None:
        """Close the connection and end the applications of this client."""
        if not self.lost:
            self.link.close()
            self.on_lost(self.link)

    def reject(self, text: str) -> None:
        """Send the reason, and disconnect after STOP_TIMEOUT.

        Closing at once, with a request unread, would reset the connection before the
        client reads the reason.
        """
        self.refused = True
        self.send(messages.RequestRefused(text))
        self._loop.set_timer(self, self._loop.now + STOP_TIMEOUT)

    def on_timer(self, now: float) -> None:
        """Called at a deadline; disconnects a refused client."""
        if self.refused and not self.lost:
            self.disconnect()
        else:
            super().on_timer(now)

    def on_faulty_packet(self, error: PacketError) -> None:
        """Called with a packet that cannot be used; refuses its client."""
        self.reject(str(error))

    def on_error(self, error: Exception) -> None:
        """Called on an error; disconnects this client only."""
        if isinstance(error, PacketError):
            self.on_faulty_packet(error)
            return
        self._owner.on_error(error)
        self.disconnect()


class ZygoteServer:
    """The service for local clients.

    Args:
        app: The one application, and its environment where a request names no other.
    """

    def __init__(
        self,
        config: Config,
        loop: EventLoop,
        spawner: Spawner,
        app: Application,
        listeners: list[Listener],
    ) -> None:
        self.config = config
        self.loop = loop
        self.spawner = spawner
        self.app = app
        self._trusted = {0, os.geteuid()}
        self._clients: set[ClientSpawnHandler] = set()
        self._idle = PendingConnections(
            MAX_IDLE, MAX_IDLE_PER_USER, ClientSpawnHandler.disconnect
        )
        self._stopping = False
        self.armed = 0
        self.deadline = NEVER
        for number in program.termination_signals():
            loop.add_signal_handler(number, self.stop)
        self._listeners = listeners
        self._acceptor = Acceptor(loop, [listener.fd for listener in listeners], self)
        self._acceptor.enable()

    def serve(self) -> None:
        """Run until the service was stopped and all applications have ended."""
        try:
            self.loop.run()
        finally:
            children.end_all()
        report("stopped")
        self.loop.close_all()

    def on_connection(self, fd: int, address: object) -> None:
        """Called when a client has connected.

        A client without permission waits for the reason.
        """
        handle = socket.socket(-1, -1, -1, fd)
        uid = peer_uid(handle)
        trusted = uid in self._trusted
        client = ClientSpawnHandler(self, handle, uid, trusted=trusted)
        self._clients.add(client)
        self.on_client_idle(client)
        if not trusted and uid not in self.config.allowed_uids:
            client.reject(f"user {uid} may not ask; see --allow-uid")

    def on_client_idle(self, client: ClientSpawnHandler) -> None:
        """Called when a client has no application: it may give way to others."""
        self._idle.add(client, None if client.uid in self._trusted else client.uid)

    def on_client_busy(self, client: ClientSpawnHandler) -> None:
        """Called when a client has an application."""
        self._idle.discard(client)

    def on_link_closed(self, client: LinkHandler) -> None:
        """Called when a client has disconnected and its applications have ended."""
        self._idle.discard(client)
        self._clients = {other for other in self._clients if other is not client}
        self._leave_if_empty()

    def on_faulty_packet(self, reason: str) -> None:
        """Never called: its client is refused."""

    def on_error(self, error: Exception) -> None:
        """Called on an internal error; prints it, and the service goes on."""
        report_exception(error)

    def stop(self) -> None:
        """Called on SIGTERM; disconnects all clients. A second one ends the loop."""
        count = sum(client.applications for client in self._clients)
        grace = None if self._stopping else self.config.kill_grace
        text = program.describe_stop("stopping", count, "application", grace)
        report(text)
        if self._stopping:
            self.loop.running = False
            return
        self._stopping = True
        sd_notify.notify("STOPPING=1")
        self._acceptor.close()
        for listening in self._listeners:
            listening.remove()
        for client in list(self._clients):
            client.disconnect()
        self._leave_if_empty()
        self.loop.set_timer(self, self.loop.now + self.config.kill_grace + STOP_MARGIN)

    def on_timer(self, now: float) -> None:
        """Called when applications have outlived the kill grace. Ends the loop."""
        report("applications do not end; killing them", ERROR)
        self.loop.running = False

    def _leave_if_empty(self) -> None:
        if self._stopping and not self._clients:
            self.loop.running = False

    def on_accept_failed(self, error: Exception, shortage: bool) -> None:
        """Called when accepting pauses; prints an internal error."""
        if not shortage:
            self.on_error(error)


def main() -> None:
    """Run the program. Exit statuses are those of sysexits(3)."""
    children.set_dumpable(False)  # applications may have the same user
    listeners: list[Listener] = []
    try:
        config = parser.parse_zygote(sys.argv[1:])
        process_title.show_as("chimirror-zygote", sys.argv[1:])
        set_format(config.log_format)
        fds.open_missing_stdio()
        listeners = _open(config)
        fds.set_cloexec_all()
        if config.directory is not None:
            os.chdir(config.directory)
        program.check_programs(config, os.environ)
        app = program.open_catalog(config, os.environ).default
        loop = EventLoop()
        spawner = make_spawner(loop, config.preload, app.environment)
        SigchldReader(loop, spawner)
        server = ZygoteServer(config, loop, spawner, app, listeners)
        for opened in listeners:
            report(f"listening on {opened.address}", INFO)
        sd_notify.notify("READY=1")
        server.serve()
    except EXPECTED as error:
        program.fail_with("chimirror-zygote", error, os.EX_UNAVAILABLE)
    except Exception as error:  # noqa: BLE001 (told, and the process ends)
        report_exception(error)
        sys.exit(os.EX_SOFTWARE)
    finally:
        for opened in listeners:
            opened.remove()


def _open(config: Config) -> list[Listener]:
    """Open the socket of --socket, or take the one that systemd passed."""
    kind = socket.SOCK_SEQPACKET
    inherited = listener.systemd_listeners(os.environ, kind)
    if inherited and config.socket is not None:
        raise listener.ListenError(
            "sockets came from systemd and --socket was given too: use one of them"
        )
    if config.socket is not None:
        return [listener.open_unix(config.socket, config.socket_mode, kind)]
    if not inherited:
        raise parser.UsageError(
            "chimirror-zygote", "no socket; write --socket /run/game/zygote"
        )
    return inherited


if __name__ == "__main__":
    main()
