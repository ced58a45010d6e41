"""Control channel of an application: its own requests and those forwarded to it.

The channel is one end of a socket pair, with lines in both directions. The application
may call the methods of its own session. Requests for unknown methods are forwarded to
the application. Its notifications are broadcast to all control peers. No use of the
channel affects the data of the session (chimirror-protocol(7)).
"""

from __future__ import annotations

from chimirror.control.peer import ControlPeer
from chimirror.io.write_buffer import HIGH
from chimirror.protocol import json_members, jsonrpc
from chimirror.protocol.jsonrpc import INTERNAL_ERROR, RPCError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.control.peer import Controller
    from chimirror.io.loop import EventLoop
    from chimirror.protocol.json_members import Members
    from chimirror.protocol.jsonrpc import RPCRequest

MAX_PENDING = 16  # requests of one peer that the application has not answered yet


class ApplicationChannel(ControlPeer):
    """The application as a control peer of its own session.

    Args:
        controller: of this session.
        loop: event loop of this process.
        channel: descriptor of this end, owned by the object from now on.
    """

    __slots__ = ("_pending", "_last_id")

    def __init__(self, controller: Controller, loop: EventLoop, channel: int) -> None:
        super().__init__(loop, channel, trusted=True)
        self.controller = controller
        self._last_id = 0
        self._pending: dict[int, tuple[RPCRequest, ControlPeer]] = {}  # by request id

    # Requests to the application

    def forward(self, call: RPCRequest, peer: ControlPeer) -> None:
        """Forward a request to the application, and later its response to the peer.

        Raises:
            RPCError: the application does not keep up.
        """
        waiting = sum(other is peer for _, other in self._pending.values())
        if self.queued_bytes > HIGH or waiting >= MAX_PENDING:
            raise RPCError(jsonrpc.BUSY, "the application is busy")
        if not call.expects_response:
            call.respond(None)
            self.write([call.relay()])
            return
        self._last_id += 1
        self._pending[self._last_id] = call, peer
        self.write([call.relay(self._last_id)])

    def forget(self, peer: ControlPeer) -> None:
        """Drop the pending requests of a disconnected peer."""
        for number in [n for n, (_, other) in self._pending.items() if other is peer]:
            del self._pending[number]

    def _on_response(self, response: Members) -> None:
        call = self._take_call(response["id"][0] if "id" in response else None)
        if call is None:
            return
        if "result" in response or jsonrpc.read_error(response) is not None:
            call.forward_response(response)
        else:
            text = "the application gave an invalid response"
            call.respond_error(RPCError(INTERNAL_ERROR, text))

    def _take_call(self, number: object) -> RPCRequest | None:
        """Return the pending request of this id, None if there is none (any more)."""
        if type(number) is not int or number not in self._pending:
            return None  # the peer has disconnected, or the id is unknown
        return self._pending.pop(number)[0]

    def _on_refused_line(self, line: bytes, error: RPCError) -> bool:
        """Report a refused line to the application, and to the requester it may answer.

        Returns:
            False if the line has no id: it may answer any pending request.
        """
        self.send_reply(jsonrpc.failure(error, line))
        found = json_members.find_id(line)
        number = int(found) if found is not None and found.isdecimal() else None
        call = self._take_call(number)
        if call is not None:
            text = f"the response of the application is refused: {error}"
            call.respond_error(RPCError(INTERNAL_ERROR, text))
        return found is not None

    def _fail_pending(self, error: RPCError) -> None:
        pending, self._pending = self._pending, {}
        for call, _ in pending.values():
            call.respond_error(error)

    def on_disconnected(self) -> None:
        """Called when the channel is closed. Fails all pending requests."""
        text = "the application has closed its control channel"
        self._fail_pending(RPCError(jsonrpc.BUSY, text))

    # Messages of the application

    def on_line(self, line: bytes) -> None:
        """Called with one message or batch: requests, responses and notifications."""
        try:
            message = jsonrpc.split(line)
            items = message if isinstance(message, list) else [message]
            responses = [one for one in items if one is not None and _is_response(one)]
            if 0 < len(responses) == len(items):
                for response in responses:
                    self._on_response(response)
            else:
                jsonrpc.handle_message(message, self._perform, self.send_reply)
        except RPCError as error:
            if not self._on_refused_line(line, error):
                text = f"the application sent an unreadable line: {error}"
                self._fail_pending(RPCError(INTERNAL_ERROR, text))

    def on_line_too_long(self, begin: bytes, limit: int) -> None:
        """Called when a line exceeds its limit. Skips it.

        Closes the channel if the line has no id at its begin: a pending request may
        otherwise stay without a response.
        """
        text = f"a line is longer than {limit} bytes"
        if not self._on_refused_line(begin, RPCError(jsonrpc.INVALID_REQUEST, text)):
            self.disconnect()

    def _perform(self, call: RPCRequest) -> None:
        assert self.controller is not None
        if not call.expects_response and not self.controller.has_method(call.method):
            self.controller.broadcast(call)
            call.respond(None)
        else:
            self.controller.dispatch(call, self)

    def on_error(self, error: Exception) -> None:
        """Called with an internal error. Closes the channel and keeps the session."""
        controller = self.controller
        self.disconnect()
        if controller is not None:
            controller.on_error(error)


def _is_response(message: Members) -> bool:
    return "id" in message and "method" not in message
