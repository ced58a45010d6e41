"""The socket half of a session: frames in, frames out, liveness and an orderly end.

Knows the loop and RFC 6455 frames; it does not know what a message means, nor that
there is a process. Its owner is told of bytes of the request head, of events, of room
for output and of the end.

Every end is: what is queued, a close frame or the last byte of an answer,
shutdown(SHUT_WR), then input read and discarded to its end or two seconds, then close.
A close with unread input would reset the connection and lose what was sent.
"""

from __future__ import annotations

import os

from chimirror.liveness import DEAD, PING, Liveness
from chimirror.system import tcp
from chimirror.system.loop import ERROR, HANGUP, NEVER, PEER_CLOSED, READ, WRITE
from chimirror.system.outbox import LOW, Outbox, write_now
from chimirror.wire import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.options import Config
    from chimirror.system.loop import Loop
    from chimirror.wire.frames import Event

    class Owner(Protocol):
        """Who is told."""

        def on_head(self, data: bytes) -> None: ...

        def on_head_timeout(self) -> None: ...

        def on_events(self, events: list[Event], size: int) -> None: ...

        def on_output_room(self) -> None: ...

        def on_peer_leaving(self) -> None: ...

        def on_peer_gone(self, reason: str) -> None: ...

        def on_connection_closed(self) -> None: ...

        def next_timeout(self, now: float) -> float: ...

        def on_fault(self, error: Exception) -> None: ...


CONNECTING, OPEN, CLOSING, LINGERING, CLOSED = range(5)

READ_SIZE = 64 * 1024
CLOSE_TIMEOUT = (
    2.0  # seconds: for a close frame to leave, and for the peer's last words
)


class Connection:
    """One client's connection, from its first byte to the closed descriptor.

    Args:
        owner: told of everything that happens.
        source, sink: where to read and to write; one descriptor, or two pipes.
    """

    __slots__ = (
        "_config",
        "_eof",
        "_guarded",
        "_leaving",
        "_liveness",
        "_loop",
        "_outbox",
        "_owner",
        "_paused",
        "_pong",
        "_reader",
        "_unsent",
        "armed",
        "deadline",
        "sink",
        "source",
        "state",
    )

    def __init__(
        self, owner: Owner, loop: Loop, config: Config, source: int, sink: int
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._config = config
        self.source = source
        self.sink = sink
        self.state = CONNECTING
        self._reader: frames.FrameReader | None = None
        self._outbox: Outbox | None = None
        self._paused = False
        self._leaving = False  # its end is seen, its last input perhaps not yet read
        self._eof = False
        self._guarded = False  # CLOSE_TIMEOUT bounds the rest of the output
        self._pong: bytes | None = None
        self._unsent = 0
        self._liveness = Liveness(loop.now)
        self.armed = 0
        self.deadline = NEVER
        loop.arm(self, loop.now + config.handshake_timeout)
        loop.watch(source, self, READ)

    # From the request to the open connection

    def hold(self) -> None:
        """The request is read: read no more until it is answered."""
        self._paused = True
        self._loop.disarm(self)
        self._watch()

    def answer(self, response: bytes) -> None:
        """Send a final HTTP response and end."""
        if self.state == CONNECTING:
            self.state = CLOSING
            self._guarded = True
            self._paused = False
            self._loop.arm(self, self._loop.now + CLOSE_TIMEOUT)
            self._put([response])
            self._end_when_sent()

    def open(self, response: bytes, early: bytes) -> None:
        """Send the 101 and what belongs to it; serve what came with the request."""
        self.state = OPEN
        self._reader = frames.FrameReader(self._config.max_message)
        self._put([response])
        self.resume()
        self._keep_alive(self._loop.now)
        if early and self.state == OPEN:
            self._owner.on_events(self._reader.receive(early), len(early))

    # Output

    @property
    def backlog(self) -> int:
        """Bytes that wait for the client to read."""
        return self._outbox.size if self._outbox else 0

    def send(self, buffers: list[bytes]) -> None:
        """Send complete data frames; dropped once the connection is not open."""
        if self.state == OPEN:
            self._put(buffers)

    def send_pong(self, payload: bytes) -> None:
        """Answer a ping, before queued data; only the latest one if output waits."""
        if self.state != OPEN:
            return
        if self._outbox is None:
            self._put([frames.pong(payload)])
        else:
            self._pong = payload  # RFC 6455 5.5.3: the most recent ping is enough

    def _put(self, buffers: list[bytes]) -> None:
        if self.sink < 0:
            return
        if self._outbox is not None:
            self._outbox.push(buffers)
            return
        try:
            rest = write_now(self.sink, buffers)
        except OSError:
            self._sink_broken()
            return
        if rest:
            self._outbox = Outbox(rest)
            self._watch()

    def _put_first(self, unit: bytes) -> None:
        if self._outbox is None:
            self._put([unit])
        else:
            self._outbox.push_front(unit)

    def _flush(self) -> None:
        outbox = self._outbox
        if outbox is None:
            return
        if self._pong is not None:
            outbox.push_front(frames.pong(self._pong))
            self._pong = None
        try:
            empty = outbox.flush(self.sink)
        except OSError:
            self._sink_broken()
            return
        if empty:
            self._outbox = None
            self._watch()
            self._end_when_sent()
        if outbox.size <= LOW and self.state == OPEN:
            self._owner.on_output_room()

    def _sink_broken(self) -> None:
        """Nobody reads us any more; what was sent to us may still wait to be read."""
        if self.sink != self.source:
            self._loop.close(self.sink)
        self.sink = -1
        self._outbox = None
        if self.state in (CLOSING, LINGERING):
            self.finish()
            return
        self._leave()
        if self.state != CLOSED:
            self._watch()
            self._owner.on_output_room()

    # Input

    def pause(self) -> None:
        """Read no messages until `resume`: the client's TCP window fills."""
        if not self._paused:
            self._paused = True
            self._watch()

    def resume(self) -> None:
        """Read again; the time in between does not count as silence."""
        if self._paused:
            self._paused = False
            self._liveness.hear(self._loop.now)
            self._watch()

    @property
    def paused(self) -> bool:
        """Whether we have stopped reading."""
        return self._paused

    def _watch(self) -> None:
        """Poll for what this state wants: this is the whole back-pressure."""
        mask = READ
        if self._eof:
            mask = 0
        elif self._paused:
            mask = 0 if self._leaving else PEER_CLOSED
        if self.sink != self.source:
            self._loop.watch(self.source, self, mask)
            if self.sink >= 0:
                self._loop.watch(self.sink, self, WRITE if self._outbox else 0)
        else:
            self._loop.watch(self.source, self, mask | (WRITE if self._outbox else 0))

    def on_event(self, fd: int, events: int) -> None:
        """The descriptor is ready."""
        if events & WRITE or (events & ERROR and fd != self.source):
            self._flush()
        if self.state == CLOSED or fd != self.source:
            return
        if self._paused:
            if events & (ERROR | HANGUP | PEER_CLOSED):
                self._leave()
                if self.state != CLOSED:
                    self._watch()
        elif events & (READ | ERROR | HANGUP):
            self._read()

    def _read(self) -> None:
        try:
            data = os.read(self.source, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        self._liveness.hear(self._loop.now)
        if self.state == OPEN and self._reader is not None:
            self._owner.on_events(self._reader.receive(data), len(data))
        elif self.state == CONNECTING:
            self._owner.on_head(data)

    def _leave(self) -> None:
        """The peer has gone, or goes, while its last input may still be unread."""
        if not self._leaving:
            self._leaving = True
            self._owner.on_peer_leaving()

    def _ended(self) -> None:
        """End of input: nothing more will come."""
        if self.state == CLOSING and self._outbox is not None:
            # Half-closed, as by `nc -N`: what is queued is still owed.
            self._eof = True
            self._watch()
            return
        gone = self.state == OPEN
        self.finish()
        if gone:
            self._owner.on_peer_gone("client gone")

    # The end

    def close(self, code: int, reason: str, *, discard: bool) -> None:
        """Send a close frame and end the connection.

        Args:
            code: RFC 6455 section 7.4; 1005 sends a frame without a code.
            reason: at most 123 bytes of it are sent.
            discard: drop queued output and bound the rest by CLOSE_TIMEOUT; else all
                of it goes out first, however long a living client takes.
        """
        if self.state != OPEN:
            return
        self.state = CLOSING
        self._reader = None
        self._guarded = discard
        if discard and self._outbox is not None:
            self._outbox.drop_unsent()
        self._paused = False
        self._put([frames.close(code, reason)])
        if self.state == CLOSING:
            self._watch()
            self._loop.arm(self, self._loop.now + CLOSE_TIMEOUT)
            self._end_when_sent()

    def _end_when_sent(self) -> None:
        if self.state != CLOSING or self._outbox is not None:
            return
        if self.sink < 0 or self._eof:
            self.finish()
            return
        self.state = LINGERING
        if self.sink == self.source:
            tcp.shutdown_write(self.sink)
        else:
            self._loop.close(self.sink)
            self.sink = -1
        self._loop.arm(self, self._loop.now + CLOSE_TIMEOUT)

    def finish(self) -> None:
        """Close the descriptors now."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self._loop.disarm(self)
        self._outbox = self._reader = None
        if self.sink >= 0 and self.sink != self.source:
            self._loop.close(self.sink)
        self._loop.close(self.source)
        self.source = self.sink = -1
        self._owner.on_connection_closed()

    # Time

    def on_timer(self, now: float) -> None:
        """The guard of the present state is up."""
        if self.state == CONNECTING:
            self._owner.on_head_timeout()
        elif self.state == OPEN:
            self._keep_alive(now)
        elif self.state == CLOSING and not self._guarded:
            self._keep_alive(now)
        elif self.state == LINGERING and self._still_leaving():
            self._loop.arm(self, now + CLOSE_TIMEOUT)
        else:
            self.finish()

    def _keep_alive(self, now: float) -> None:
        """Judge the client's life, ping it, and come back when it is time."""
        deadline = self._owner.next_timeout(now)
        if self.state not in (OPEN, CLOSING) or self._guarded:
            return
        interval = self._config.ping_interval
        if interval is not None:
            timings = (interval, self._config.ping_timeout)
            blocked, reading = self._outbox is not None, not self._paused
            verdict = self._liveness.judge(
                now, timings, self, reading=reading, blocked=blocked
            )
            if verdict == DEAD:
                self._abandon()
                return
            if verdict == PING and self.state == OPEN:
                self._put_first(frames.ping(b""))
            by_transport = blocked or not reading
            check = self._liveness.next_check(timings, by_transport=by_transport)
            deadline = min(deadline, check)
        self._loop.arm(self, deadline)

    def _abandon(self) -> None:
        """The peer is dead: nothing can be told it any more."""
        was_open = self.state == OPEN
        self.finish()
        if was_open:
            self._owner.on_peer_gone("ping timeout")

    def _still_leaving(self) -> bool:
        """Whether what we sent is still being taken: then closing would cut it off."""
        before, self._unsent = self._unsent, self.unsent()
        return self._unsent > 0 and (not before or self._unsent < before)

    # What the judgement asks of the transport

    def stalled(self) -> bool:
        """See tcp.stalled."""
        return self.sink >= 0 and tcp.stalled(self.sink)

    def unanswered_for(self) -> float:
        """See tcp.unanswered_for."""
        return tcp.unanswered_for(self.sink) if self.sink >= 0 else 0.0

    def unsent(self) -> int:
        """See tcp.unsent."""
        return tcp.unsent(self.sink) if self.sink >= 0 else 0

    # Faults

    def on_fault(self, error: Exception) -> None:
        """A bug of ours while serving this connection: the owner answers for it."""
        self._owner.on_fault(error)
