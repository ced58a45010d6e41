"""The logic of one pipe, as flows: receive and send. Knows neither API.

The same code runs in the server and in the target. They differ in the Surroundings: the
server also watches the target while it waits.
"""

from __future__ import annotations

import select
from typing import Any, Protocol, TypeVar

from chimirror.services.errors import PeerClosed
from chimirror.services.flow import Flow, Wait
from chimirror.services.receiving_end import NOTHING, ReceivingEnd
from chimirror.services.sending_end import SendingEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

E = TypeVar("E", ReceivingEnd, SendingEnd)


class Surroundings(Protocol):
    """What a flow of a pipe watches besides the pipe."""

    @property
    def peer_has_ended(self) -> bool:
        """Whether the process at the other side has ended."""

    @property
    def deadline(self) -> float | None:
        """The time at which `advance` has something to do, on time.monotonic."""

    def events(self) -> dict[int, int]:
        """Return the events of poll(2) to wait for."""

    def advance(self, ready: Mapping[int, int]) -> None:
        """Handle these events. Without any, look for them."""


class PipeCore:
    """One pipe. A direction that the service does not have is None.

    Args:
        name: of the service.
        surroundings: what to watch besides.
    """

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self.receiving: ReceivingEnd | None = None
        self.sending: SendingEnd | None = None
        self._surroundings = surroundings

    def receive(self) -> Flow[Any]:
        """Return the next value.

        Raises:
            InvalidMessage: The next message is no value.
            PeerClosed: There are no further messages.
        """
        is_readable = False
        while True:
            end = self._usable(self.receiving, "receive")
            value = end.take()
            if value is not NOTHING:
                return value
            if end.has_ended:
                raise PeerClosed(f"service {self.name}: the other side has closed it")
            if is_readable and end.fill():
                continue
            if self._surroundings.peer_has_ended:
                if not end.fill():
                    end.end()
                continue
            ready = yield self._wait({end.fd: select.POLLIN})
            is_readable = end.fd in ready
            self._surroundings.advance(ready)

    def send(self, value: object) -> Flow[None]:
        """Send a value. Waits while the FIFO is full.

        Raises:
            PeerClosed: Nothing reads this direction any more.
            TypeError: The value cannot be encoded.
        """
        end = self._usable(self.sending, "send")
        self._require_reader(end)
        message = end.add(value)
        try:
            while True:
                end.flush()
                if message.is_sent:
                    return
                self._usable(end, "send")
                self._require_reader(end)
                ready = yield self._wait(end.wait_events())
                self._surroundings.advance(ready)
                if ready.get(end.fd, 0) & select.POLLERR:
                    end.end()
        finally:
            if not message.is_sent:
                end.remove(message)

    def _require_reader(self, end: SendingEnd) -> None:
        if end.has_ended or self._surroundings.peer_has_ended:
            raise PeerClosed(f"service {self.name}: the other side reads no more")

    def _usable(self, end: E | None, name: str) -> E:
        if end is None:
            raise ValueError(self.reason_without_end(name))
        if end.is_closed:
            raise ValueError(f"service {self.name}: this direction is closed")
        return end

    def reason_without_end(self, verb: str) -> str:
        """Return why there is no end to receive or to send."""
        return f"service {self.name} was given no type to {verb}"

    def _wait(self, events: dict[int, int]) -> Wait:
        return Wait(events | self._surroundings.events(), self._surroundings.deadline)

    def close_receive(self) -> None:
        """Close the direction to this process and drop its messages."""
        if self.receiving is not None:
            self.receiving.close()

    def close_send(self) -> None:
        """Close the direction from this process."""
        if self.sending is not None:
            self._surroundings.advance({})
            self.sending.close()

    def close(self) -> None:
        """Close both directions."""
        self.close_receive()
        self.close_send()
