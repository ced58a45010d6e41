"""Asks an authorizer over HTTP, on TCP or on a Unix socket (chimirror-protocol(7)).

Each question has a connection for itself while it is open. Connections are kept for the
next questions. A server may close such a connection at any time: then its question is
asked once more, over a new one.
"""

from __future__ import annotations

from h11 import LocalProtocolError

from chimirror.access.answer_fields import WrongAnswerError
from chimirror.access.connector import Connector
from chimirror.access.http_connection import HttpConnection
from chimirror.access.http_messages import request_fields, to_answer
from chimirror.io.loop import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access import Answer, Fields
    from chimirror.access.authorizer import Authorizer, PendingQuestion
    from chimirror.access.endpoint import Endpoint

IDLE_TIMEOUT = 15.0  # seconds for which a connection is kept


class HttpTransport:
    """Transport to an HTTP server.

    Args:
        authorizer: has the questions.
        endpoint: the address of the server.
        names: of the fields that hold the user and the groups.

    Attributes:
        authorizer, endpoint, names: as given.
    """

    __slots__ = (
        "_busy",
        "_idle",
        "armed",
        "authorizer",
        "deadline",
        "endpoint",
        "names",
    )

    def __init__(
        self, authorizer: Authorizer, endpoint: Endpoint, names: tuple[str, str]
    ) -> None:
        self.authorizer = authorizer
        self.endpoint = endpoint
        self.names = names
        self._busy: dict[PendingQuestion, HttpExchange] = {}
        # until when a connection is kept, the most recent one last
        self._idle: dict[HttpConnection, float] = {}
        self.armed = 0
        self.deadline = NEVER

    def is_ready(self) -> bool:
        """Return True: each question can have a connection."""
        return True

    def ask(self, pending: PendingQuestion) -> None:
        """Ask over a connection that is kept, or over a new one."""
        exchange = self._busy[pending] = HttpExchange(self, pending)
        if self._idle:
            exchange.ask_over(self._idle.popitem()[0])
        else:
            exchange.connect()

    def drop(self, pending: PendingQuestion, *, timed_out: bool) -> None:
        """Close the connection of a question."""
        exchange = self._busy.pop(pending, None)
        if exchange is not None:
            exchange.abort()

    def on_exchange_end(self, pending: PendingQuestion) -> None:
        """Called when a question has its answer, or will have none."""
        self._busy.pop(pending, None)

    def keep(self, connection: HttpConnection) -> None:
        """Keep a connection for the next questions."""
        loop = self.authorizer.host.loop
        connection.owner = self
        self._idle[connection] = loop.now + IDLE_TIMEOUT
        loop.set_timer(self, min(self._idle.values()))

    def on_response(
        self, connection: HttpConnection, status: int, fields: Fields
    ) -> None:
        """Never called: nothing is asked over a connection that is kept."""

    def on_connection_fault(self, connection: HttpConnection, reason: str) -> None:
        """Called when the server has closed a connection that is kept."""
        self._idle.pop(connection, None)
        connection.abort()

    def on_timer(self, now: float) -> None:
        """Called when a connection has been kept long enough."""
        for connection, until in list(self._idle.items()):
            if until <= now:
                del self._idle[connection]
                connection.abort()
        if self._idle:
            self.authorizer.host.loop.set_timer(self, min(self._idle.values()))

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self.authorizer.on_internal_error(error)

    def close(self) -> None:
        """Close all connections."""
        self.authorizer.host.loop.cancel_timer(self)
        for exchange in self._busy.values():
            exchange.abort()
        for connection in self._idle:
            connection.abort()
        self._busy.clear()
        self._idle.clear()


class HttpExchange:
    """One question and its response, over one connection or a second one.

    Args:
        transport: keeps connections.
        pending: the question.
    """

    __slots__ = ("_connection", "_connector", "_pending", "_transport")

    def __init__(self, transport: HttpTransport, pending: PendingQuestion) -> None:
        self._transport = transport
        self._pending = pending
        self._connector: Connector | None = None
        self._connection: HttpConnection | None = None

    def connect(self) -> None:
        """Open a new connection."""
        transport = self._transport
        loop = transport.authorizer.host.loop
        self._connector = Connector(self, loop, transport.endpoint.addresses)
        self._connector.start()

    def on_connected(self, fd: int) -> None:
        """Called with the new connection."""
        self._connector = None
        loop = self._transport.authorizer.host.loop
        self.ask_over(HttpConnection(self, loop, fd))

    def on_connect_failed(self, reason: str) -> None:
        """Called when there will be no connection."""
        self._end(f"cannot be reached: {reason}")

    def ask_over(self, connection: HttpConnection) -> None:
        """Send the request."""
        self._connection = connection
        connection.owner = self
        endpoint = self._transport.endpoint
        fields = request_fields(self._pending.question, endpoint.authority)
        try:
            connection.send_request(endpoint.uri, fields)
        except LocalProtocolError:
            self._end("the request has a field that HTTP does not allow")

    def on_response(
        self, connection: HttpConnection, status: int, fields: Fields
    ) -> None:
        """Called with the response."""
        transport, pending, reason = self._transport, self._pending, ""
        answer: Answer | None = None
        try:
            answer = to_answer(status, fields, pending.question, transport.names)
        except WrongAnswerError as error:
            reason = str(error)
        self._connection = None
        if connection.is_reusable:
            transport.keep(connection)
        else:
            connection.abort()
        transport.on_exchange_end(pending)
        if answer is None:
            pending.fail(reason)
        else:
            pending.finish(answer)

    def on_connection_fault(self, connection: HttpConnection, reason: str) -> None:
        """Called when there will be no response. A kept connection was stale."""
        was_stale = connection.has_answered and not connection.has_received
        self.abort()
        if was_stale:
            self.connect()
        else:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self.abort()
        self._transport.on_exchange_end(self._pending)
        self._pending.fail(reason)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error."""
        self._transport.authorizer.on_internal_error(error)
        self._end("an internal error")

    def abort(self) -> None:
        """Close what is open. Nothing is called any more."""
        if self._connector is not None:
            self._connector.abort()
        if self._connection is not None:
            self._connection.abort()
        self._connector = self._connection = None
