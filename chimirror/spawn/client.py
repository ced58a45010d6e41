"""Starts applications through a zygote: the client side of the link in a worker.

Has the methods of Spawner, but the results come later. A worker sends messages
(chimirror-protocol(7)) to two processes. The zygote gets them over a link that the
supervisor passes on, the supervisor over the inherited link. When a zygote dies, the
supervisor has adopted its applications: signals and ends then go to the supervisor.
Starts wait in `start_queue`, signals in `signal_queue`. Knows no session object.
"""

from __future__ import annotations

import os
import signal
import socket

from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.io.packet_socket import PacketError, PacketSocket
from chimirror.spawn import messages
from chimirror.spawn.signal_queue import SignalQueue
from chimirror.spawn.start_queue import PendingStart, StartQueue, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chimirror.io.loop import EventLoop
    from chimirror.process.spawner import Pipes, SpawnClient, SpawnRequest
    from chimirror.spawn.messages import Message
    from chimirror.spawn.start_marks import StartMarks

UNKNOWN_STATUS = -int(signal.SIGKILL)  # reported for an exit status that is lost
WITH_DESCRIPTORS = (messages.StartReply, messages.ZygoteLinkMessage)
LINK_RETRY = 1.0  # seconds until a link that did not arrive is asked for again


class AbandonedStart(FatalErrorHandler):
    """Client of an application whose pipes could not be received. Kills it."""

    def __init__(self, spawner: ZygoteClient, session: str) -> None:
        self._zygote_client = spawner
        self.session = session
        self._pid = 0

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """Called when the application runs. Kills it."""
        self._pid = pid
        self._zygote_client.signal(pid, signal.SIGKILL)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """Never called: the application has started."""

    def on_signals_taken(self) -> None:
        """Never called: only one signal is sent."""

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the application has ended. Ends its session."""
        self._zygote_client.end_session(self._pid, self.session, survivors)


class ZygoteClient(FatalErrorHandler):
    """Spawner of a worker that asks a zygote.

    Args:
        loop: event loop of this worker.
        supervisor_link: socket to the supervisor. Owned by this object from now on.
        marks: names the start that a dead zygote was performing.
        worker: the number of this worker.

    Attributes:
        on_supervisor_lost: called when the supervisor is gone.
        on_faulty_packet: called with the reason when a packet cannot be used. The
            packet is dropped, and everything else goes on.
    """

    def __init__(
        self,
        loop: EventLoop,
        supervisor_link: socket.socket,
        marks: StartMarks,
        worker: int = 0,
    ) -> None:
        self._loop = loop
        self._supervisor_link = PacketSocket(loop, self, supervisor_link)
        self.on_supervisor_lost: Callable[[], None] = lambda: None
        self.on_faulty_packet: Callable[[str], None] = lambda _: None
        # the link of a dead zygote may still hold messages
        self._generations: dict[PacketSocket, int] = {}
        self._starts = StartQueue(loop, marks, worker)
        # Clients by pid, one table per link: a pair per application would cost 64
        # bytes.
        self._running: dict[PacketSocket, dict[int, SpawnClient]] = {}
        self._signals: dict[PacketSocket, SignalQueue] = {}
        self._add_link(self._supervisor_link)
        # Sessions until `end_session`, with the surviving process group, or 0.
        self._ended: dict[str, tuple[int, PacketSocket]] = {}
        self._finished: dict[PacketSocket, list[str]] = {}  # until the next tick
        self._missing = 0  # generation of a zygote whose link did not arrive
        self.armed = 0
        self.deadline = NEVER

    def _add_link(self, link: PacketSocket) -> None:
        self._running[link] = {}
        self._signals[link] = SignalQueue(link)

    # Methods of a Spawner

    def start(self, request: SpawnRequest) -> None:
        """Ask a zygote to start a program. The result comes later."""
        self._starts.add(PendingStart(request))

    def transfer(self, pid: int, client: SpawnClient) -> None:
        """Report the end of a running application to another client."""
        for running in self._running.values():
            if pid in running:
                running[pid] = client

    def signal(self, pid: int, number: int) -> bool:
        """Signal the process group of a running application.

        Returns:
            False if the same signal still waits for the zygote. `on_signals_taken` of
            the client follows.
        """
        for link, running in self._running.items():
            if pid in running and link.fd >= 0:
                return self._signals[link].add((number, pid, running[pid].session))
        return True

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """End the strays of a session. The sessions of one tick share one message."""
        if session in self._ended:
            _, link = self._ended.pop(session)
            self._finished.setdefault(link, []).append(session)
            self._loop.set_timer(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Called at the next tick. Sends the sessions that have ended.

        They wait while the link is full.
        """
        if self._missing:
            missing, self._missing = self._missing, 0
            self._send(self._supervisor_link, messages.ZygoteLinkMessage(missing))
        finished, self._finished = self._finished, {}
        for link, sessions in finished.items():
            if link.queued_packets:
                self._finished[link] = sessions
                self._loop.set_timer(self, now)
                continue
            for first in range(0, len(sessions), messages.MAX_SESSIONS):
                batch = sessions[first : first + messages.MAX_SESSIONS]
                self._send(link, messages.FinishRequest(batch))

    def report_over(self, sessions: dict[str, int]) -> bool:
        """Tell the supervisor which sessions of this worker itself are over.

        Args:
            sessions: the process group that has outlived each application, or 0.

        Returns:
            False if the link is full. Nothing is sent then.
        """
        link, entries = self._supervisor_link, list(sessions.items())
        if link.queued_packets:
            return False
        for first in range(0, len(entries), messages.MAX_SESSIONS):
            batch = dict(entries[first : first + messages.MAX_SESSIONS])
            self._send(link, messages.SessionsOver(batch))
        return True

    def _send(self, link: PacketSocket, message: Message) -> None:
        link.send(messages.encode(message))

    # Responses

    def on_packet(self, link: PacketSocket, packet: bytes, pipes: list[int]) -> None:
        """Called when the zygote or the supervisor has sent a message."""
        message: Message | None = None
        try:
            message = messages.decode(packet)
        finally:
            if not isinstance(message, WITH_DESCRIPTORS):
                _close(pipes)
        if isinstance(message, messages.StartReply):
            self._on_started(link, message, pipes)
        elif isinstance(message, messages.ExitNotice):
            for end in message.exited:
                self._on_exited(link, *end)
        elif isinstance(message, messages.SignalsTaken):
            self._on_signals_taken(link)
        elif isinstance(message, messages.StartFailed):
            self._on_start_failed(message)
        elif isinstance(message, messages.ZygoteLinkMessage):
            self._on_zygote(message.zygote, pipes)
        else:
            raise messages.MessageError(f"{message._fields[0]!r} is not an answer")

    def on_error(self, error: Exception) -> None:
        """Called on an error. A packet that cannot be used is only reported."""
        if not isinstance(error, PacketError):
            raise error
        self.on_faulty_packet(str(error))

    def _on_started(
        self, link: PacketSocket, started: messages.StartReply, pipes: list[int]
    ) -> None:
        start = self._starts.take(started.started)
        if start is None or link not in self._running:
            _close(pipes)
            raise messages.MessageError(f"no start has number {started.started}")
        request = start.request
        client = request.client
        keep_stderr, control = request.keep_stderr, request.program.control
        complete = len(pipes) == 2 + keep_stderr + control
        if not complete:  # the kernel dropped some: no descriptors were left
            _close(pipes)
            client = AbandonedStart(self, client.session)
        self._running[link][started.pid] = client
        client_pipes = (-1, -1, -1, -1)
        if complete:
            stderr, channel = (
                pipes[2] if keep_stderr else -1,
                pipes[-1] if control else -1,
            )
            client_pipes = (pipes[0], pipes[1], stderr, channel)
        call(client, client.on_started, started.pid, client_pipes)
        if not complete:
            reason = "no descriptors left for its pipes"
            call(request.client, request.client.on_start_failed, reason, True)
        self._starts.send_waiting()

    def _on_start_failed(self, message: messages.StartFailed) -> None:
        start = self._starts.take(message.failed)
        if start is None:
            raise messages.MessageError(f"no start has number {message.failed}")
        client = start.request.client
        call(client, client.on_start_failed, message.reason, message.shortage)
        self._starts.send_waiting()

    def _on_exited(
        self, link: PacketSocket, pid: int, status: int | None, survivors: bool
    ) -> None:
        client = self._running[link].pop(pid, None)
        if client is None:
            return  # ended meanwhile, or of another worker by now
        self._ended[client.session] = (pid if survivors else 0, link)
        exit_status = UNKNOWN_STATUS if status is None else status
        call(client, client.on_exit, exit_status, survivors)

    def _on_signals_taken(self, link: PacketSocket) -> None:
        self._resume(self._signals[link].on_taken())

    def _resume(self, pids: Iterable[int]) -> None:
        """Tell the clients of these applications that signals can be sent again."""
        for pid in pids:
            for running in self._running.values():
                client = running.get(pid)
                if client is not None:
                    call(client, client.on_signals_taken)

    # Start and loss of zygotes

    def _on_zygote(self, generation: int, pipes: list[int]) -> None:
        if not pipes:  # no descriptor was left for the link
            self._missing = generation
            self._loop.set_timer(self, self._loop.now + LINK_RETRY)
            return
        zygote = PacketSocket(self._loop, self, socket.socket(fileno=pipes[0]))
        self._generations[zygote] = generation
        self._add_link(zygote)
        self._starts.on_zygote(zygote)

    def on_lost(self, link: PacketSocket) -> None:
        """Called when a zygote or the supervisor is gone."""
        if link is self._supervisor_link:
            self._starts.on_supervisor_lost()
            self._resume(self._signals[link].repeated)
            self.on_supervisor_lost()
        else:
            self._on_zygote_lost(link)
        if self._supervisor_link.fd < 0 and self._starts.zygote is None:
            self._end_all()

    def _on_zygote_lost(self, link: PacketSocket) -> None:
        generation = self._generations.pop(link)
        # the supervisor ends sessions that are not adopted
        self._finished.pop(link, None)
        self._send_adopt_request(link, generation)
        self._signals[self._supervisor_link].take_over(self._signals.pop(link))
        self._starts.on_zygote_lost(link)

    def _send_adopt_request(self, lost_link: PacketSocket, generation: int) -> None:
        """Tell the supervisor which adopted applications belong to this worker."""
        claims: list[tuple[str, int, bool]] = []
        running = self._running.pop(lost_link)
        self._running[self._supervisor_link].update(running)
        for pid, client in running.items():
            claims.append((client.session, pid, True))
        for session, (group, link) in self._ended.items():
            if link is lost_link:
                self._ended[session] = (group, self._supervisor_link)
                claims.append((session, group, False))
        while True:
            batch, claims = (
                claims[: messages.MAX_SESSIONS],
                claims[messages.MAX_SESSIONS :],
            )
            adopted = {session: pid for session, pid, runs in batch if runs}
            ended = {session: pid for session, pid, runs in batch if not runs}
            more = bool(claims)
            self._send(
                self._supervisor_link,
                messages.AdoptRequest(adopted, ended, generation, more),
            )
            if not more:
                return

    def _end_all(self) -> None:
        """Report the end of all applications: no process is left that knows more."""
        for link, running in self._running.items():
            while running:
                client = running.popitem()[1]
                self._ended[client.session] = (0, link)
                call(client, client.on_exit, UNKNOWN_STATUS, False)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
