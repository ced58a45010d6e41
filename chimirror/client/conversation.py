"""A session as its client sees it: what is said, what has come, how it ended.

Everything that the library does in a session is here, once, as flows (see `steps`):
it never waits, knows no socket and no clock, and is the same under both faces.
Back-pressure is two bounds: more than `wire.HIGH` bytes to be sent, and whoever sends
waits; more than `inbox.HIGH` unread, and the connection is not read.
"""

from __future__ import annotations

from itertools import chain

from . import stdio
from .errors import NotConnected, ProtocolViolation, SessionLost, SessionOver
from .events import Completed, Exit, Output, exit_of_close
from .framing import signal_name
from .inbox import STREAMS
from .reading import OUTPUT, Reading
from .texts import close_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .framing import Framing
    from .opening import Plan
    from .steps import Flow
    from .wire import Wire


class Conversation(Reading):
    """One session.

    Attributes:
        wire: its WebSocket.
        plan: how its server was reached.
        id: of the session, "" until it is told.
        exit: what the exit message said, None until it has come.
    """

    def __init__(
        self,
        wire: Wire,
        framing: Framing,
        plan: Plan,
        subprotocol: str,
        caller: Callable[[], object],
        *,
        greeted: bool = True,
    ) -> None:
        """A session over a WebSocket whose request waits to be sent.

        Args:
            caller: says which thread or task calls.
            greeted: it is open once its first message has come, which tells its id.
        """
        super().__init__(caller)
        self.wire = wire
        self.id = ""
        self.exit: Exit | None = None
        self.plan = plan
        self._framing = framing
        self._subprotocol = subprotocol
        self._greeted = greeted and framing.whole
        self._credentials: stdio.Opened | None = None
        self.pty = False
        self._begun = False  # a message has come
        self._sending = False  # somebody is in the middle of it
        self._eof = False  # of our input
        self._left = False  # closed from here
        # What `communicate` has still to send, and has read.
        self._exchange: tuple[Iterator[bytes], dict[str, bytearray]] | None = None

    # From the server.

    def received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        try:
            for message in self.wire.received(data):
                self._act(self._framing.decode(message))
        except stdio.Violation as error:
            self.wire.violated(error.code, str(error))

    def _act(self, event: stdio.Event | None) -> None:
        self._begun = True
        match event:
            case Output() if self.exit is None:  # which is the last message
                self._inbox.put(event.stream, event.data)
            case stdio.Notice():
                self._inbox.put("error", event.text or b"?")
            case stdio.Opened():
                self.id = safe(event.id, 64)
                self._credentials = event
                self.pty = event.pty
            case Exit():
                self.exit = event
                self.wire.leave()

    @property
    def wants(self) -> bool:
        """Whether there is room for more; what follows an exit needs none."""
        return not self._inbox.full or self.exit is not None

    # The beginning.

    def opened(self) -> Flow[None]:
        """Wait until there is a session.

        Raises:
            NotConnected: there will be none.
        """
        while self.wire.connecting:
            yield None
        self.plan.judge(self.wire, self._subprotocol)
        while self._greeted and not self._begun and not self.finished:
            yield None

    @property
    def awaited(self) -> str:
        """What `opened` waits for."""
        return "no answer to the handshake" if self.wire.connecting else "no message"

    # The end.

    @property
    def finished(self) -> bool:
        return self._left or self.wire.ended

    def verdict(self) -> Exit:
        """How the application ended.

        Raises:
            SessionLost: nobody has said so.
        """
        close = self.wire.close_received
        if self.exit is not None:
            code, reason = close or (None, "")
            return self.exit._replace(reason=reason, close_code=code)
        told = exit_of_close(*close) if close and not self._framing.whole else None
        if told is not None:
            return told
        raise self._loss()

    def _loss(self) -> SessionLost:
        wire = self.wire
        code, reason = wire.close_received or (1006, wire.lost or "the server hung up")
        if wire.fault is not None:
            return ProtocolViolation(wire.fault, self.id, code, wire.fault)
        how = close_text(code, reason)
        if self._left:
            how = "it was closed from here"
        session = f" (session {self.id})" if self.id else ""
        text = f"the session ended before its exit status came{session}: {how}"
        return SessionLost(text, self.id, code, safe(reason, 256))

    @property
    def status(self) -> Exit | None:
        """How the application ended, None as long as nobody knows."""
        try:
            return self.verdict() if self.wire.ended else None
        except SessionLost:
            return None

    def outcome(self) -> Exit | None:
        return None if self._left else self.verdict()

    def wait(self) -> Flow[Exit]:
        """Wait for the end, calling handlers on the way."""
        yield from self._pull(lambda _: None, ())
        return self.verdict()

    def run(self) -> Flow[Exit]:
        """The same, dropping what has neither handler nor reader."""
        wanted = set(self._handlers).union(*(r.streams for r in self._readers))
        self._inbox.discard(*(name for name in OUTPUT if name not in wanted))
        return (yield from self.wait())

    def close(self, code: int, reason: str) -> Flow[None]:
        """Close, when what was sent has gone, and wait until the connection has."""
        if not self.finished:
            self._left = True
            self._inbox.discard(*STREAMS)
        self.wire.close(code, reason)
        while self.wire.lost is None:
            yield None

    def abort(self) -> None:
        """Close at once."""
        self._left = self._left or not self.finished
        self.wire.abort()

    # To the server.

    def send(self, data: object) -> Flow[None]:
        """Send to standard input; waits while the connection is full."""
        messages = self._framing.messages(data)
        yield from self._turn()
        try:
            for message in messages:
                while self.wire.full and self.wire.open:
                    yield None
                self._require_input()
                self.wire.send(message)
            self._require_input()
        finally:
            self._sending = False

    def _turn(self) -> Flow[None]:
        """Wait until nobody else is sending: a call's data stay together."""
        while self._sending:
            yield None
        self._sending = True

    def _require_input(self) -> None:
        self._require_open()
        if self._eof:
            raise ValueError("the input has been ended")

    def _require_open(self) -> None:
        if self.wire.open and self.exit is None:
            return
        try:
            how = f"the remote process has ended: {self.verdict()}"
        except SessionLost as error:
            how = str(error)
        raise SessionOver(how)

    def end_input(self) -> Flow[None]:
        """Say that no more input will come."""
        self._require_whole("cannot end the input alone")
        yield from self._turn()
        try:
            if not self._eof:
                self._require_open()
                self.wire.send(stdio.EOF)
                self._eof = True
        finally:
            self._sending = False

    def signal(self, signal: str | int) -> Flow[None]:
        """Send a signal, before all input that waits, and ask for a sign of life."""
        self._require_whole("knows no signals")
        message = stdio.signal(signal_name(signal))
        self._require_open()
        self.wire.send(message, urgent=True)
        self.wire.ask()
        yield from ()

    def resize(self, columns: int, rows: int) -> Flow[None]:
        """Set the size of the terminal, before all input that waits."""
        self._require_whole("knows no terminals")
        if not self.pty:
            raise ValueError("the remote process has no terminal (--pty)")
        self._require_open()
        self.wire.send(stdio.resize(columns, rows), urgent=True)
        yield from ()

    def _require_whole(self, lacking: str) -> None:
        if not self._framing.whole:
            raise ValueError(f"framing {self._framing.name} {lacking}; stdio does")

    # Steering.

    def credentials(self) -> dict[str, str]:
        """What `authorize` is to be told.

        Raises:
            SessionOver: it can do nothing any more.
            NotConnected: the server offers no control.
        """
        self._require_whole("knows no secret to steer a session with")
        self._require_open()
        told = self._credentials
        if told is None or not told.secret:
            raise NotConnected("the server says nothing to steer this session with")
        return {"session": told.id, "secret": told.secret}

    # All at once.

    def communicate(self, data: object) -> Flow[Completed]:
        """Send everything, end the input, and read everything.

        When it was interrupted, the next call goes on with it, whatever its data.
        """
        self._require_whole("cannot end the input alone")
        yield from self._turn()
        try:
            if self._exchange is None:
                end = () if self._eof else (stdio.EOF,)
                messages = chain(self._framing.messages(data), end)
                self._exchange = messages, {name: bytearray() for name in OUTPUT}
                self._eof = True
            yield from self._exchanged(*self._exchange)
        finally:
            self._sending = False
        output = {name: bytes(data) for name, data in self._exchange[1].items()}
        return Completed(**output, exit=self.verdict())

    def _exchanged(
        self, messages: Iterator[bytes], output: dict[str, bytearray]
    ) -> Flow[None]:
        reader = self.reader(*OUTPUT)

        def attempt(streams: Collection[str]) -> tuple[str, bytes] | None:
            while self.wire.open and not self.wire.full:
                if (message := next(messages, None)) is None:
                    break
                self.wire.send(message)
            return self._inbox.take(streams)

        while found := (yield from self._pull(attempt, reader.streams)):
            output[found[0]] += found[1]
