"""Protocol of the control connection: JSON-RPC 2.0 over a second WebSocket.

Pure, as flows (`flow`): calls with their responses, and notifications. Notifications
never cause back-pressure. The oldest ones of a slow subscriber are dropped, and of
the status only the newest is kept.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Any, NamedTuple
from weakref import WeakSet

from chimirror.client.close_text import close_text
from chimirror.client.errors import CallFailed, ControlLost, SessionOver
from chimirror.client.framing import signal_name
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from chimirror.client.flow import Flow
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.websocket import WebSocketProtocol

    Params = Mapping[str, object] | Sequence[object]

SUBPROTOCOL = "chimirror.control.v1"
SESSION_PREFIX = "chimirror.session."
MAX_QUEUED = 256 * 1024  # bytes that are kept for a subscription
STREAMS = ("stdin", "stdout", "stderr")
SESSION_OVER = (1000, "control over")  # close code and reason at the end of the session

Object = dict[str, Any]


def _integer(digits: str) -> int | float:
    """Convert an integer. int() refuses 4,300 digits: no call fails because of them."""
    return int(digits) if len(digits) < 4000 else float(digits)


_DECODER = json.JSONDecoder(parse_int=_integer)


def offered_names(session_id: str) -> tuple[str, ...]:
    """Return the subprotocols to offer for a control connection.

    A balancer reads the id in the second one, to find the host of the session. Servers
    ignore that name. An id of another form, of a foreign server, is left out.
    """
    if re.fullmatch(r"[0-9A-Za-z]{1,64}", session_id):
        return SUBPROTOCOL, SESSION_PREFIX + session_id
    return (SUBPROTOCOL,)


class Notification(NamedTuple):
    """A notification from the application to its control connections."""

    method: str
    params: Any


class Subscription:
    """Queue of notifications that one subscriber has not taken yet.

    Attributes:
        interval: Seconds between two statuses, None for a subscriber to notifications.
        connection: The control connection that has been asked for the status.
        ended: Whether no more notifications will come.
    """

    __slots__ = ("interval", "connection", "ended", "_queue", "_size", "__weakref__")

    def __init__(self, interval: float | None) -> None:
        self.interval = interval
        self.connection: ControlProtocol | None = None
        self.ended = False
        self._queue: deque[tuple[Notification, int]] = deque()
        self._size = 0

    def notify(self, notification: Notification, size: int) -> None:
        self._queue.append((notification, size))
        self._size += size
        newest = self.interval is not None
        while len(self._queue) > 1 and (newest or self._size > MAX_QUEUED):
            self._size -= self._queue.popleft()[1]

    def take(self) -> Notification | None:
        if not self._queue:
            return None
        notification, size = self._queue.popleft()
        self._size -= size
        return notification


class Subscribers:
    """Registry of all subscriptions of a session, across control connections."""

    def __init__(self) -> None:
        self._status: WeakSet[Subscription] = WeakSet()
        self._notifications: WeakSet[Subscription] = WeakSet()

    def subscribe(self, interval: float | None = None) -> Subscription:
        """Add a subscription, which lasts as long as the returned object exists.

        Args:
            interval: Seconds between two statuses. None subscribes to the
                notifications.
        """
        subscription = Subscription(interval)
        (self._notifications if interval is None else self._status).add(subscription)
        return subscription

    def end_status(self) -> None:
        """End all subscriptions to the status."""
        for subscription in self._status:
            subscription.ended = True
        self._status.clear()

    def notify(self, notification: Notification, size: int) -> None:
        is_status = notification.method == "status"
        for subscription in self._status if is_status else self._notifications:
            subscription.notify(notification, size)


class ControlProtocol:
    """Protocol of one control connection.

    Attributes:
        websocket: Its WebSocket.
    """

    def __init__(
        self,
        websocket: WebSocketProtocol,
        connection_params: ConnectionParams,
        credentials: Object,
        subscribers: Subscribers,
    ) -> None:
        self.websocket = websocket
        self._connection_params = connection_params
        self._credentials = credentials
        self._subscribers = subscribers
        self._last_id = 0
        # by request id, None while pending
        self._responses: dict[int, Object | None] = {}

    @property
    def wants_data(self) -> bool:
        """Whether the protocol accepts more data."""
        return True

    # Data from the server.

    def data_received(self, data: bytes) -> None:
        """Called when bytes have arrived, handles the messages in them."""
        for message in self.websocket.data_received(data):
            try:
                self._on_message(_DECODER.decode(message.decode()), len(message))
            except (ValueError, RecursionError):
                self.websocket.fail(1008, "a message is not JSON-RPC")

    def _on_message(self, message: object, size: int) -> None:
        if not isinstance(message, dict):
            raise ValueError
        method, request_id = message.get("method"), message.get("id")
        if isinstance(method, str) and request_id is None:
            self._subscribers.notify(Notification(method, message.get("params")), size)
        elif "result" not in message:
            _call_error(message)
        if type(request_id) is int and request_id in self._responses:
            self._responses[request_id] = message

    # Requests to the server.

    def wait_until_open(self) -> Flow[None]:
        """Wait until the control connection is authorized.

        Raises:
            NotConnected: There is no control connection.
            CallFailed: The server has denied the authorization.
        """
        while self.websocket.connecting:
            yield None
        self._connection_params.check_response(self.websocket, (SUBPROTOCOL,))
        yield from self.call("authorize", self._credentials)

    @property
    def timeout_cause(self) -> str:
        """Cause of a timeout in `wait_until_open`."""
        return "no response on the control connection"

    def call(self, method: str, params: Params) -> Flow[Any]:
        """Call a method and wait for its response.

        Returns:
            The result of the call.

        Raises:
            CallFailed: The response is an error.
            ControlLost, SessionOver: There was no response.
        """
        self._last_id += 1
        request_id = self._last_id
        yield from self._send({"id": request_id, "method": method, "params": params})
        self._responses[request_id] = None
        try:
            while (response := self._responses[request_id]) is None:
                self._require_open()
                yield None
        finally:
            del self._responses[request_id]
        if "result" not in response:
            raise _call_error(response)
        return response["result"]

    def notify(self, method: str, params: Params) -> Flow[None]:
        """Send a notification, which has no response.

        Raises:
            ControlLost, SessionOver: The notification cannot be sent.
        """
        yield from self._send({"method": method, "params": params})
        self._require_open()

    def _send(self, request: Object) -> Flow[None]:
        text = json.dumps({"jsonrpc": "2.0", **request}, allow_nan=False)
        while self.websocket.full and self.websocket.open:
            yield None
        self.websocket.send(text.encode())

    def switch_streams(self, method: str, names: Collection[str]) -> Flow[list[str]]:
        """Pause or resume streams.

        Args:
            method: "pause" or "resume".
            names: The streams, all of them if empty.

        Returns:
            The streams that are paused now.

        Raises:
            ValueError: A stream of that name does not exist.
        """
        for name in names:
            if name not in STREAMS:
                raise ValueError(
                    f"unknown stream {name!r}: write one of {', '.join(STREAMS)}"
                )
        result = yield from self.call(method, {"streams": list(names or STREAMS)})
        paused = result.get("paused") if isinstance(result, dict) else None
        self._require_valid(isinstance(paused, list))
        return [str(name) for name in paused or ()]

    def call_for_object(
        self, method: str, params: Mapping[str, object] | None = None
    ) -> Flow[Object]:
        """Call a method that returns a JSON object."""
        result = yield from self.call(method, params or {})
        self._require_valid(isinstance(result, dict))
        return result  # type: ignore[no-any-return]

    def signal(self, signal: str | int) -> Flow[None]:
        """Send a signal to the application.

        Raises:
            ValueError: The signal is unknown.
        """
        yield from self.call("signal", {"name": signal_name(signal)})

    def unsubscribe(self) -> Flow[None]:
        """End all subscriptions to the status, here and on the server."""
        yield from self.call_for_object("unsubscribe")
        self._subscribers.end_status()

    def _require_valid(self, is_valid: bool) -> None:
        if not is_valid:
            self.websocket.fail(1008, "a response has the wrong type")
            self._require_open()

    def next_notification(
        self, subscription: Subscription
    ) -> Flow[Notification | None]:
        """Wait for the next notification of a subscription, None at its end."""
        interval = subscription.interval
        must_subscribe = interval is not None and subscription.connection is not self
        if must_subscribe and not subscription.ended:
            params = {"interval": interval}
            status = yield from self.call_for_object("subscribe", params)
            subscription.connection = self
            return Notification("status", status)
        while (notification := subscription.take()) is None:
            if subscription.ended or self.websocket.close_received == SESSION_OVER:
                return None
            self._require_open()
            yield None
        return notification

    # Closing.

    def _require_open(self) -> None:
        if not self.websocket.ended and self.websocket.open:
            return
        lost_reason = self.websocket.lost_reason or ""
        code, reason = self.websocket.close_received or (1006, lost_reason)
        if self.websocket.fault is not None:
            raise ControlLost(self.websocket.fault, code, self.websocket.fault)
        if (code, reason) == SESSION_OVER:
            raise SessionOver("the session has ended")
        text = f"the control connection has ended: {close_text(code, reason)}"
        raise ControlLost(text, code, escape_line(reason, 256))

    def abort(self) -> None:
        """Close at once."""
        self.websocket.abort()


def _call_error(response: Object) -> CallFailed:
    """Make the exception for an error response.

    Raises:
        ValueError: The message is not an error response.
    """
    error = response.get("error")
    if not isinstance(error, dict):
        raise ValueError
    code, message = error.get("code"), error.get("message")
    if type(code) is not int or not isinstance(message, str):
        raise ValueError
    return CallFailed(escape_line(message), code, error.get("data"))
