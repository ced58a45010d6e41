"""One session: a channel joined to the local stdin, stdout, stderr and signals.

Reads as the story. It knows the framing by `stdio` and moves no byte itself: the
channel and the local ends do. Back-pressure is what is polled: while the local
output has more than HIGH bytes to write, the socket is not read; while the socket
has more than HIGH to send, stdin is not taken. Every wait but those for the user's
own ends is guarded by the clock.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import time

from websockets.frames import Frame, Opcode

from . import stdio
from .channel import Channel, Ended
from .interrupts import FORWARDED, Interrupts
from .local import Sink, Source, Wake
from .texts import Failure, Killed, close_text, printable, safe

HIGH = 256 * 1024
LOW = 64 * 1024

CLOSE_WAIT = 2.0  # seconds for a closing handshake, or for what follows an exit

STDOUT, STDERR = 1, 2


class Session:
    """Runs once."""

    __slots__ = (
        "_channel",
        "_wake",
        "_source",
        "_sink",
        "_interrupts",
        "_interval",
        "_patience",
        "_poll",
        "_polled",
        "_paused",
        "_heard",
        "_pinged",
        "_deadline",
        "_exit",
        "_fault",
        "_lost",
        "_id",
        "_eof",
    )

    def __init__(
        self,
        channel: Channel,
        ping_interval: float | None = 20,
        ping_timeout: float = 20,
    ) -> None:
        self._channel = channel
        self._wake = Wake()
        self._source = Source(0, self._wake)
        self._sink = Sink(self._wake)
        self._interrupts = Interrupts()
        self._interval = math.inf if ping_interval is None else ping_interval
        self._patience = self._interval + ping_timeout
        self._poll = select.poll()
        self._polled = 0
        self._paused = False  # the socket is not read: local output is behind
        self._heard = self._pinged = time.monotonic()
        self._deadline: float | None = None  # when not to wait for the peer any more
        self._exit: stdio.Exit | None = None
        self._fault: Exception | None = None  # what ended it on our side
        self._lost: str | None = None  # why there is no connection any more
        self._id = ""
        self._eof = False  # of stdin, told to the server

    def run(self) -> int:
        """Run to the end of the session.

        Returns:
            The status of the remote process, 128+n for one that a signal ended.

        Raises:
            Failure: it ended without one.
            Killed: stdout is broken, or the user wanted out.
        """
        self._poll.register(self._wake.fileno(), select.POLLIN)
        with self._wake.signals(FORWARDED):
            self._source.start()
            self._take(self._channel.received())
            while self._lost is None and not self._late():
                self._turn()
            self._channel.drop()
            while self._sink.pending and self._fault is None:
                self._await_output()
        return self._verdict()

    # The turn of the loop.

    def _turn(self) -> None:
        ready = {fd for fd, _ in self._poll.poll(self._prepare())}
        if self._wake.fileno() in ready:
            self._attend()
        try:
            if not self._paused and (
                self._channel.fileno() in ready or self._channel.buffered()
            ):
                self._receive()
            self._feed()
            self._keep_alive()
            self._channel.flush()
        except Ended as end:
            self._lost = str(end)

    def _prepare(self) -> int:
        """Say what is to be polled; the milliseconds until the clock is to be asked."""
        self._paused = self._sink.pending > (LOW if self._paused else HIGH)
        events = 0 if self._paused else select.POLLIN
        if self._channel.waiting:
            events |= select.POLLOUT
        if events != self._polled:
            # Registered without events it would still report a hang-up: a busy loop.
            if events:
                self._poll.register(self._channel.fileno(), events)
            else:
                self._poll.unregister(self._channel.fileno())
            self._polled = events
        # What is at hand already will not wake us once more.
        if (self._channel.buffered() and not self._paused) or self._fed():
            return 0
        now = time.monotonic()
        due = [self._pinged + self._interval, self._heard + self._patience]
        if self._deadline is not None:
            due.append(self._deadline)
        # A time that has passed is one that does not apply now (see _keep_alive).
        left = [at - now for at in due if at > now]
        return int(min([*left, 60.0]) * 1000) + 1

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    # From the server.

    def _receive(self) -> None:
        messages = self._channel.receive()
        self._heard = time.monotonic()
        self._take(messages)
        if self._channel.broken is not None:
            why = safe(self._channel.broken)
            self._fail(Failure(f"the server broke the WebSocket protocol: {why}"))
        elif self._channel.close_received is not None:
            self._leave()

    def _take(self, messages: list[bytes | Frame]) -> None:
        for message in messages:
            if isinstance(message, Frame):
                self._control(message)
            elif self._fault is None:
                try:
                    self._act(stdio.decode(message))
                except stdio.Violation as error:
                    self._violated(error)

    def _control(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._interrupts.pong(bytes(frame.data))
        elif self._fault is None:
            self._violated(stdio.Violation(1003, "a message is binary"))

    def _act(self, event: stdio.Event | None) -> None:
        match event:
            case stdio.Output(stream="stdout"):
                self._sink.write(STDOUT, event.data)
            case stdio.Output():
                self._sink.write(STDERR, event.data)
            case stdio.Notice():
                line = f"chimirror-connect: the server says: {printable(event.text)}\n"
                self._sink.write(STDERR, line.encode("utf-8", "backslashreplace"))
            case stdio.Opened():
                self._id = safe(event.id, 64)
            case stdio.Exit():
                self._exit = event
                self._leave()

    def _violated(self, error: stdio.Violation) -> None:
        self._channel.close(error.code)
        text = f"the server does not keep to {stdio.SUBPROTOCOL}: {error}"
        self._fail(Failure(text))

    # To the server.

    def _fed(self) -> bool:
        """Whether there is input that the channel has room for."""
        room = self._channel.waiting < HIGH
        return room and not self._eof and not self._source.empty()

    def _feed(self) -> None:
        while self._fed():
            chunk = self._source.take()
            if chunk:
                self._channel.send(stdio.stdin(chunk))
                continue
            self._eof = True
            if self._source.error:
                why = os.strerror(self._source.error)
                self._abandon(Failure(f"cannot read standard input: {why}"))
            else:
                self._channel.send(stdio.EOF)

    def _keep_alive(self) -> None:
        """Ping when the other end is silent, or when it cannot know that we live.

        While local output is behind we do not read, so we cannot judge the server;
        but it pings us, in vain, and any byte from us tells it that we are there.
        While our own output is blocked, TCP judges.
        """
        now = time.monotonic()
        if self._paused or self._channel.waiting:
            self._heard = now
        elif now - self._heard >= self._patience:
            seconds = f"{self._patience:g} s"
            self._lost = f"nothing heard for {seconds}, not even an answer to a ping"
            return
        silent = self._paused or now - self._heard >= self._interval
        if silent and now - self._pinged >= self._interval:
            self._pinged = now
            self._channel.ping(b"alive")
        elif not silent:
            self._pinged = max(self._pinged, self._heard)

    # From this side.

    def _attend(self) -> None:
        """Something local has woken us: signals, or the state of the streams."""
        for number in self._wake.taken():
            self._signalled(number)
        problem = self._sink.error(STDOUT)
        if problem == errno.EPIPE:
            self._abandon(Killed(signal.SIGPIPE))
        elif problem:
            why = os.strerror(problem)
            self._abandon(Failure(f"cannot write standard output: {why}"))

    def _signalled(self, number: int) -> None:
        running = self._deadline is None and self._lost is None
        if self._interrupts.ends(number, time.monotonic(), running=running):
            self._channel.close(1001)
            self._fault = Killed(number)
            self._deadline = 0.0  # at once: flush what goes, wait for nothing
        elif running:
            name = signal.Signals(number).name.removeprefix("SIG")
            self._channel.send(stdio.signal(name), urgent=True)
            self._channel.ping(self._interrupts.ping())

    # Ends.

    def _leave(self) -> None:
        """The rest is a matter of seconds."""
        if self._deadline is None:
            self._deadline = time.monotonic() + CLOSE_WAIT

    def _abandon(self, fault: Exception) -> None:
        """End the session from here."""
        self._channel.close(1000)
        self._fail(fault)

    def _fail(self, fault: Exception) -> None:
        if self._fault is None:
            self._fault = fault
        self._leave()

    def _await_output(self) -> None:
        """The connection is over; wait for whoever reads our output."""
        poll = select.poll()
        poll.register(self._wake.fileno(), select.POLLIN)
        poll.poll()
        self._attend()

    def _verdict(self) -> int:
        if self._fault is not None:
            raise self._fault
        if self._exit is None:
            raise Failure(self._epitaph())
        if self._exit.code is not None:
            return self._exit.code
        name = self._exit.signal or ""
        try:
            return 128 + signal.Signals["SIG" + name]
        except KeyError:
            text = f"the remote process was ended by the signal {safe(name, 40)}"
            raise Failure(f"{text}, which is not known here") from None

    def _epitaph(self) -> str:
        """Why there is no exit status."""
        session = f" (session {self._id})" if self._id else ""
        close = self._channel.close_received
        if close is not None:
            how = close_text(*close)
        else:
            how = close_text(1006, self._lost or "the server hung up")
        return f"the session ended before its exit status came{session}: {how}"
