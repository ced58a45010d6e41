"""The socket half of a session: frames in, frames out, liveness and an orderly end.

Knows RFC 6455 frames over a byte stream; it does not know what a message means, nor
that there is a process. Its owner is told of the request head, of events, of room for
output and of the end.

Every end is: what is queued, a close frame or the last byte of an answer,
shutdown(SHUT_WR), then input read and discarded to its end or two seconds, then close.
A close with unread input would reset the connection and lose what was sent.
"""

from __future__ import annotations

from chimirror.system.loop import NEVER
from chimirror.system.stream import Stream
from chimirror.wire import frames, headers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from chimirror.liveness import Liveness
    from chimirror.options import Config
    from chimirror.system.loop import Loop
    from chimirror.wire.contract import Bytes
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

CLOSE_TIMEOUT = 2.0  # seconds: for a close frame to leave, and the peer's last words


class Connection(Stream):
    """One client's connection, from its first byte to the closed descriptor.

    Args:
        owner: told of everything that happens.
        loop: of this process.
        config: of the command line, till it is opened under an application's.
        source, sink: where to read and to write; one descriptor, or two pipes.
    """

    __slots__ = (
        "_guarded",
        "_liveness",
        "_owner",
        "_pong",
        "_reader",
        "_unsent",
        "armed",
        "config",
        "deadline",
        "state",
    )

    def __init__(
        self, owner: Owner, loop: Loop, config: Config, source: int, sink: int
    ) -> None:
        super().__init__(loop, source, sink)
        self._owner = owner
        self.config = config
        self.state = CONNECTING
        self._reader: frames.FrameReader | None = None
        self._guarded = False  # CLOSE_TIMEOUT bounds the rest of the output
        self._liveness: Liveness | None = None  # there from the first check on
        self._pong: bytes | None = None
        self._unsent = 0
        self.armed = 0
        self.deadline = NEVER

    # From the request to the open connection

    def begin(self) -> None:
        """Look for the request: mostly it is here, and costs no turn and no timer."""
        try:
            self._read()
            if self.state == CONNECTING and not self.paused:
                self._loop.arm(self, self._loop.now + self.config.handshake_timeout)
        except Exception as error:  # noqa: BLE001 (as in a turn of the loop)
            self.on_fault(error)

    def hold(self) -> None:
        """The request is read: read no more until it is answered."""
        self._loop.disarm(self)
        self.pause()

    def hand_over(self, owner: Owner) -> None:
        """Whoever is told from now on: it has turned out what the client wants."""
        self._owner = owner

    def answer(self, response: bytes) -> None:
        """Send a final HTTP response and end, however long a reading client takes."""
        if self.state == CONNECTING:
            self._unsent = len(response)
            self._begin_close([response], guarded=True)

    def open(self, response: bytes, early: bytes) -> None:
        """Send the 101 and what belongs to it; serve what came with the request."""
        self.state = OPEN
        self._reader = frames.FrameReader(self.config.max_message)
        self.put([response])
        self.resume()
        self._loop.arm(self, self._loop.now)
        if early and self.state == OPEN:
            self._owner.on_events(self._reader.receive(early), len(early))

    # Output

    def send(self, buffers: Sequence[Bytes]) -> None:
        """Send complete data frames; dropped once the connection is not open."""
        if self.state == OPEN:
            self.put(buffers)

    def send_pong(self, payload: bytes) -> None:
        """Answer a ping, before queued data."""
        if self.state != OPEN:
            return
        if self.outbox is None:
            self.put([headers.pong(payload)])
        else:
            self._pong = payload  # RFC 6455 5.5.3: the most recent ping is enough

    def flush(self) -> None:
        """See Stream; an answer to a ping goes first."""
        if self._pong is not None:
            self.put_first(headers.pong(self._pong))
            self._pong = None
        super().flush()

    def on_room(self) -> None:
        """The client has read on."""
        if self.state == OPEN:
            self._owner.on_output_room()

    # Input

    def resume(self) -> None:
        """Read again; the time in between does not count as silence."""
        if self._paused and self._liveness is not None:
            self._liveness.hear(self._loop.now)
        super().resume()

    def on_data(self, data: bytes) -> None:
        """Any byte is a sign of life; in a closing connection it is nothing more."""
        if self._liveness is not None:
            self._liveness.hear(self._loop.now)
        if self.state == OPEN and self._reader is not None:
            self._owner.on_events(self._reader.receive(data), len(data))
        elif self.state == CONNECTING:
            self._owner.on_head(data)

    def on_leaving(self) -> None:
        """The client goes."""
        if self.state in (CONNECTING, OPEN):
            self._owner.on_peer_leaving()

    def on_input_end(self) -> None:
        """Nothing more will come; what is queued for a half-closed peer is owed."""
        if self.state == CLOSING and self.outbox is not None:
            self.end_input()
            return
        self._lose("client gone")

    def _lose(self, reason: str) -> None:
        """The peer is no more: nothing can be told it."""
        if self.state == OPEN:
            self.state = CLOSING
            self._owner.on_peer_gone(reason)
        self.finish()

    # The end

    def close(self, code: int, reason: str, *, discard: bool) -> bool:
        """Send a close frame and end the connection.

        One that still waits behind output is replaced by one that drops that output.

        Args:
            code: RFC 6455 section 7.4; 1005 sends a frame without a code.
            reason: at most 123 bytes of it are sent.
            discard: drop queued output and bound the rest by CLOSE_TIMEOUT; else all
                of it goes out first, however long a living client takes.

        Returns:
            Whether this is the close frame that the client gets.
        """
        late = self.state == CLOSING and not self._guarded and discard
        if self.state != OPEN and not late:
            return False
        before = self.backlog
        if discard:
            self.drop_unsent()
        # What was dropped had the earlier close frame at its end.
        mine = not late or self.backlog < before
        last = [headers.close(code, reason)] if mine else []
        self._begin_close(last, guarded=discard)
        return mine

    def _begin_close(self, last: list[bytes], *, guarded: bool) -> None:
        self.state = CLOSING
        self._reader = None
        self._pong = None
        self._guarded = guarded
        self._loop.arm(self, self._loop.now + CLOSE_TIMEOUT)
        if last:
            self.put(last)
        self.resume()
        if self.outbox is None:
            self.on_sent()

    def on_sent(self) -> None:
        """Everything is out: if that was the end, close our direction and linger."""
        if self.state != CLOSING:
            return
        if self.sink < 0 or self.ended:
            self.finish()
            return
        self.state = LINGERING
        self.end_output()
        self._loop.arm(self, self._loop.now + CLOSE_TIMEOUT)

    def finish(self) -> None:
        """Close the descriptors now."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self._loop.disarm(self)
        self._reader = None
        super().finish()
        self._owner.on_connection_closed()

    def forget(self) -> None:
        """Let go of the owner: it is over, and so are we."""
        del self._owner

    # Time

    def on_timer(self, now: float) -> None:
        """The guard of the present state is up."""
        if self.state == CONNECTING:
            self._owner.on_head_timeout()
        elif self.state == OPEN or (self.state == CLOSING and not self._guarded):
            self._keep_alive(now)
        elif (self.state == LINGERING or self._unsent) and self._still_leaving():
            self._loop.arm(self, now + CLOSE_TIMEOUT)
        else:
            self.finish()

    def _keep_alive(self, now: float) -> None:
        """Judge the client's life, ping it, and come back when it is time."""
        deadline = self._owner.next_timeout(now)
        if self.state not in (OPEN, CLOSING) or self._guarded:
            return
        if self.config.ping_interval is not None:
            check = self._check_life(now, self.config.ping_interval)
            deadline = min(deadline, check)
        if self.state in (OPEN, CLOSING):
            self._loop.arm(self, deadline)

    def _check_life(self, now: float, interval: float) -> float:
        """Ping the client or give it up, as is due; when to check again."""
        from chimirror.liveness import DEAD, PING, Liveness

        if self._liveness is None:
            self._liveness = Liveness(now)
        timings = (interval, self.config.ping_timeout)
        blocked, reading = self.outbox is not None, not self._paused
        verdict = self._liveness.judge(
            now, timings, self, reading=reading, blocked=blocked
        )
        if verdict == DEAD:
            self._lose("ping timeout")
        elif verdict == PING and self.state == OPEN:
            self.put_first(headers.ping(b""))
        return self._liveness.next_check(timings, by_transport=blocked or not reading)

    def _still_leaving(self) -> bool:
        """Whether what we sent is still being taken: then closing would cut it off."""
        before, self._unsent = self._unsent, self.unsent() + self.backlog
        return self._unsent > 0 and (not before or self._unsent < before)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours while serving this connection: the owner answers for it."""
        self._owner.on_fault(error)
