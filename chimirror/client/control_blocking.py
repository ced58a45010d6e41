"""Steering a session, for those who wait: the blocking face of `control`."""

from __future__ import annotations

import threading
from typing import Any, Generic, Self, TypeVar

from .control import SUBPROTOCOL, Audience, Notification, Steering
from .errors import ControlLost
from .pump import Pump, connected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .control import Listener, Params
    from .conversation import Conversation
    from .steps import Flow

T = TypeVar("T")
U = TypeVar("U")


class Control:
    """What can be done to a session while data flows.

    The first call opens a second connection to the server, and so does the first
    after that was lost. Only sessions with framing stdio can be steered. Errors:
    CallFailed and ControlLost, and those of `connect`.
    """

    def __init__(self, core: Conversation, pump: Pump) -> None:
        self._core = core
        self._pump = pump  # of the session
        self._audience = Audience()
        self._opening = threading.Lock()
        self._open: tuple[Steering, Pump] | None = None

    def call(
        self,
        method: str,
        params: Params = (),
        *,
        timeout: float | None = None,
    ) -> Any:
        """Call any method: one of chimirror-protocol(7), or of the application.

        Args:
            params: a mapping, or a sequence if the application takes one.
            timeout: seconds, from when the connection is open.

        Returns:
            The result, as JSON has it.
        """
        return self._run(lambda steering: steering.call(method, params or {}), timeout)

    def notify(self, method: str, params: Params = ()) -> None:
        """Tell the application something that it does not answer."""
        self._run(lambda steering: steering.notify(method, params or {}))

    def pause(self, *streams: str) -> list[str]:
        """Let nothing of these streams pass ("stdin", ...; all, if none is named).

        Returns:
            The streams that are paused now.
        """
        return self._run(lambda steering: steering.streams("pause", streams))

    def resume(self, *streams: str) -> list[str]:
        """The opposite."""
        return self._run(lambda steering: steering.streams("resume", streams))

    def status(self) -> dict[str, Any]:
        """How the session is."""
        return self._run(lambda steering: steering.object("status"))

    def manifest(self) -> dict[str, Any]:
        """What the application takes and gives: an AsyncAPI document."""
        return self._run(lambda steering: steering.object("manifest"))

    def signal(self, signal: str | int) -> None:
        """Send a signal, whatever is in the way of the session's own data."""
        self._run(lambda steering: steering.signal(signal))

    def close(self) -> None:
        """Have the session closed; its application is stopped."""
        self._run(lambda steering: steering.object("close"))

    # What is told.

    def subscribe(self, interval: float = 1.0) -> Iterator[dict[str, Any]]:
        """The status now, and then whenever it has changed, up to the end.

        That of the session, or `unsubscribe`. Who takes his time gets the newest.

        Args:
            interval: seconds between two of them, at least.
        """
        listener = self._audience.join(interval)
        return Told(self._connected, listener, lambda told: told.params)

    def unsubscribe(self) -> None:
        """Have the status told no more: every `subscribe` ends."""
        self._run(lambda steering: steering.unsubscribe())

    def notifications(self) -> Iterator[Notification]:
        """What the application tells, from now on, up to the end of the session.

        Of what is not taken some 256 KiB are kept, and then the oldest dropped.
        """
        return Told(self._connected, self._audience.join(), lambda told: told)

    # The connection.

    def disconnect(self) -> None:
        """Close the connection, and not the session; a next call opens another."""
        with self._opening:
            found, self._open = self._open, None
        if found is not None:
            found[1].abort()

    def _run(
        self, flow: Callable[[Steering], Flow[T]], timeout: float | None = None
    ) -> T:
        steering, pump = self._connected()
        return pump.run(flow(steering), timeout)

    def _connected(self) -> tuple[Steering, Pump]:
        with self._pump.changed:
            credentials = self._core.credentials()  # raises once it is over
        with self._opening:
            if self._open is not None and self._open[0].wire.ended:
                self._open[1].abort()  # which it was already, or as good as
                self._open = None
            if self._open is None:
                plan, audience = self._core.plan, self._audience
                self._open = connected(
                    plan,
                    SUBPROTOCOL,
                    lambda wire: Steering(wire, plan, credentials, audience),
                )
            return self._open


class Told(Generic[U]):
    """What is told, one by one; it goes on after an exception."""

    def __init__(
        self,
        connected: Callable[[], tuple[Steering, Pump]],
        listener: Listener,
        form: Callable[[Notification], U],
    ) -> None:
        self._connected = connected
        self._listener = listener
        self._form = form
        self._source: tuple[Steering, Pump] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> U:
        if self._source is None:
            self._source = self._connected()
        steering, pump = self._source
        try:
            told = pump.run(steering.heard(self._listener))
        except ControlLost:
            self._source = None  # the next call asks for another
            raise
        if told is None:
            raise StopIteration
        return self._form(told)
