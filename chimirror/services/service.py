"""A service in its server: FIFOs, handlers, and the serving of both.

Knows neither API, nor the target.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Any

from chimirror.services.codec import Decoder, Encoder
from chimirror.services.errors import InvalidMessage
from chimirror.services.flow import Call, Flow, Wait
from chimirror.services.memory import MemorySocket
from chimirror.services.names import INPUT, OUTPUT, check_name
from chimirror.services.options import MAX_MESSAGE, UNSET, PipeOptions
from chimirror.services.pipe_core import PipeCore, Surroundings
from chimirror.services.receiving_end import NOTHING, ReceivingEnd
from chimirror.services.sending_end import SendingEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.services.directory import ServiceDirectory


# Messages in a row. Other tasks run after them, and a time limit is looked at.
FAIR_MESSAGES = 64
_READER = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC


class ServerSendingEnd(SendingEnd):
    """The sending end of a server, which is open before that of the target.

    Until the target opens the FIFO, the server is its reader too. Otherwise the FIFO
    could not be opened for writing, and would lose what the server sends.

    Args:
        reader: descriptor of the server as reader. It now belongs to this object.
    """

    def __init__(self, reader: int, fd: int, *args: Any) -> None:
        super().__init__(fd, *args)
        self._reader = reader

    def has_other_reader(self) -> bool:
        """Return whether the target has the FIFO open for reading, before `on_opened`.

        The FIFO keeps its content meanwhile, since it stays open for writing.
        """
        self._close_reader()
        poll = select.poll()
        poll.register(self.fd, 0)
        if poll.poll(0):
            self._reader = os.open(f"/proc/self/fd/{self.fd}", _READER)
        return self._reader < 0

    def on_opened(self) -> None:
        """Called when the target has opened the FIFO."""
        self._close_reader()
        if self.is_closed:
            self.end()

    def end(self) -> None:
        """Drop all messages: nothing reads any more."""
        self._close_reader()
        super().end()

    def close(self) -> None:
        """End the direction. Messages in the FIFO still arrive.

        They would be lost with the last descriptor, so the target has to open it first.
        """
        if self._reader >= 0:
            self.is_closed = True
        else:
            super().close()

    def _close_reader(self) -> None:
        fd, self._reader = self._reader, -1
        if fd >= 0:
            os.close(fd)


class Service(PipeCore):
    """One service of a server.

    Args:
        name: of the service.
        surroundings: what to watch besides.
        receive: type of the values from the target, or UNSET.
        send: type of the values to the target, or UNSET.
        options: of the pipe.
    """

    def __init__(
        self,
        name: str,
        surroundings: Surroundings,
        receive: Any,
        send: Any,
        options: PipeOptions,
    ) -> None:
        super().__init__(check_name(name), surroundings)
        if receive is UNSET and send is UNSET:
            raise ValueError(f"service {name}: write receive=TYPE, send=TYPE or both")
        self._max_message = options.get("max_message", MAX_MESSAGE)
        self._decoder = (
            None
            if receive is UNSET
            else Decoder(name, receive, options.get("dec_hook"))
        )
        self._encoder = None if send is UNSET else Encoder(options.get("enc_hook"))
        self._memory = MemorySocket()
        self.handler: Callable[[Any], object] | None = None
        self.on_invalid: Callable[[InvalidMessage], object] = _print_invalid

    def open(self, directory: ServiceDirectory, *, memory: bool) -> str | None:
        """Create and open the FIFOs.

        Returns:
            The file of which `on_opened` has to be called, None if there is none.
        """
        if memory:
            self._memory = directory.listen(self.name)
        if self._decoder is not None:
            file = self.name + INPUT
            directory.create_fifo(file)
            self.receiving = ReceivingEnd(
                self.name,
                directory.open_fifo(file, os.O_RDONLY),
                self._decoder,
                self._memory,
                self._max_message,
                directory.retirement(file),
            )
        if self._encoder is None:
            return None
        file = self.name + OUTPUT
        directory.create_fifo(file)
        reader = directory.open_fifo(file, os.O_RDWR)
        try:
            writer = directory.open_fifo(file, os.O_WRONLY)
        except OSError:  # no free descriptor
            os.close(reader)
            raise
        retire = directory.retirement(file)
        self.sending = ServerSendingEnd(
            reader, writer, self._encoder, self._memory, retire
        )
        return file

    def set_handler(self, function: Callable[[Any], object]) -> None:
        """Let a function handle all values from the target."""
        if self._decoder is None:
            raise ValueError(self.reason_without_end("receive"))
        self.handler = function

    def reason_without_end(self, verb: str) -> str:
        """Return why there is no end to receive or to send."""
        has_type = self._decoder if verb == "receive" else self._encoder
        if has_type is None:
            return super().reason_without_end(verb)
        return f"service {self.name}: the server has not been started"

    def is_opened(self) -> bool:
        """Return whether the target has opened the FIFO to it, or never will."""
        sending = self.sending
        assert isinstance(sending, ServerSendingEnd)
        return sending.has_ended or sending.has_other_reader()

    def on_opened(self) -> None:
        """Called when the target has opened the FIFO to it."""
        assert isinstance(self.sending, ServerSendingEnd)
        self.sending.on_opened()

    def serve_events(self, *, draining: bool) -> dict[int, int]:
        """Return the events after which `serve` can continue.

        Args:
            draining: the target has ended, so that only its messages count.
        """
        events: dict[int, int] = {}
        sending, receiving = self.sending, self.receiving
        is_busy = False
        if sending is not None and not sending.has_ended and not draining:
            is_busy = sending.is_busy
            # Without an event, only the end of the reader is reported.
            events = sending.wait_events() if is_busy else {sending.fd: 0}
        if (
            self.handler is not None
            and receiving is not None
            and not receiving.has_ended
            and not is_busy
        ):
            events[receiving.fd] = select.POLLIN
        return events

    def serve(self, ready: Mapping[int, int]) -> Flow[None]:
        """Send what waits, and call the handler with what has arrived.

        While answers wait for room in the FIFO, the other direction is not read.
        """
        sending, receiving = self.sending, self.receiving
        if sending is not None and not sending.has_ended:
            if ready.get(sending.fd, 0) & select.POLLERR:
                sending.end()
            sending.flush()
        if self.handler is None or receiving is None:
            return
        if receiving.fd in ready:
            receiving.fill()
        handled = 0
        while not receiving.is_closed and not (sending and sending.is_busy):
            if handled == FAIR_MESSAGES:
                handled = 0
                yield Wait({}, 0.0)
                continue
            handled += 1
            try:
                value = receiving.take()
            except InvalidMessage as error:
                yield Call(self.on_invalid, error)
                continue
            if value is NOTHING:
                return
            self._answer((yield Call(self.handler, value)))

    def _answer(self, value: object) -> None:
        if self._encoder is None:
            if value is not None:
                raise TypeError(
                    f"the handler of service {self.name} returned a value,"
                    " but the service has no type to send"
                )
            return
        sending = self.sending
        if sending is None or sending.has_ended or sending.is_closed:
            return  # the target does not want the answer
        if not self._surroundings.peer_has_ended:
            sending.add(value)
            sending.flush()

    def finish(self) -> None:
        """Close the ends after the target has ended. Unread messages stay readable."""
        if self.sending is not None:
            self.sending.end()
        if self.receiving is not None and not self.receiving.fill():
            self.receiving.end()
        if self.receiving is None or self.receiving.has_ended:
            self._memory.close()

    def release(self) -> None:
        """Close everything. Receivers find the end, senders a closed pipe."""
        if self.receiving is not None:
            self.receiving.end()
        if self.sending is not None:
            self.sending.end()
        self._memory.close()


def _print_invalid(error: InvalidMessage) -> None:
    sys.stderr.write(f"{error}\n")
