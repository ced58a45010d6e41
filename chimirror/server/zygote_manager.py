"""Forks and replaces the zygote, and returns orphaned applications to their workers.

Each worker has a link to the zygote and one to this manager. When a zygote dies, the
supervisor adopts its applications. Each worker then claims its own applications over
its link to the manager (chimirror-protocol(7)). The manager reports their ends to the
worker and signals them on its behalf. Applications that no worker claims are killed,
and so are those that a dead worker leaves. Knows no client and no listener.
"""

from __future__ import annotations

import os
import signal

from chimirror.io import packet_socket
from chimirror.io.loop import NEVER
from chimirror.io.packet_socket import PacketError
from chimirror.process import children
from chimirror.server.worker_link import WorkerLink
from chimirror.server.zygote import SIGNALS
from chimirror.spawn import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.io.packet_socket import PacketSocket
    from chimirror.server.orphans import OrphanWatcher
    from chimirror.spawn.handler import LinkHandler

    class ZygoteManagerHandler(Protocol):
        """Callbacks of a ZygoteManager."""

        def on_zygote_ended(self, pid: int, status: int) -> None: ...

        def on_zygote_start_failed(self, error: OSError) -> None: ...

        def on_zygote_failed(self, status: int) -> None: ...

        def on_zygote_killed(self, pid: int, reason: str) -> None: ...

        def on_faulty_packet(self, reason: str) -> None: ...

        def on_link_error(self, error: Exception) -> None: ...

        def is_in_use(self) -> bool: ...

        def on_error(self, error: Exception) -> None: ...


MIN_LIFETIME = 1.0  # seconds: a zygote that dies sooner is replaced after a pause
RESTART_DELAY = 1.0  # seconds, doubled with each further early death
MAX_RESTART_DELAY = 30.0  # seconds
# Zygotes that die early, in a row, after which a server gives up that has no sessions
# and never had a zygote which lived longer.
MAX_EARLY_DEATHS = 5
STOP_TIMEOUT = 5.0  # seconds for the zygote to end


class ZygoteManager:
    """Owns the zygote process and the links of the workers, within the supervisor.

    Args:
        loop: event loop of the supervisor.
        orphans: watches the children of the supervisor.
        handler: called when a zygote has ended, cannot be forked or cannot run.
        run_zygote: called in the forked child with its end of the control socket.
        kill_grace: seconds from SIGTERM to SIGKILL for applications of a dead worker.
        other_sessions: returns the sessions whose applications no zygote has started.

    Attributes:
        ready: True once any zygote has been ready.
        pid: process id of the zygote, 0 if there is none.
    """

    def __init__(
        self,
        loop: EventLoop,
        orphans: OrphanWatcher,
        handler: ZygoteManagerHandler,
        run_zygote: Callable[[socket.socket], NoReturn],
        kill_grace: float,
        other_sessions: Callable[[], set[bytes]] = set,
    ) -> None:
        self._loop = loop
        self.orphans = orphans
        self._other_sessions = other_sessions
        self._handler = handler
        self._run_zygote = run_zygote
        self._kill_grace = kill_grace
        self._control: PacketSocket | None = None
        # of workers that live, or that have left live applications
        self._worker_links: list[WorkerLink] = []
        self._deferred_claims: list[tuple[WorkerLink, messages.AdoptRequest]] = []
        self._generation = 0
        # the latest generation of a zygote that is known to be dead
        self._dead_generation = 0
        self._started_at = 0.0
        self._early_deaths = 0
        self._is_proven = False  # a zygote has lived for MIN_LIFETIME
        self._is_ready = False  # the present zygote
        self._stopping = False
        self.ready = False
        self.pid = 0
        self.armed = 0
        self.deadline = NEVER

    # The zygote

    def start(self) -> None:
        """Fork a zygote. Once it is ready, each worker gets a link to it."""
        own_end, other_end = packet_socket.pair()
        # Until the child installs its own handlers, a signal to it would wake the event
        # loop of the supervisor, which shares the wake-up pipe.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                own_end.detach()  # the child closes all descriptors but `other_end`
                self._run_zygote(other_end)
        except OSError:
            own_end.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            other_end.close()
        self.pid = pid
        self._generation += 1
        self._started_at = self._loop.clock()
        self._control = packet_socket.PacketSocket(self._loop, self, own_end)
        self.orphans.add_child(pid, self)

    def _send_link(self, worker_link: WorkerLink) -> None:
        """Send one end of a new link to the zygote and the other end to the worker."""
        if worker_link.lost or self._control is None or not self._is_ready:
            return
        own_end, other_end = packet_socket.pair()
        number = self._generation
        message = messages.WorkerLinkMessage(number, worker_link.number)
        self._control.send(messages.encode(message), (own_end.detach(),))
        worker_link.send(messages.ZygoteLinkMessage(number), (other_end.detach(),))

    def on_packet(self, link: PacketSocket, packet: bytes, pipes: list[int]) -> None:
        """Called when the zygote is ready, or reports which sessions have ended."""
        message = messages.decode(packet)
        if isinstance(message, messages.SessionsOver):
            for session, group in message.over.items():
                self.orphans.end_session(group, session, survivors=group > 0)
        elif isinstance(message, messages.Ready):
            self.ready = self._is_ready = True
            for worker_link in self._worker_links:
                self._send_link(worker_link)
        else:
            raise messages.MessageError(f"{message._fields[0]!r} is not accepted here")

    def on_lost(self, link: PacketSocket) -> None:
        """Called when the zygote has closed its socket, or takes no packets.

        `on_exit` follows.
        """
        if link.has_overflowed:
            self.kill("it reads no packets")

    def kill(self, reason: str) -> None:
        """Kill the zygote. The next one replaces it."""
        if self.pid and children.kill(self.pid):
            self._handler.on_zygote_killed(self.pid, reason)

    def on_exit(self, status: int, survivors: bool) -> None:
        """Called when the zygote has ended. Adopts its children and replaces it."""
        pid, self.pid = self.pid, 0
        if self._control is not None:
            if not self.ready:  # it may have been ready for a moment
                self._control.receive(1)
            self._control.close()
            self._control = None
        self._dead_generation = self._generation
        self.orphans.adopt_children()
        deferred, self._deferred_claims = self._deferred_claims, []
        for worker_link, message in deferred:
            self._adopt(worker_link, message)
        for worker_link in self._worker_links:
            worker_link.on_claims_served()
        self._purge_if_all_claimed()
        if not self._stopping:
            self._handler.on_zygote_ended(pid, status)
            self._replace(status)

    def _replace(self, status: int) -> None:
        """Fork the next zygote: at once, or after a pause that grows.

        Sessions live on without a zygote, so the server gives up only if none can run
        from the start.
        """
        is_ready, self._is_ready = self._is_ready, False
        if not self.ready:
            self._handler.on_zygote_failed(max(status, 0))
        elif is_ready and self._loop.clock() - self._started_at >= MIN_LIFETIME:
            self._early_deaths = 0
            self._is_proven = True
            self._start_again()
        elif (
            self._early_deaths >= MAX_EARLY_DEATHS
            and not self._is_proven
            and not self._handler.is_in_use()
        ):
            self._handler.on_zygote_failed(os.EX_SOFTWARE)
        else:
            delay = RESTART_DELAY * 2 ** min(self._early_deaths, MAX_EARLY_DEATHS)
            self._early_deaths += 1
            self._loop.set_timer(self, self._loop.now + min(delay, MAX_RESTART_DELAY))

    def _start_again(self) -> None:
        """Call `start`, and try again later if fork(2) fails."""
        try:
            self.start()
        except OSError as error:
            self._handler.on_zygote_start_failed(error)
            self._loop.set_timer(self, self._loop.now + RESTART_DELAY)

    def stop(self) -> None:
        """End the zygote and its applications. Called when all workers have ended."""
        self._stopping = True
        if self._control is not None:
            self._control.send(messages.encode(messages.StopRequest()))
            self._loop.set_timer(self, self._loop.now + STOP_TIMEOUT)

    def on_timer(self, now: float) -> None:
        """Called when the pause before a restart, or the time to end, is over."""
        if not (self._stopping or self.pid):
            self._start_again()
        elif self._stopping or self._deferred_claims:
            self.kill(f"it has not ended within {STOP_TIMEOUT:.0f} s")

    # Workers

    def create_worker_link(self, number: int) -> tuple[socket.socket, WorkerLink]:
        """Create the link for worker `number`, which is about to be forked.

        Returns:
            The worker's end, and the manager's end.
        """
        own_end, other_end = packet_socket.pair()
        worker_link = WorkerLink(
            self._loop, self, own_end, self.orphans, self._kill_grace, number
        )
        # The worker cannot have applications of earlier zygotes.
        worker_link.claimed_generation = self._dead_generation
        self._worker_links.append(worker_link)
        return other_end, worker_link

    def on_worker_started(self, worker_link: WorkerLink) -> None:
        """Called when the worker has been forked. Sends it a link to the zygote."""
        self._send_link(worker_link)

    def release_after_fork(self) -> None:
        """Close all links in a forked worker, without effect on the supervisor."""
        for worker_link in self._worker_links:
            worker_link.link.release_after_fork()
        if self._control is not None:
            self._control.release_after_fork()

    def on_link_closed(self, handler: LinkHandler) -> None:
        """Called when a worker has gone and all its applications have ended."""
        self._worker_links = [
            worker_link
            for worker_link in self._worker_links
            if worker_link is not handler
        ]
        self._purge_if_all_claimed()

    # Claims

    def on_claim(self, worker_link: WorkerLink, message: messages.AdoptRequest) -> None:
        """Called when a worker claims the applications of a dead zygote.

        The worker may have noticed the death before the supervisor has. Such a claim is
        deferred. If the zygote does not die, the link to it is broken: it is killed.
        """
        if message.zygote > self._dead_generation:
            self._deferred_claims.append((worker_link, message))
            self._loop.set_timer(self, self._loop.now + STOP_TIMEOUT)
        else:
            self._adopt(worker_link, message)
            self._purge_if_all_claimed()

    def is_deferred(self, worker_link: WorkerLink) -> bool:
        """Return True if the worker has made claims that are deferred."""
        return any(other is worker_link for other, _ in self._deferred_claims)

    def on_link_missing(self, worker_link: WorkerLink) -> None:
        """Called when the link to the zygote did not arrive. Sends another one."""
        self._send_link(worker_link)

    def _adopt(self, worker_link: WorkerLink, message: messages.AdoptRequest) -> None:
        worker_link.adopt(message)
        if not message.more:
            worker_link.claimed_generation = max(
                worker_link.claimed_generation, message.zygote
            )

    def _purge_if_all_claimed(self) -> None:
        """Kill unclaimed orphans once every worker has made its claim."""
        if all(
            worker_link.lost or worker_link.claimed_generation >= self._dead_generation
            for worker_link in self._worker_links
        ):
            self.orphans.purge(self._sessions)

    def _sessions(self) -> set[bytes]:
        return self._other_sessions().union(
            *(worker_link.sessions for worker_link in self._worker_links)
        )

    def on_faulty_packet(self, reason: str) -> None:
        """Called with the reason when a packet cannot be used."""
        self._handler.on_faulty_packet(reason)

    def on_link_error(self, error: Exception) -> None:
        """Called on an error that ends the link to one worker."""
        self._handler.on_link_error(error)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error, or on a faulty packet, which is dropped."""
        if isinstance(error, PacketError):
            self._handler.on_faulty_packet(str(error))
        else:
            self._handler.on_error(error)
