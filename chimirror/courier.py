"""A courier: carries messages between a client's WebSocket and a control socket.

A client that steers a session opens a second WebSocket, wherever it lands: in another
worker, in another bridge, or in the process that has the session. Its first message
says which session, and has to prove that it may; from then on each message is a line
(chimirror-protocol(7)). What lines mean is the clerk's matter, at the other end of the
Unix socket. Until the proof is accepted the client is a handshake in flight.
"""

from __future__ import annotations

from chimirror.system import runtime
from chimirror.system.lean import socket
from chimirror.system.linestream import LineStream
from chimirror.system.loop import NEVER
from chimirror.system.outbox import HIGH
from chimirror.wire import control
from chimirror.wire.frames import Close, Failure, Ping
from chimirror.wire.headers import text_header
from chimirror.wire.jsontext import fold, valid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.connection import Connection
    from chimirror.reception import Reception
    from chimirror.service import Peer, Service
    from chimirror.system.loop import Loop
    from chimirror.wire.control import Call
    from chimirror.wire.frames import Event
    from chimirror.wire.opening import Opening

PATIENCE = 1.0  # seconds: a session's socket comes with its first tick; and for guesses
PAUSE = 0.05  # seconds between two attempts
LONGEST = 1 << 24  # bytes of an answer, which may be longer than what was asked
UNKNOWN = "no such session, or not its secret"
FAULT = "error internal"
_MISSING_YET = (FileNotFoundError, ConnectionRefusedError, BlockingIOError)


class Line(LineStream):
    """The connection to the control socket."""

    __slots__ = ("_courier",)

    def __init__(self, courier: Courier, loop: Loop, fd: int) -> None:
        super().__init__(loop, fd, LONGEST)
        self._courier = courier

    def on_line(self, line: bytes) -> None:
        """An answer, or a notification."""
        self._courier.on_answer(line)

    def on_room(self) -> None:
        """The clerk has read on."""
        self._courier.on_line_room()

    def on_sent(self) -> None:
        """It has read everything."""

    def on_leaving(self) -> None:
        """The clerk has gone; what it said before is still to be read."""

    def on_too_long(self) -> None:
        """Nobody answers this."""
        self._courier.on_line_lost()

    def on_input_end(self) -> None:
        """It has said everything."""
        self._courier.on_line_lost()

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        self._courier.on_fault(error)


class Courier:
    """See the module.

    Args:
        service: of this process.
        connection: the client's, whose request has just been read; ours from now on.
        reception: in which the client is counted until it is authorized.
    """

    __slots__ = (
        "_began",
        "_call",
        "_fault",
        "_limit",
        "_line",
        "_path",
        "_peer",
        "_proof",
        "_reception",
        "_service",
        "_waiting",
        "armed",
        "connection",
        "deadline",
    )

    def __init__(
        self, service: Service, connection: Connection, reception: Reception, peer: Peer
    ) -> None:
        self._service = service
        self._reception: Reception | None = reception  # until it is authorized
        self._peer = peer
        self._line: Line | None = None
        self._path = ""
        self._proof = ("", "")  # session and secret
        self._call: Call | None = None  # the first message
        self._fault: control.Fault | None = None  # its answer, which waits for its time
        self._waiting: list[bytes] = []  # what came behind it
        self._began = service.loop.now
        self._limit = self._began + service.config.handshake_timeout
        self.connection = connection
        self.armed = 0
        self.deadline = NEVER
        service.couriers.add(self)

    def begin(self, opening: Opening, early: bytes) -> None:
        """Answer the request; what came behind it is served."""
        self.connection.hand_over(self)
        self.connection.open(opening.response(), early)

    # From the client

    def on_events(self, events: list[Event], size: int) -> None:
        """Messages and control frames."""
        for event in events:
            if isinstance(event, bytes):
                self._on_message(event)
            elif isinstance(event, Ping):
                self.connection.send_pong(event.payload)
            elif isinstance(event, Close):
                self.close(event.code, "")
            elif isinstance(event, Failure):
                self.close(event.code, event.reason)

    def _on_message(self, message: bytes) -> None:
        if self._reception is None:
            self._forward(message)
        elif self._call is None:
            control.serve(message, self._introduce, self._send)
            if self._call is None:
                self.close(1008, "not authorized", discard=False)
        else:
            self._waiting.append(message)

    def _forward(self, message: bytes) -> None:
        if self._line is None:
            return
        if len(message) > control.LONGEST:
            self.close(1009, f"over {control.LONGEST} bytes")
            return
        if b"\n" in message:  # what is no JSON is answered as that
            message = fold(message) if valid(message) else b"?"
        self._line.put([message, b"\n"])
        if self._line.backlog > HIGH:
            self.connection.pause()

    def on_line_room(self) -> None:
        """The clerk has read on."""
        if self._reception is None:
            self.connection.resume()

    # The first message

    def _introduce(self, call: Call) -> None:
        """Ask to be authorized; a batch of such is one too many."""
        if self._call is not None:
            raise control.Fault(control.INVALID_REQUEST, "one at a time")
        self._call = call
        self._began = self._service.loop.now
        self.connection.pause()
        proof = _proof(call)
        path = self._service.control_path(*proof) if proof is not None else None
        if proof is None or path is None:
            self._fail(control.NOT_AUTHORIZED, UNKNOWN)
            return
        self._path, self._proof = path, proof
        self._connect()

    def _connect(self) -> None:
        loop = self._service.loop
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        handle.setblocking(False)
        try:
            with runtime.Inside():
                handle.connect(self._path)
        except OSError as error:
            handle.close()
            if isinstance(error, _MISSING_YET) and loop.now < self._began + PATIENCE:
                loop.arm(self, loop.now + PAUSE)
            else:
                self._fail(control.NOT_AUTHORIZED, UNKNOWN)
            return
        self._line = Line(self, loop, handle.detach())
        # In words of our own: the clerk trusts our user, and reads what we have read.
        identity, secret = self._proof
        params = {"session": identity, "secret": secret}
        request = {"jsonrpc": "2.0", "id": 0, "method": "authorize", "params": params}
        self._line.put([control.encode(request)])

    def _fail(self, code: int, text: str) -> None:
        """Answer so, but no sooner than if it had been searched for in vain."""
        self._drop_line()
        self._fault = control.Fault(code, text)
        self._service.loop.arm(self, self._began + PATIENCE)

    def on_timer(self, now: float) -> None:
        """Try again; or tell how it went."""
        fault, call = self._fault, self._call
        if fault is None or call is None:
            self._connect()
            return
        call.fail(fault)
        text = str(fault)
        self._service.records.refused(self._peer.text, 403, "control", text)
        self.close(1008, text, discard=False)

    # From the clerk

    def on_answer(self, line: bytes) -> None:
        """An answer or a notification; the first answers the first."""
        if self._reception is not None:
            self._on_verdict(line)
            return
        self.connection.send([text_header(len(line)), line])
        if self.connection.backlog > HIGH and self._line is not None:
            self._line.pause()

    def _on_verdict(self, line: bytes) -> None:
        answer, call = control.parse(line), self._call
        assert isinstance(answer, dict)
        assert call is not None
        if "error" in answer:
            error = answer["error"]
            self._fail(error["code"], error["message"])
            return
        self._leave_reception()
        call.pass_on({"result": answer["result"]})
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._forward(message)
        self.connection.resume()

    def on_output_room(self) -> None:
        """The client has read on."""
        if self._line is not None:
            self._line.resume()

    def on_line_lost(self) -> None:
        """The session is over, or its process has gone, or has had enough of us."""
        self._drop_line()
        if self._reception is None:
            self.close(1000, "control over", discard=False)
        elif self._fault is None:
            self._fail(control.NOT_AUTHORIZED, UNKNOWN)

    def _send(self, line: bytes) -> None:
        message = line.rstrip(b"\n")
        self.connection.send([text_header(len(message)), message])

    # Time

    def next_timeout(self, now: float) -> float:
        """Close one that does not say who it is; else, when to ask again."""
        if self._reception is None:
            return NEVER
        if now >= self._limit:
            self.close(1008, "not authorized in time")
            return NEVER
        return self._limit

    # The end

    def close(self, code: int, reason: str, *, discard: bool = True) -> None:
        """End it from our side."""
        self._drop_line()
        self.connection.close(code, reason, discard=discard)

    def abort(self) -> None:
        """End it now."""
        self.close(1001, "drain")

    def on_peer_leaving(self) -> None:
        """The client goes: what it has asked for on its way out is not worth a turn."""
        self.connection.finish()

    def on_peer_gone(self, reason: str) -> None:
        """It has gone without a word."""
        self._drop_line()

    def on_connection_closed(self) -> None:
        """Forget everything."""
        self._drop_line()
        self._leave_reception()
        self._service.loop.disarm(self)
        self._service.couriers.discard(self)
        self._service.on_vacancy()
        self.connection.forget()

    def _drop_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.finish()

    def _leave_reception(self) -> None:
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.leave()

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: this connection ends; no session does."""
        self._service.fault(error, "(control)")
        self.connection.finish()

    def on_event(self, fd: int, events: int) -> None:
        """Connection and line watch their own descriptors."""

    def on_head(self, data: bytes) -> None:
        """The request has been read."""

    def on_head_timeout(self) -> None:
        """It was read in time."""


def _proof(call: Call) -> tuple[str, str] | None:
    """Session and secret, if this is a call to authorize."""
    if call.method != "authorize" or not isinstance(call.params, dict):
        return None
    identity, secret = call.params.get("session"), call.params.get("secret")
    if isinstance(identity, str) and isinstance(secret, str):
        return identity, secret
    return None
