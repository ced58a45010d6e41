"""How what has come gets to whoever reads it: iteration, polling, handlers.

Pure, as flows (see `steps`). An output is read once: by its handler if it has one,
else by whoever asks first. Handlers are called by the calls that read, in their place
in the order. Reading one stream keeps the other, up to the bound of the inbox; if then
nobody reads that, the reader is told, instead of waiting for ever.
"""

from __future__ import annotations

from functools import partial
from weakref import WeakSet

from .errors import NotDelivered, Unread
from .events import Exit, Output
from .inbox import Inbox
from .texts import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    from .steps import Flow

    T = TypeVar("T")

KINDS = ("stdout", "stderr", "error", "exit")
OUTPUT = ("stdout", "stderr")


class Reader:
    """Whoever reads some streams, for as long as it exists."""

    __slots__ = ("streams", "__weakref__")

    def __init__(self, streams: Collection[str]) -> None:
        self.streams = streams


class Reading:
    """The reading half of a session."""

    def __init__(self, caller: Callable[[], object]) -> None:
        """Nobody has read anything yet.

        Args:
            caller: says who calls: a thread or a task.
        """
        self._caller = caller
        self._inbox = Inbox()
        self._readers: WeakSet[Reader] = WeakSet()
        self._handlers: dict[str, Callable[..., object]] = {}
        self._handling: object = None  # who calls a handler at the moment
        self._told = False  # the handler of the exit has been called

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        raise NotImplementedError

    def outcome(self) -> Exit | None:
        """How the application ended; None if we did not stay to see it.

        Raises:
            SessionLost: nobody has said so.
        """
        raise NotImplementedError

    def on(self, kind: str, handler: Callable[..., object]) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: there are {', '.join(KINDS)}")
        self._handlers[kind] = handler

    def reader(self, *streams: str) -> Reader:
        """Claim these streams, for as long as the reader exists."""
        reader = Reader(streams)
        self._readers.add(reader)
        return reader

    def discard(self, stream: str) -> None:
        self._inbox.discard(stream)

    def take(self, reader: Reader) -> Flow[Output | None]:
        """The next output of the reader's streams; None at the end."""

        def attempt(streams: Collection[str]) -> Output | None:
            found = self._inbox.take(streams)
            return Output(*found) if found else None  # type: ignore[arg-type]

        return (yield from self._pull(attempt, reader.streams))

    def chunk(self, reader: Reader) -> Flow[bytes | None]:
        """The next piece of the reader's stream; None at the end."""
        output = yield from self.take(reader)
        return output.data if output is not None else None

    def line(
        self, reader: Reader, encoding: str, errors: str, limit: int
    ) -> Flow[str | None]:
        """The next line of the reader's stream; None at the end."""
        (stream,) = reader.streams

        def attempt(_: Collection[str]) -> bytes | None:
            return self._inbox.line(stream, limit, last=self.finished)

        found = yield from self._pull(attempt, reader.streams)
        return found.decode(encoding, errors) if found is not None else None

    def _pull(
        self, attempt: Callable[[Collection[str]], T | None], streams: Collection[str]
    ) -> Flow[T | None]:
        """Get what `attempt` wants of these streams, serving handlers on the way."""
        while True:
            # Before, as what comes while a handler runs is later than the end.
            finished = self.finished
            # One handler at a time, whichever call it was called by: for the order.
            handled = self._handlers.keys() & set(OUTPUT)
            handling = self._handling is not None
            if handling and self._handling == self._caller():
                raise RuntimeError("a handler cannot read: it is called by who does")
            served = set() if handling else {"error", *handled}
            mine = set(streams) - handled
            oldest = self._inbox.oldest(mine | served)
            if oldest in served:
                yield from self._handle(oldest)
            elif mine and (found := attempt(mine)) is not None:
                return found
            elif handling or not finished:
                self._make_way(streams)
                yield None
            elif oldest is None:
                yield from self._end()
                return None

    def _handle(self, kind: str) -> Flow[None]:
        data = self._inbox.piece(kind)
        handler = self._handlers.get(kind)
        if kind != "error":
            yield from self._call(handler, data)
        elif handler is not None:
            yield from self._call(handler, printable(data))
        else:
            raise NotDelivered(f"the server says: {printable(data)}")

    def _call(self, handler: Callable[..., object] | None, told: object) -> Flow[None]:
        assert handler is not None
        self._handling = self._caller()
        try:
            yield partial(handler, told)
        finally:
            self._handling = None

    def _end(self) -> Flow[None]:
        outcome = self.outcome()
        if outcome is not None and "exit" in self._handlers and not self._told:
            self._told = True
            yield from self._call(self._handlers["exit"], outcome)

    def _make_way(self, streams: Collection[str]) -> None:
        """See to it that what we wait for can come.

        Raises:
            Unread: output that nobody reads is in its way.
        """
        if not self._inbox.full or self._inbox.relax():
            return
        claimed = {name for reader in self._readers for name in reader.streams}
        for name in OUTPUT:
            if (
                name not in streams
                and name not in claimed
                and self._inbox.oldest([name])
            ):
                raise Unread(
                    f"nobody reads {name}, and nothing else can come before it has "
                    "been read: read it too, or discard it"
                )
