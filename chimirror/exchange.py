"""What passes between the two halves of a session: messages in, output out, the books.

Law: nothing is lost, nothing changes its order, and neither half runs away from the
other: what one does not take, the other is not asked for. What a message means is
`wire.framing`'s matter; how a session begins and ends, its subclass's.
"""

from __future__ import annotations

from chimirror.connection import OPEN
from chimirror.system.outbox import HIGH
from chimirror.wire.contract import EOF, Framing, Mistake, Resize, Signal, Violation
from chimirror.wire.frames import Close, Failure, Ping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.connection import Connection
    from chimirror.murmur import Murmur
    from chimirror.service import Service
    from chimirror.system.application import Application
    from chimirror.wire.contract import Bytes
    from chimirror.wire.frames import Event

UNDECIDED = Framing()


class Exchange:
    """Carries what comes from either half to the other; a subclass gives it both.

    Args:
        service: what all sessions of this process share.
        identity: the session id.
    """

    __slots__ = (
        "_active",
        "_logged",
        "_murmur",
        "_service",
        "application",
        "bytes_in",
        "bytes_out",
        "connection",
        "framing",
        "identity",
        "messages_in",
        "messages_out",
        "reason",
    )
    application: Application
    connection: Connection

    def __init__(self, service: Service, identity: str) -> None:
        self._service = service
        self.identity = identity
        self._murmur: Murmur | None = None  # there from the first such output on
        self._logged: tuple[str, ...] = ()  # streams
        self._active = 0.0
        self.bytes_in = self.bytes_out = 0
        self.messages_in = self.messages_out = 0
        self.reason = ""
        self.framing = UNDECIDED

    # For the subclass to define

    def close(self, code: int, reason: str) -> None:
        """End the session from our side."""
        raise NotImplementedError

    def on_close(self, event: Close) -> None:
        """The client closes."""
        raise NotImplementedError

    def end_application(self) -> None:
        """Begin its stop ladder."""
        raise NotImplementedError

    # Client to application

    def on_events(self, events: list[Event], size: int) -> None:
        """Messages and control frames, in the order in which they came."""
        self.bytes_in += size
        block = self.framing.gather(events) if events else b""
        if block is None:
            self._on_each(events)
            return
        self._active = self._service.loop.now
        if block:  # else it was a piece of a message
            self.messages_in += len(events)
            self.application.write([block])
            if self.application.inbox is not None or self.connection.outbox is not None:
                self._hold_back()

    def _on_each(self, events: list[Event]) -> None:
        lines: list[bytes] = []
        for event in events:
            if type(event) is bytes:
                self.messages_in += 1
                self._active = self._service.loop.now
                self._on_message(event, lines)
            elif isinstance(event, Ping):
                self.connection.send_pong(event.payload)
            elif isinstance(event, Close):
                self._deliver(lines)
                self.on_close(event)
            elif isinstance(event, Failure):
                self._deliver(lines)
                self.close(event.code, event.reason)
        self._deliver(lines)

    def _on_message(self, message: bytes, lines: list[bytes]) -> None:
        if self.connection.state != OPEN:
            return
        meaning = self.framing.decode(message)
        if type(meaning) is bytes:
            lines.append(meaning)
        elif meaning is EOF:
            self._deliver(lines)
            self.application.end_input()
        elif isinstance(meaning, Signal):
            self._deliver(lines)
            self.application.signal(meaning.name)
        elif isinstance(meaning, Resize):
            self._deliver(lines)
            self.application.resize(meaning.columns, meaning.rows)
        elif isinstance(meaning, Mistake):
            self.connection.send([self._count(self.framing.error(meaning.text))])
        else:
            assert isinstance(meaning, Violation)
            self._deliver(lines)
            self.close(meaning.code, meaning.reason)

    def _deliver(self, lines: list[bytes]) -> None:
        """Hand over what has come."""
        if lines:
            self.application.write(lines)
            lines.clear()
        self._hold_back()

    def _hold_back(self) -> None:
        """A client that outruns us, or does not read us, is read no further."""
        if self.application.backlog > HIGH or self.connection.backlog > 2 * HIGH:
            self.connection.pause()

    def on_input_room(self) -> None:
        """The application has read on: so may we."""
        self._active = self._service.loop.now
        if self.connection.state == OPEN and self.connection.backlog <= 2 * HIGH:
            self.connection.resume()

    # Application to client

    def on_output(self, stream: str, chunk: bytes) -> None:
        """The application has written."""
        if stream in self._logged:
            self._log(stream, chunk)
            return
        self._active = self._service.loop.now
        try:
            buffers, messages = self.framing.encode(stream, chunk)
        except Violation as violation:
            self._send(*violation.sent)
            self.reason = violation.reason
            self.connection.close(violation.code, violation.reason, discard=False)
            self.end_application()
            return
        self._send(buffers, messages)
        if self.connection.outbox is not None and self.connection.backlog > HIGH:
            self.application.pause_output()

    def _log(self, stream: str, chunk: bytes) -> None:
        if self._murmur is None:
            from chimirror.murmur import Murmur

            self._murmur = Murmur(self._service, self.identity)
        self._murmur.add(stream, chunk)

    def _send(self, buffers: Sequence[Bytes], messages: int) -> None:
        if buffers:
            self.messages_out += messages
            self.bytes_out += (
                len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
            )
            self.connection.send(buffers)

    def _count(self, frame: bytes) -> bytes:
        """Enter one message of ours, if it is one, in the books."""
        if frame:
            self.messages_out += 1
            self.bytes_out += len(frame)
        return frame

    def on_output_room(self) -> None:
        """The client has read on: so may we."""
        self._active = self._service.loop.now
        self.application.resume_output()
        if self.application.backlog <= HIGH:
            self.connection.resume()
