"""One WebSocket as a client speaks it, sans-I/O: bytes in, messages out, and back.

The protocol is the `websockets` library's (RFC 6455; no extension). This file keeps
what waits to be sent in order, tells a server that lives from one that does not, and
bounds the end. The clock is handed in; there is no socket. A server that breaks the
rules is closed upon, and told of in `fault`; nothing raises for what a server does.

Why not the library's own loops: its threads hold one lock around a blocking send and
need the same lock to receive, so that an echo (`chimirror-connect URL <big | less`)
stops for ever once both directions are full (measured: a reader that pauses for 4 s).
"""

from __future__ import annotations

import math
from collections import deque

from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import CONNECTING, OPEN

from .texts import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol

HIGH = 256 * 1024  # bytes that wait to be sent: more are not taken
CLOSE_WAIT = 2.0  # seconds for a closing handshake, or for what follows an exit


class Wire:
    """A WebSocket over a connection that somebody else holds.

    Attributes:
        protocol: the library's; its request waits to be sent.
        clock: monotonic, in seconds.
        waiting: bytes to be sent.
        fault: how the server broke the rules, in words; None if it did not.
        lost: why there is no connection any more, "" for the end of the stream;
            None while there is one.
        unanswered: pings of the caller's since the last that the server answered.
    """

    __slots__ = (
        "protocol",
        "clock",
        "waiting",
        "fault",
        "lost",
        "unanswered",
        "_urgent",
        "_replies",
        "_queue",
        "_head",
        "_parts",
        "_farewell",
        "_sealed",
        "_interval",
        "_patience",
        "_heard",
        "_pinged",
        "_asked",
        "_reading",
        "_deadline",
    )

    def __init__(
        self,
        protocol: ClientProtocol,
        clock: Callable[[], float],
        ping_interval: float | None = 20,
        ping_timeout: float = 20,
    ) -> None:
        self.protocol = protocol
        self.clock = clock
        self.waiting = 0
        self.fault: str | None = None
        self.lost: str | None = None
        self.unanswered = 0
        self._urgent: deque[bytes] = deque()  # whole frames that pass the others by
        self._replies = 0  # bytes of these
        self._queue: deque[bytes] = deque()
        self._head = memoryview(b"")  # what is left of the frame being sent
        self._parts: bytearray | None = None  # of a fragmented message
        self._farewell: tuple[int, str] | None = None  # a close, after the queue
        self._sealed = False  # nothing follows what has been queued
        self._interval = math.inf if ping_interval is None else ping_interval
        self._patience = self._interval + ping_timeout
        self._heard = self._pinged = clock()
        self._asked = 0
        self._reading = True
        self._deadline = math.inf  # when not to wait for the server any more
        self._collect(self._queue)

    # Where it stands.

    @property
    def connecting(self) -> bool:
        """Whether the answer to the opening handshake is still to come."""
        opening = self.protocol.state is CONNECTING
        return opening and self.protocol.handshake_exc is None and self.lost is None

    @property
    def open(self) -> bool:
        """Whether what is sent now can arrive."""
        return self.protocol.state is OPEN and not self._sealed

    @property
    def full(self) -> bool:
        return self.waiting >= HIGH

    @property
    def close_received(self) -> tuple[int, str] | None:
        close = self.protocol.close_rcvd
        return (close.code, close.reason) if close is not None else None

    @property
    def ended(self) -> bool:
        """Whether no message can come any more."""
        told = self.protocol.close_rcvd is not None or self.fault is not None
        return told or self.lost is not None

    # Sending.

    def send(self, message: bytes, *, urgent: bool = False) -> None:
        """Queue a text message; an urgent one goes before all that waits."""
        if self.open:
            self.protocol.send_text(message)
            self._collect(self._urgent if urgent else self._queue)

    def ask(self) -> None:
        """Ping, and count it in `unanswered` until the pong has come."""
        if self.open:
            self._asked += 1
            self.unanswered += 1
            self._ping(b"%d" % self._asked)

    def _ping(self, payload: bytes) -> None:
        self.protocol.send_ping(payload)
        self._collect(self._urgent)

    def _collect(self, queue: deque[bytes]) -> None:
        for data in self.protocol.data_to_send():
            if data:  # b"" asks for a half-close, which close(2) is about to do better
                queue.append(data)
                self.waiting += len(data)
                if queue is self._urgent:
                    self._replies += len(data)

    def outgoing(self) -> memoryview:
        """What is to be sent next; empty when nothing is."""
        if not self._head and (queue := self._urgent or self._queue):
            self._head = memoryview(queue.popleft())
            if queue is self._urgent:
                self._replies -= len(self._head)
        return self._head

    def sent(self, size: int) -> None:
        """So many bytes of it have gone."""
        self.waiting -= size
        self._head = self._head[size:]
        if not self.waiting and self._farewell:
            self._say_goodbye()

    def unsendable(self) -> None:
        """The connection takes nothing any more; what has come can still be read."""
        self._sealed = True
        self._farewell = None
        self._forget()
        self._head = memoryview(b"")
        self.waiting = 0

    def _forget(self) -> None:
        """Drop what waits, but for a frame that has been begun."""
        self._queue.clear()
        self._urgent.clear()
        self._replies = 0
        self.waiting = len(self._head)

    # Receiving.

    def received(self, data: bytes) -> list[bytes]:
        """Take bytes from the connection; the messages that they complete."""
        self._heard = self.clock()
        self.protocol.receive_data(data)
        messages: list[bytes] = []
        for event in self.protocol.events_received():
            if isinstance(event, Frame) and self.fault is None:
                self._assemble(event, messages)
        self._judge()
        return messages

    def _assemble(self, frame: Frame, messages: list[bytes]) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._parts = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._parts is not None:
            self._parts += frame.data
            if frame.fin:
                messages.append(bytes(self._parts))
                self._parts = None
        elif frame.opcode is Opcode.BINARY:
            self.violated(1003, "a message is binary")
        elif frame.opcode is Opcode.PONG and frame.data == b"%d" % self._asked:
            self.unanswered = 0

    def _judge(self) -> None:
        """Notice what the protocol has made of it: a pong, a close, a fault."""
        error = self.protocol.parser_exc
        if error is not None and not isinstance(error, EOFError) and not self.fault:
            known = isinstance(error, (WebSocketException, UnicodeDecodeError))
            why = safe(str(error)) if known else type(error).__name__
            self.fault = f"the server broke the WebSocket protocol: {why}"
        if self.fault is not None or self.protocol.close_rcvd is not None:
            if not self._sealed:
                self._sealed = True
                self._farewell = None
                self._forget()  # nobody reads data after a close frame
            self.leave()
        self._collect(self._urgent)

    def violated(self, code: int, why: str) -> None:
        """The server does not keep to the framing: close, and remember why."""
        if self.fault is None:
            self.fault = (
                f"the server does not keep to {self.protocol.subprotocol}: {why}"
            )
            self._say_goodbye(code)

    # The end.

    def close(self, code: int, reason: str) -> None:
        """Close, after what waits; from now on nothing is sent."""
        if self.open:
            self._sealed = True
            self._farewell = (code, reason)
            if not self.waiting:
                self._say_goodbye()
        self.leave()

    def abort(self) -> None:
        """Close before what waits, and wait for nobody."""
        self._say_goodbye(1001)
        self._deadline = -math.inf

    def _say_goodbye(self, code: int = 1000) -> None:
        code, reason = self._farewell or (code, "")
        self._farewell = None
        self._sealed = True
        self._forget()
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self._collect(self._urgent)
        self.leave()

    def leave(self) -> None:
        """The rest is a matter of seconds."""
        self._deadline = min(self._deadline, self.clock() + CLOSE_WAIT)

    def over(self, why: str) -> None:
        """The connection has ended."""
        if self.lost is None:
            self.protocol.receive_eof()
            self.lost = why
            self.unsendable()

    # Time.

    def reading(self, wanted: bool) -> bool:
        """Whether to read the connection, given whether its messages are wanted.

        What we owe a server that pings and does not read is bounded, too.
        """
        reading = wanted and self._replies < HIGH
        if reading and not self._reading:
            self._heard = self.clock()  # until now there was nothing to be heard
        self._reading = reading
        return reading

    def tick(self) -> None:
        """Do what the time asks for; and be done when both sides have said goodbye.

        Ping when the other end is silent, or when it cannot know that we live: while
        we do not read, we cannot judge the server; but it pings us, in vain, and any
        byte from us tells it that we are there. While we have something to send and
        cannot, TCP judges.
        """
        now = self.clock()
        done = self.protocol.close_rcvd is not None and not self.waiting
        if done or now >= self._deadline:
            self.over("")
        if not self.open:
            return
        if not self._reading or self.waiting:
            self._heard = now
        elif now - self._heard >= self._patience:
            seconds = f"{self._patience:g} s"
            self.over(f"nothing heard for {seconds}, not even an answer to a ping")
            return
        silent = not self._reading or now - self._heard >= self._interval
        if silent and now - self._pinged >= self._interval:
            self._pinged = now
            self._ping(b"alive")
        elif not silent:
            self._pinged = max(self._pinged, self._heard)

    def due(self) -> float:
        """When `tick` is to be called; infinite when it need not."""
        if self.lost is not None:
            return math.inf
        if not self.open:
            return self._deadline
        # A time that has passed is one that does not apply now (see `tick`).
        now = self.clock()
        times = (self._pinged + self._interval, self._heard + self._patience)
        return min([at for at in times if at > now] + [self._deadline])
