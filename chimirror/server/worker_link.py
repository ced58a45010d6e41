"""The zygote manager's end of the link to one worker.

Receives the claims of the worker to applications of a dead zygote, and its requests
about claimed applications (chimirror-protocol(7)). Of the applications that the worker
has started itself, it receives the sessions that are over. Does not know which zygotes
are dead.
"""

from __future__ import annotations

from chimirror.io.packet_socket import PacketError
from chimirror.spawn import messages
from chimirror.spawn.handler import LinkHandler, ManagedProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    from chimirror.io.loop import EventLoop
    from chimirror.io.packet_socket import PacketSocket
    from chimirror.server.orphans import OrphanWatcher
    from chimirror.spawn.handler import LinkOwner
    from chimirror.spawn.messages import Message

    class ClaimHandler(LinkOwner, Protocol):
        """Callbacks of a WorkerLink."""

        def on_claim(
            self, worker_link: WorkerLink, message: messages.AdoptRequest
        ) -> None: ...

        def is_deferred(self, worker_link: WorkerLink) -> bool: ...

        def on_link_missing(self, worker_link: WorkerLink) -> None: ...

        def on_link_error(self, error: Exception) -> None: ...


class WorkerLink(LinkHandler):
    """Handles the claims of one worker, and its requests about claimed applications.

    Args:
        loop: event loop of the supervisor.
        handler: called when a claim has been received, and when the link is closed.
        handle: the socket.
        orphans: watches the children of the supervisor.
        kill_grace: seconds from SIGTERM to SIGKILL once the worker is dead.
        number: number of the worker.

    Attributes:
        number: number of the worker.
        claimed_generation: the latest generation of a zygote whose applications the
            worker has claimed.
    """

    __slots__ = (
        "_claim_handler",
        "_held_signals",
        "_orphans",
        "claimed_generation",
        "number",
    )

    def __init__(
        self,
        loop: EventLoop,
        handler: ClaimHandler,
        handle: socket.socket,
        orphans: OrphanWatcher,
        kill_grace: float,
        number: int,
    ) -> None:
        self._claim_handler = handler
        self._orphans = orphans
        super().__init__(loop, handler, handle, orphans, kill_grace)
        self.claimed_generation = 0
        self.number = number
        # of applications whose claim is deferred
        self._held_signals: messages.SignalBatch | None = None

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, messages.AdoptRequest):
            self._claim_handler.on_claim(self, message)
        elif isinstance(message, messages.ZygoteLinkMessage):
            self._claim_handler.on_link_missing(self)
        elif isinstance(message, messages.SessionsOver):
            for session, group in message.over.items():
                self._orphans.end_session(group, session, survivors=group > 0)
        else:
            super()._dispatch(message)

    def serve_signals(self, message: messages.SignalBatch) -> None:
        """Send the signals of a batch, unless the claims before it are deferred.

        The worker sends no second batch before this one is answered.
        """
        if self._claim_handler.is_deferred(self):
            self._held_signals = message
        else:
            super().serve_signals(message)

    def on_claims_served(self) -> None:
        """Called when the deferred claims have been served."""
        held, self._held_signals = self._held_signals, None
        if held is not None:
            self.serve_signals(held)

    def on_lost(self, link: PacketSocket) -> None:
        """Called when the worker is gone, or reads no packets."""
        if link.has_overflowed:
            self._claim_handler.on_link_error(BufferError("it reads no packets"))
        super().on_lost(link)

    def on_error(self, error: Exception) -> None:
        """Called on an error. An internal one ends this link only.

        The worker then drains, and is replaced.
        """
        if isinstance(error, PacketError):
            self.on_faulty_packet(error)
            return
        self._claim_handler.on_link_error(error)
        if not self.lost:
            self.link.close()
            self.on_lost(self.link)

    def adopt(self, message: messages.AdoptRequest) -> None:
        """Watch the applications that the worker claims."""
        for session, group in message.ended.items():
            self._ended[session] = (group, group > 0)
        processes = [
            ManagedProcess(self, session, 0, pid)
            for session, pid in message.adopt.items()
        ]
        for process in processes:
            self.add_process(process)
        self._orphans.claim(processes)
