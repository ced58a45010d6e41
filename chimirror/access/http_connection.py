"""One connection to an authorizer over HTTP: a question, a response, the next question.

h11 speaks the protocol (RFC 9112). Knows no pool: the owner decides when a connection
is used again.
"""

from __future__ import annotations

import h11

from chimirror.io.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.access import Fields
    from chimirror.io.loop import EventLoop

    class ConnectionOwner(Protocol):
        """Callbacks of an HttpConnection."""

        def on_response(
            self, connection: HttpConnection, status: int, fields: Fields
        ) -> None:
            """Called with a response, whose body has been read and discarded.

            The connection can be used again if `is_reusable`.
            """

        def on_connection_fault(self, connection: HttpConnection, reason: str) -> None:
            """Called when there will be no response, or when an idle one is closed."""

        def on_error(self, error: Exception) -> None: ...


MAX_HEAD = 16 * 1024  # bytes of the head of a response
MAX_BODY = 64 * 1024  # bytes that are read: after more, the connection is closed
READ_SIZE = 16 * 1024


class HttpConnection(Stream):
    """A connection for one question at a time.

    Args:
        owner: called with each response.
        loop: event loop of this process.
        fd: a connected socket, non-blocking. Owned by this connection.

    Attributes:
        has_answered: whether a response has arrived before.
        has_received: whether a byte has arrived since the last request.
        is_reusable: whether another question can be asked over it.
        owner: as given. The next question has another one.
    """

    __slots__ = (
        "_body",
        "_http",
        "_response",
        "has_answered",
        "has_received",
        "is_reusable",
        "owner",
    )
    read_size = READ_SIZE

    def __init__(self, owner: ConnectionOwner, loop: EventLoop, fd: int) -> None:
        super().__init__(loop, fd, fd)
        self.owner = owner
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._response: h11.Response | None = None
        self._body = 0  # bytes of it so far
        self.has_answered = self.has_received = False
        self.is_reusable = True

    def send_request(self, uri: str, fields: Fields) -> None:
        """Send a GET request.

        Args:
            uri: path and query.
            fields: its header fields.
        """
        self.has_received = self.is_reusable = False
        self._response, self._body = None, 0
        request = h11.Request(method="GET", target=uri, headers=list(fields))
        data = self._http.send(request) or b""
        self._http.send(h11.EndOfMessage())
        self.write([data])

    def on_data(self, data: bytes) -> None:
        """Called when a part of the response has arrived."""
        if self.is_reusable:
            self._fault("it sent a response without a request")
            return
        self.has_received = True
        self._http.receive_data(data)
        self._read_events()

    def on_eof(self) -> None:
        """Called when the authorizer has closed the connection."""
        if self.is_reusable:
            self._fault("it has closed the connection")
            return
        self._http.receive_data(b"")
        self._read_events()

    def _read_events(self) -> None:
        try:
            while self._read_event():
                pass
        except h11.RemoteProtocolError as error:
            if self.has_received:
                # h11 quotes the line, which may be that of a request sent back.
                reason = str(error).partition(":")[0]
                self._fault(f"its response is not valid HTTP: {reason}")
            else:
                self._fault("it closed the connection without a response")

    def _read_event(self) -> bool:
        """Read one event. Returns True if another one may follow."""
        event = self._http.next_event()
        if isinstance(event, h11.Response):
            self._response = event
        elif isinstance(event, h11.Data):
            self._body += len(event.data)
            if self._body > MAX_BODY:
                self._on_end(reusable=False)
                return False
        elif isinstance(event, h11.EndOfMessage):
            self._on_end(reusable=self._http.their_state is h11.DONE)
            return False
        return event is not h11.NEED_DATA and event is not h11.PAUSED

    def _on_end(self, *, reusable: bool) -> None:
        response = self._response
        assert response is not None
        self.has_answered = True
        if reusable and not self._http.trailing_data[0] and self.read_fd >= 0:
            self._http.start_next_cycle()
            self.is_reusable = True
        self.owner.on_response(self, response.status_code, list(response.headers))

    def _fault(self, reason: str) -> None:
        self.owner.on_connection_fault(self, reason)

    def on_peer_closing(self) -> None:
        """Called when the authorizer reads no more. Its response may still arrive."""

    def on_held_input(self) -> None:
        """Never called: reading is not held."""

    def on_write_buffer_low(self) -> None:
        """Do nothing: there is one request at a time."""

    def on_write_buffer_empty(self) -> None:
        """Do nothing: the response follows."""

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self.owner.on_error(error)
        if self.read_fd >= 0:
            self._fault("an internal error")
