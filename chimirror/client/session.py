"""Protocol of a session: sent data, received output, and the exit.

Pure: knows no socket and no clock. All operations are flows (`flow`), so that both
APIs share them. Back-pressure has three limits. Above `websocket.MAX_PENDING` unsent
bytes, senders wait. Above `buffers.HIGH_WATER` unread bytes, the connection is not
read. A terminal is `window.AHEAD` bytes ahead of its reader.
"""

from __future__ import annotations

from itertools import chain

from chimirror.client import stdio_messages
from chimirror.client.buffers import STREAMS
from chimirror.client.close_text import close_text, is_retry_useful
from chimirror.client.errors import (
    NotConnected,
    ProtocolViolation,
    SessionLost,
    SessionOver,
)
from chimirror.client.framing import signal_name
from chimirror.client.output import OUTPUT_STREAMS, OutputReader
from chimirror.client.results import Completed, Exit, Output, exit_from_close
from chimirror.client.window import OutputWindow
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from chimirror.client.flow import Flow
    from chimirror.client.framing import Framing, Offer
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.websocket import WebSocketProtocol


# Reason of a loss without an error: the server has ended its stream.
END_OF_STREAM = "the server closed the connection"


class SessionProtocol(OutputReader):
    """Protocol of one session.

    Attributes:
        websocket: Its WebSocket.
        connection_params: Parameters of the connection, reused for control connections.
        id: The session id, "" until it is known.
        exit: The exit message of the server, None until it has come.
        pty: Whether the process has a terminal.
        direction: "send", "receive" or "both", as seen by this client.
        read_only: Whether the server ignores input and signals.
    """

    def __init__(
        self,
        websocket: WebSocketProtocol,
        offers: Sequence[Offer],
        connection_params: ConnectionParams,
        current_caller: Callable[[], object],
        *,
        await_first_message: bool = True,
    ) -> None:
        """Create a session over a WebSocket with a queued request.

        Args:
            websocket: The WebSocket.
            offers: The offered subprotocols. The server chooses the framing.
            connection_params: Parameters of the connection.
            current_caller: Returns the thread or task that is running.
            await_first_message: Open only after the first message, which carries the
                id.
        """
        super().__init__(current_caller, OutputWindow(websocket))
        self.websocket = websocket
        self.id = ""
        self.exit: Exit | None = None
        self.connection_params = connection_params
        self._offers = {offer.subprotocol: offer.framing for offer in offers}
        self._first_framing = offers[0].framing
        self._await_message = await_first_message
        self._credentials: stdio_messages.SessionMessage | None = None
        self.pty = self.read_only = False
        self.direction = "both"
        self._message_received = False
        self._is_sending = False  # a call is sending
        self._input_ended = False
        self._closed_locally = False
        # Unsent messages and output of an interrupted `communicate`.
        self._communication: tuple[Iterator[bytes], dict[str, bytearray]] | None = None

    # Data from the server.

    def data_received(self, data: bytes) -> None:
        """Called when bytes have arrived, handles the messages in them."""
        try:
            for message in self.websocket.data_received(data):
                self._on_event(self.framing.decode(message))
        except stdio_messages.MessageError as error:
            self.websocket.fail(error.code, str(error))

    def _on_event(self, event: stdio_messages.Event | None) -> None:
        self._message_received = True
        match event:
            # output after the exit message is ignored
            case Output() if self.exit is None:
                self._buffer.put(event.stream, event.data)
            case stdio_messages.ErrorMessage():
                self._buffer.put("error", event.text or b"?")
            case stdio_messages.SessionMessage():
                self.id = escape_line(event.id, 64)
                self._credentials = event
                self.pty, self.read_only = event.pty, event.read_only
                self.direction = event.direction
                if event.window:
                    self._window.start()
            case Exit():
                self.exit = event
                self._window.stop()
                self.websocket.start_close_timer()

    @property
    def framing(self) -> Framing:
        """Framing that the server has chosen."""
        chosen = self.websocket.protocol.subprotocol or ""
        return self._offers.get(chosen, self._first_framing)

    @property
    def wants_data(self) -> bool:
        """Whether the protocol accepts more data. After the exit it drops them."""
        return not self._buffer.full or self.exit is not None

    # Opening.

    def wait_until_open(self) -> Flow[None]:
        """Wait until the session is open.

        Raises:
            NotConnected: There is no session.
        """
        while self.websocket.connecting:
            yield None
        params = self.connection_params
        chosen = params.check_response(self.websocket, self._offers)
        if params.trace is not None:
            name = escape_line(chosen) or "no subprotocol"
            params.trace(f"101 Switching Protocols: {name}, {self.framing.name}")
        if not self.framing.has_session_messages or not self._await_message:
            return
        while not self._message_received and not self.finished:
            yield None
        if params.trace is not None and self.id:
            params.trace(f"session {self.id}")

    @property
    def timeout_cause(self) -> str:
        """Cause of a timeout in `wait_until_open`."""
        if self.websocket.connecting:
            return "no response to the handshake"
        return "no message"

    # End of the session.

    @property
    def finished(self) -> bool:
        return self._closed_locally or self.websocket.ended

    def require_exit(self) -> Exit:
        """Return the exit of the application.

        Raises:
            SessionLost: The exit status is unknown.
        """
        close = self.websocket.close_received
        if self.exit is not None:
            code, reason = close or (None, "")
            return self.exit._replace(reason=reason, close_code=code)
        if close and not self.framing.has_session_messages:
            exit_ = exit_from_close(*close)
            if exit_ is not None:
                return exit_
        raise self._session_lost_error()

    def _session_lost_error(self) -> SessionLost:
        websocket = self.websocket
        lost_reason = websocket.lost_reason or END_OF_STREAM
        code, reason = websocket.close_received or (1006, lost_reason)
        if websocket.fault is not None:
            return ProtocolViolation(websocket.fault, self.id, code, websocket.fault)
        text, retry = close_text(code, reason), is_retry_useful(code, reason)
        if self._closed_locally:
            text, retry = "closed by this client", False
        session = f" (session {self.id})" if self.id else ""
        text = f"the session ended before its exit status came{session}: {text}"
        reason = escape_line(reason, 256)
        return SessionLost(text, self.id, code, reason, retry=retry)

    @property
    def known_exit(self) -> Exit | None:
        """Exit of the application, None while it is unknown."""
        try:
            return self.require_exit() if self.websocket.ended else None
        except SessionLost:
            return None

    def final_exit(self) -> Exit | None:
        return None if self._closed_locally else self.require_exit()

    def wait(self) -> Flow[Exit]:
        """Wait for the end and call handlers meanwhile."""
        yield from self._read(lambda _: None, ())
        return self.require_exit()

    def run(self) -> Flow[Exit]:
        """Wait for the end and drop output that has neither handler nor reader."""
        wanted = set(self._handlers).union(*(r.streams for r in self._claims))
        self._buffer.discard(*(name for name in OUTPUT_STREAMS if name not in wanted))
        return (yield from self.wait())

    def close(self, code: int, reason: str) -> Flow[None]:
        """Close after all queued data and wait for the end of the connection."""
        if not self.finished:
            self._closed_locally = True
            self._buffer.discard(*STREAMS)
        self.websocket.close(code, reason)
        while self.websocket.lost_reason is None:
            yield None

    def abort(self) -> None:
        """Close at once."""
        self._closed_locally = self._closed_locally or not self.finished
        self.websocket.abort()

    # Data to the server.

    def send(self, data: object) -> Flow[None]:
        """Send to standard input. Waits while the connection is full."""
        messages = self.framing.messages(data)
        yield from self._acquire_sending()
        try:
            for message in messages:
                while self.websocket.full and self.websocket.open:
                    yield None
                self._require_input()
                self.websocket.send(message)
            self._require_input()
        finally:
            self._is_sending = False

    def _acquire_sending(self) -> Flow[None]:
        """Wait until no other call is sending: the data of one call stay together."""
        while self._is_sending:
            yield None
        self._is_sending = True

    def _require_input(self) -> None:
        self._require_open()
        if self._input_ended:
            raise ValueError("the input has been ended")

    def _require_open(self) -> None:
        if self.websocket.open and self.exit is None:
            return
        try:
            text = f"the remote process has ended: {self.require_exit()}"
        except SessionLost as error:
            text = str(error)
        raise SessionOver(text)

    def end_input(self) -> Flow[None]:
        """Send the end of input."""
        self._require_session_messages("cannot end the input")
        yield from self._acquire_sending()
        try:
            if not self._input_ended:
                self._require_open()
                self.websocket.send(stdio_messages.EOF)
                self._input_ended = True
        finally:
            self._is_sending = False

    def signal(self, signal: str | int) -> Flow[None]:
        """Send a signal ahead of waiting input, and a ping to test the server."""
        self._require_session_messages("carries no signals")
        message = stdio_messages.signal(signal_name(signal))
        self._require_open()
        self.websocket.send(message, urgent=True)
        self.websocket.ping()
        yield from ()

    def resize(self, columns: int, rows: int) -> Flow[None]:
        """Set the size of the terminal, ahead of waiting input."""
        self._require_session_messages("carries no terminal sizes")
        if not self.pty:
            raise ValueError("the remote process has no terminal (--pty)")
        self._require_open()
        self.websocket.send(stdio_messages.resize(columns, rows), urgent=True)
        yield from ()

    def _require_session_messages(self, problem: str) -> None:
        if not self.framing.has_session_messages:
            raise ValueError(
                f"framing {self.framing.name} {problem}; use framing stdio"
            )

    # Control connection.

    def credentials(self) -> dict[str, str]:
        """Return the parameters of `authorize`.

        Raises:
            SessionOver: The session has ended.
            NotConnected: The server offers no control connection.
        """
        self._require_session_messages("has no control connections")
        self._require_open()
        message = self._credentials
        if message is None or not message.secret:
            raise NotConnected(
                "the server offers no control connection for this session"
            )
        return {"session": message.id, "secret": message.secret}

    # Complete exchange.

    def communicate(self, data: object) -> Flow[Completed]:
        """Send everything, end the input and read everything.

        After an interruption, the next call continues the first and ignores its own
        data.
        """
        self._require_session_messages("cannot end the input")
        yield from self._acquire_sending()
        try:
            if self._communication is None:
                end = () if self._input_ended else (stdio_messages.EOF,)
                messages = chain(self.framing.messages(data), end)
                output = {name: bytearray() for name in OUTPUT_STREAMS}
                self._communication = messages, output
                self._input_ended = True
            yield from self._exchange_data(*self._communication)
        finally:
            self._is_sending = False
        _, output = self._communication
        streams = {name: bytes(data) for name, data in output.items()}
        return Completed(**streams, exit=self.require_exit())

    def _exchange_data(
        self, messages: Iterator[bytes], output: dict[str, bytearray]
    ) -> Flow[None]:
        claim = self.claim(*OUTPUT_STREAMS)

        def send_and_take(streams: Collection[str]) -> tuple[str, bytes] | None:
            while self.websocket.open and not self.websocket.full:
                if (message := next(messages, None)) is None:
                    break
                self.websocket.send(message)
            return self._buffer.take(streams)

        while found := (yield from self._read(send_and_take, claim.streams)):
            output[found[0]] += found[1]
