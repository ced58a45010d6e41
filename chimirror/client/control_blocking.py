"""Steering a session, for those who wait: the blocking face of `control`."""

from __future__ import annotations

import threading
from typing import Any

from .control import SUBPROTOCOL, Audience, Notification, Steering
from .pump import Pump, connected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from .control import Listener, Params
    from .conversation import Conversation
    from .steps import Flow

    T = TypeVar("T")


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

        Who takes his time gets the newest.

        Args:
            interval: seconds between two of them, at least.
        """
        listener = self._audience.join(status=True)
        steering, pump = self._connected()
        yield pump.run(steering.object("subscribe", {"interval": interval}))
        while told := pump.run(steering.heard(listener)):
            yield told.params

    def unsubscribe(self) -> None:
        """Have the status told no more, to nobody."""
        self._run(lambda steering: steering.object("unsubscribe"))

    def notifications(self) -> Iterator[Notification]:
        """What the application tells, from now on, up to the end of the session.

        Of what is not taken some 256 KiB are kept, and then the oldest dropped.
        """
        return self._heard(self._audience.join(status=False))

    def _heard(self, listener: Listener) -> Iterator[Notification]:
        steering, pump = self._connected()
        while told := pump.run(steering.heard(listener)):
            yield told

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
