"""A duplex byte stream with back-pressure: one socket, or two pipes.

Knows bytes and readiness, no protocol: a subclass says what data means and when the
stream ends. Input and output are closed by themselves. That the peer goes is told
early (`on_leaving`), even while we do not read; what it sent before is still read.
"""

from __future__ import annotations

from chimirror.system.lean import os
from chimirror.system.loop import ERROR, HANGUP, PEER_CLOSED, READ, WRITE
from chimirror.system.outbox import LOW, Outbox, write_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.system.loop import Loop
    from chimirror.system.outbox import Bytes

READ_SIZE = 64 * 1024


class Stream:
    """See the module; a subclass defines what each `on_` method does.

    Args:
        loop: reports readiness.
        source, sink: where to read and to write; ours from now on.
    """

    __slots__ = (
        "_ended",
        "_leaving",
        "_loop",
        "_paused",
        "outbox",
        "sink",
        "source",
    )
    read_size = READ_SIZE  # bytes, once per turn

    def __init__(self, loop: Loop, source: int, sink: int) -> None:
        self._loop = loop
        self.source = source
        self.sink = sink
        self.outbox: Outbox | None = None  # what the peer has not yet taken
        self._paused = False
        self._leaving = False  # the peer goes; its last input is perhaps not yet read
        self._ended = False  # end of input is read, output is still owed
        loop.watch(source, self, READ)

    # For the subclass to define

    def on_data(self, data: bytes) -> None:
        """Input has come."""
        raise NotImplementedError

    def on_input_end(self) -> None:
        """No more input will come; `finish`, or `end_input` to send on."""
        raise NotImplementedError

    def on_leaving(self) -> None:
        """The peer goes, or reads us no more; told once."""
        raise NotImplementedError

    def on_room(self) -> None:
        """The outbox is nearly empty again."""
        raise NotImplementedError

    def on_sent(self) -> None:
        """The outbox is empty."""
        raise NotImplementedError

    def on_fault(self, error: Exception) -> None:
        """A bug of ours while serving this stream."""
        raise NotImplementedError

    # Output

    @property
    def backlog(self) -> int:
        """Bytes that wait for the peer to read."""
        return self.outbox.size if self.outbox else 0

    def put(self, buffers: Sequence[Bytes]) -> None:
        """Send one unit, or keep what the kernel does not take now."""
        if self.sink < 0:
            return
        if self.outbox is not None:
            self.outbox.push(buffers)
            return
        try:
            rest = write_now(self.sink, buffers)
        except OSError:
            self._break_sink()
            return
        if rest:
            self.outbox = Outbox(rest)
            self._watch()

    def put_first(self, unit: bytes) -> None:
        """Send a unit before all others that have not begun."""
        if self.outbox is None:
            self.put([unit])
        else:
            self.outbox.push_front(unit)

    def flush(self) -> None:
        """Send what has been kept, as far as the kernel takes it."""
        outbox = self.outbox
        if outbox is None:
            return
        try:
            empty = outbox.flush(self.sink)
        except OSError:
            self._break_sink()
            return
        if empty:
            self.outbox = None
            self._watch()
        if outbox.size <= LOW:
            self.on_room()
        if empty and self.outbox is None:
            self.on_sent()

    def drop_unsent(self) -> None:
        """Forget the units that have not begun."""
        if self.outbox is not None:
            self.outbox.drop_unsent()

    def end_output(self) -> None:
        """Close our direction: shutdown(SHUT_WR), or the second pipe."""
        if self.sink < 0:
            return
        if self.sink == self.source:
            from chimirror.system import tcp

            tcp.shutdown_write(self.sink)
        else:
            self._loop.close(self.sink)
            self.sink = -1

    def _break_sink(self) -> None:
        """Nobody reads us any more; what was sent to us may still wait to be read."""
        if self.sink != self.source:
            self._loop.close(self.sink)
        self.sink = -1
        self.outbox = None
        self._leave()
        if self.source >= 0:
            self._watch()
            self.on_room()
            self.on_sent()

    # Input

    @property
    def paused(self) -> bool:
        """Whether we have stopped reading."""
        return self._paused

    def pause(self) -> None:
        """Read nothing until `resume`: the peer's TCP window fills.

        The poller is told only once there is something that we do not read: most
        pauses, that of each start among them, are over before.
        """
        self._paused = True

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self._watch()

    def end_input(self) -> None:
        """Poll for input no more: its end has been read."""
        self._ended = True
        self._watch()

    @property
    def ended(self) -> bool:
        """Whether the end of input has been read."""
        return self._ended

    def _watch(self) -> None:
        """Poll for what is wanted now: this is the whole back-pressure."""
        if self.source < 0:
            return
        mask = READ
        if self._ended:
            mask = 0
        elif self._paused:
            mask = 0 if self._leaving else PEER_CLOSED
        output = WRITE if self.outbox is not None else 0
        if self.sink == self.source:
            self._loop.watch(self.source, self, mask | output)
            return
        self._loop.watch(self.source, self, mask)
        if self.sink >= 0:
            self._loop.watch(self.sink, self, output)

    def on_event(self, fd: int, events: int) -> None:
        """One of the descriptors is ready."""
        if events != READ and (
            events & WRITE or (fd == self.sink != self.source and events & ERROR)
        ):
            self.flush()
        if self.source < 0 or fd != self.source or self._ended:
            return
        if not self._paused:
            if events & (READ | ERROR | HANGUP):
                self._read()
        elif events & (ERROR | HANGUP | PEER_CLOSED):
            self._leave()
            self._watch()
        else:
            self._watch()

    def _read(self) -> None:
        try:
            data = os.read(self.source, self.read_size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.on_data(data)
        else:
            self.on_input_end()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self.on_leaving()

    # The end

    def finish(self) -> None:
        """Close both descriptors now; safe to repeat."""
        self.outbox = None
        if self.sink >= 0 and self.sink != self.source:
            self._loop.close(self.sink)
        if self.source >= 0:
            self._loop.close(self.source)
        self.source = self.sink = -1

    # What the kernel knows

    def stalled(self) -> bool:
        """See tcp.stalled."""
        from chimirror.system import tcp

        return self.sink >= 0 and tcp.stalled(self.sink)

    def unanswered_for(self) -> float:
        """See tcp.unanswered_for."""
        from chimirror.system import tcp

        return tcp.unanswered_for(self.sink) if self.sink >= 0 else 0.0

    def unsent(self) -> int:
        """See tcp.unsent."""
        from chimirror.system import tcp

        return tcp.unsent(self.sink) if self.sink >= 0 else 0
