"""Reading half of a session: distributes output to iterators, calls and handlers.

Pure, as flows (`flow`). Each output is read once: by the handler of its stream if
there is one, else by the first call that asks. The calls that read also call the
handlers, in order of arrival.

While one stream is read, the other is kept up to the limit of the buffers. If the
other stream has no reader, the call raises Unread instead of waiting for ever.
"""

from __future__ import annotations

from functools import partial
from weakref import WeakSet

from chimirror.client.buffers import OutputBuffer
from chimirror.client.errors import NotDelivered, Unread
from chimirror.client.results import Exit, Output
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    from chimirror.client.flow import Flow
    from chimirror.client.window import OutputWindow

    T = TypeVar("T")

EVENT_KINDS = ("stdout", "stderr", "error", "exit")
OUTPUT_STREAMS = ("stdout", "stderr")


class StreamClaim:
    """Claim of a reader to some streams, for as long as the object exists."""

    __slots__ = ("streams", "__weakref__")

    def __init__(self, streams: Collection[str]) -> None:
        self.streams = streams


class OutputReader:
    """Reading half of a session."""

    def __init__(
        self, current_caller: Callable[[], object], window: OutputWindow
    ) -> None:
        """Initialize without readers and handlers.

        Args:
            current_caller: Returns the thread or task that is running.
            window: Limits the output that is on its way.
        """
        self._current_caller = current_caller
        self._window = window
        self._buffer = OutputBuffer(window)
        self._claims: WeakSet[StreamClaim] = WeakSet()
        self._handlers: dict[str, Callable[..., object]] = {}
        self._handler_caller: object = None  # the caller that runs a handler now
        self._exit_notified = False  # the exit handler has been called

    @property
    def finished(self) -> bool:
        """Whether no more output will come."""
        raise NotImplementedError

    def final_exit(self) -> Exit | None:
        """Return the exit of the application, None if this side closed the session.

        Raises:
            SessionLost: The exit status is unknown.
        """
        raise NotImplementedError

    def on(self, kind: str, handler: Callable[..., object]) -> None:
        if kind not in EVENT_KINDS:
            raise ValueError(
                f"unknown kind {kind!r}: write one of {', '.join(EVENT_KINDS)}"
            )
        self._handlers[kind] = handler

    def claim(self, *streams: str) -> StreamClaim:
        """Claim these streams for as long as the returned object exists."""
        claim = StreamClaim(streams)
        self._claims.add(claim)
        return claim

    def discard(self, stream: str) -> None:
        self._buffer.discard(stream)

    def next_output(self, claim: StreamClaim) -> Flow[Output | None]:
        """Wait for the next output of the claimed streams, None at the end."""

        def take(streams: Collection[str]) -> Output | None:
            found = self._buffer.take(streams)
            return Output(*found) if found else None  # type: ignore[arg-type]

        return (yield from self._read(take, claim.streams))

    def next_chunk(self, claim: StreamClaim) -> Flow[bytes | None]:
        """Wait for the next piece of the claimed stream, None at the end."""
        output = yield from self.next_output(claim)
        return output.data if output is not None else None

    def next_line(
        self, claim: StreamClaim, encoding: str, errors: str, limit: int
    ) -> Flow[str | None]:
        """Wait for the next line of the claimed stream, None at the end."""
        (stream,) = claim.streams

        def take(_: Collection[str]) -> bytes | None:
            return self._buffer.take_line(stream, limit, last=self.finished)

        found = yield from self._read(take, claim.streams)
        return found.decode(encoding, errors) if found is not None else None

    def _read(
        self, take: Callable[[Collection[str]], T | None], streams: Collection[str]
    ) -> Flow[T | None]:
        """Call handlers until `take` returns a value for one of these streams."""
        while True:
            # Read before handlers run: output that arrives meanwhile is still unread.
            finished = self.finished
            # Only one handler runs at a time, across all calls, to keep the order.
            handled = self._handlers.keys() & set(OUTPUT_STREAMS)
            in_handler = self._handler_caller is not None
            if in_handler and self._handler_caller == self._current_caller():
                raise RuntimeError("a handler cannot read: the calls that read call it")
            handled_now = set() if in_handler else {"error", *handled}
            wanted = set(streams) - handled
            oldest = self._buffer.oldest(wanted | handled_now)
            if oldest in handled_now:
                yield from self._handle_oldest(oldest)
            elif wanted and (found := take(wanted)) is not None:
                return found
            elif in_handler or not finished:
                self._ensure_room(streams)
                yield None
            elif oldest is None:
                yield from self._notify_exit()
                return None

    def _handle_oldest(self, kind: str) -> Flow[None]:
        data = self._buffer.pop_piece(kind)
        handler = self._handlers.get(kind)
        if kind != "error":
            yield from self._call_handler(handler, data)
        elif handler is not None:
            yield from self._call_handler(handler, escape_line(data))
        else:
            raise NotDelivered(f"the server says: {escape_line(data)}")

    def _call_handler(
        self, handler: Callable[..., object] | None, value: object
    ) -> Flow[None]:
        assert handler is not None
        self._handler_caller = self._current_caller()
        try:
            yield partial(handler, value)
        finally:
            self._handler_caller = None

    def _notify_exit(self) -> Flow[None]:
        exit_ = self.final_exit()
        if exit_ is not None and "exit" in self._handlers and not self._exit_notified:
            self._exit_notified = True
            yield from self._call_handler(self._handlers["exit"], exit_)

    def _ensure_room(self, streams: Collection[str]) -> None:
        """Make room for the streams that the caller waits for.

        A full window does not tell whether the process has ended. So output without a
        reader may fill the buffer, as that of a process without a terminal.

        Raises:
            Unread: A full buffer holds output of a stream without a reader.
        """
        has_room = not self._buffer.full or self._buffer.clear_full()
        if has_room and not self._window.is_full:
            return
        claimed = {name for claim in self._claims for name in claim.streams}
        for name in OUTPUT_STREAMS:
            if (
                name not in streams
                and name not in claimed
                and self._buffer.oldest([name])
            ):
                if has_room:
                    self._window.widen()
                    return
                raise Unread(
                    f"unread {name} blocks all other output: read it as well, or "
                    "discard it"
                )
