"""The control part of a session: JSON-RPC 2.0 over a WebSocket of its own.

Pure, as flows (see `steps`): calls and their answers, and what is told without having
been asked for. It never holds anything up: what a listener does not take is dropped,
the oldest first; of the status only the newest is kept.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, NamedTuple
from weakref import WeakSet

from .errors import CallFailed, ControlLost, SessionOver
from .framing import signal_name
from .texts import close_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .opening import Plan
    from .steps import Flow
    from .wire import Wire

    Params = Mapping[str, object] | Sequence[object]

SUBPROTOCOL = "chimirror.control.v1"
HIGH = 256 * 1024  # bytes that are kept for a listener
STREAMS = ("stdin", "stdout", "stderr")
OVER = (1000, "control over")  # the close that says that the session has ended

Object = dict[str, Any]


class Notification(NamedTuple):
    """Something that the application tells whoever steers it."""

    method: str
    params: Any


class Listener:
    """Keeps what one who listens has not taken yet.

    Attributes:
        interval: seconds between two statuses, for one who listens to these.
        source: the connection that has been asked for them.
        over: nothing more will come.
    """

    __slots__ = ("interval", "source", "over", "_kept", "_size", "__weakref__")

    def __init__(self, interval: float | None) -> None:
        self.interval = interval
        self.source: Steering | None = None
        self.over = False
        self._kept: deque[tuple[Notification, int]] = deque()
        self._size = 0

    def tell(self, told: Notification, size: int) -> None:
        self._kept.append((told, size))
        self._size += size
        newest = self.interval is not None
        while len(self._kept) > 1 and (newest or self._size > HIGH):
            self._size -= self._kept.popleft()[1]

    def take(self) -> Notification | None:
        if not self._kept:
            return None
        told, size = self._kept.popleft()
        self._size -= size
        return told


class Audience:
    """All who listen, whichever connection it comes over."""

    def __init__(self) -> None:
        self._status: WeakSet[Listener] = WeakSet()
        self._others: WeakSet[Listener] = WeakSet()

    def join(self, interval: float | None = None) -> Listener:
        """Listen, as long as the listener exists.

        Args:
            interval: seconds between two statuses; None listens to all else.
        """
        listener = Listener(interval)
        (self._others if interval is None else self._status).add(listener)
        return listener

    def dismiss(self) -> None:
        """The status is told no more."""
        for listener in self._status:
            listener.over = True
        self._status.clear()

    def tell(self, told: Notification, size: int) -> None:
        for listener in self._status if told.method == "status" else self._others:
            listener.tell(told, size)


class Steering:
    """One control connection.

    Attributes:
        wire: its WebSocket.
    """

    def __init__(
        self, wire: Wire, plan: Plan, credentials: Object, audience: Audience
    ) -> None:
        self.wire = wire
        self._plan = plan
        self._credentials = credentials
        self._audience = audience
        self._count = 0
        self._answers: dict[int, Object | None] = {}  # to calls, None as long as none

    @property
    def wants(self) -> bool:
        """Whether there is room for more."""
        return True

    # From the server.

    def received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        for message in self.wire.received(data):
            try:
                self._take(json.loads(message), len(message))
            except (ValueError, RecursionError):
                self.wire.violated(1008, "a message is no JSON-RPC")

    def _take(self, message: object, size: int) -> None:
        if not isinstance(message, dict):
            raise ValueError
        method, identity = message.get("method"), message.get("id")
        if isinstance(method, str) and identity is None:
            self._audience.tell(Notification(method, message.get("params")), size)
        elif "result" not in message:
            _failure(message)
        if type(identity) is int and identity in self._answers:
            self._answers[identity] = message

    # To the server.

    def opened(self) -> Flow[None]:
        """Wait until the session can be steered.

        Raises:
            NotConnected: there is no such connection.
            CallFailed: it is not allowed.
        """
        while self.wire.connecting:
            yield None
        self._plan.judge(self.wire, SUBPROTOCOL)
        yield from self.call("authorize", self._credentials)

    @property
    def awaited(self) -> str:
        """What `opened` waits for."""
        return "no answer to the control connection"

    def call(self, method: str, params: Params) -> Flow[Any]:
        """Have something done; what it results in.

        Raises:
            CallFailed: it was answered with an error.
            ControlLost, SessionOver: it was not answered.
        """
        self._count += 1
        identity = self._count
        yield from self._say({"id": identity, "method": method, "params": params})
        self._answers[identity] = None
        try:
            while (answer := self._answers[identity]) is None:
                self._require()
                yield None
        finally:
            del self._answers[identity]
        if "result" not in answer:
            raise _failure(answer)
        return answer["result"]

    def notify(self, method: str, params: Params) -> Flow[None]:
        """Have something done that is not answered.

        Raises:
            ControlLost, SessionOver: nobody heard of it.
        """
        yield from self._say({"method": method, "params": params})
        self._require()

    def _say(self, request: Object) -> Flow[None]:
        text = json.dumps({"jsonrpc": "2.0", **request}, allow_nan=False)
        while self.wire.full and self.wire.open:
            yield None
        self.wire.send(text.encode())

    def streams(self, method: str, names: Collection[str]) -> Flow[list[str]]:
        """Pause or resume these, or all of them; what is paused then.

        Raises:
            ValueError: there is none of that name.
        """
        for name in names:
            if name not in STREAMS:
                raise ValueError(f"stream {name!r}: there are {', '.join(STREAMS)}")
        result = yield from self.call(method, {"streams": list(names or STREAMS)})
        paused = result.get("paused") if isinstance(result, dict) else None
        self._expect(isinstance(paused, list))
        return [str(name) for name in paused or ()]

    def object(
        self, method: str, params: Mapping[str, object] | None = None
    ) -> Flow[Object]:
        """Call what is answered with an object."""
        result = yield from self.call(method, params or {})
        self._expect(isinstance(result, dict))
        return result  # type: ignore[no-any-return]

    def signal(self, signal: str | int) -> Flow[None]:
        """Have the application signalled.

        Raises:
            ValueError: there is no such signal.
        """
        yield from self.call("signal", {"name": signal_name(signal)})

    def unsubscribe(self) -> Flow[None]:
        """Have the status told no more."""
        yield from self.object("unsubscribe")
        self._audience.dismiss()

    def _expect(self, right: bool) -> None:
        if not right:
            self.wire.violated(1008, "an answer is not what was asked for")
            self._require()

    def heard(self, listener: Listener) -> Flow[Notification | None]:
        """What a listener is told next; None when nothing more will come."""
        deaf = listener.interval is not None and listener.source is not self
        if deaf and not listener.over:
            asked = {"interval": listener.interval}
            status = yield from self.object("subscribe", asked)
            listener.source = self
            return Notification("status", status)
        while (told := listener.take()) is None:
            if listener.over or self.wire.close_received == OVER:
                return None
            self._require()
            yield None
        return told

    # The end.

    def _require(self) -> None:
        if not self.wire.ended and self.wire.open:
            return
        code, reason = self.wire.close_received or (1006, self.wire.lost or "")
        if self.wire.fault is not None:
            raise ControlLost(self.wire.fault, code, self.wire.fault)
        if (code, reason) == OVER:
            raise SessionOver("the session has ended")
        text = f"the control connection is over: {close_text(code, reason)}"
        raise ControlLost(text, code, safe(reason, 256))

    def abort(self) -> None:
        """Close at once."""
        self.wire.abort()


def _failure(answer: Object) -> CallFailed:
    """What an error answer says.

    Raises:
        ValueError: it is none.
    """
    error = answer.get("error")
    if not isinstance(error, dict):
        raise ValueError
    code, message = error.get("code"), error.get("message")
    if type(code) is not int or not isinstance(message, str):
        raise ValueError
    return CallFailed(safe(message), code, error.get("data"))
