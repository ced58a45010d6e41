"""Steering a session, in tasks of an event loop: the asyncio face of `control`."""

from __future__ import annotations

import asyncio
from typing import Any

from .control import SUBPROTOCOL, Audience, Notification, Steering
from .link import Link, connected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
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

    def __init__(self, core: Conversation) -> None:
        self._core = core
        self._audience = Audience()
        self._opening = asyncio.Lock()
        self._open: tuple[Steering, Link] | None = None

    async def call(
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
        return await self._run(
            lambda steering: steering.call(method, params or {}), timeout
        )

    async def notify(self, method: str, params: Params = ()) -> None:
        """Tell the application something that it does not answer."""
        await self._run(lambda steering: steering.notify(method, params or {}))

    async def pause(self, *streams: str) -> list[str]:
        """Let nothing of these streams pass ("stdin", ...; all, if none is named).

        Returns:
            The streams that are paused now.
        """
        return await self._run(lambda steering: steering.streams("pause", streams))

    async def resume(self, *streams: str) -> list[str]:
        """The opposite."""
        return await self._run(lambda steering: steering.streams("resume", streams))

    async def status(self) -> dict[str, Any]:
        """How the session is."""
        return await self._run(lambda steering: steering.object("status"))

    async def manifest(self) -> dict[str, Any]:
        """What the application takes and gives: an AsyncAPI document."""
        return await self._run(lambda steering: steering.object("manifest"))

    async def signal(self, signal: str | int) -> None:
        """Send a signal, whatever is in the way of the session's own data."""
        await self._run(lambda steering: steering.signal(signal))

    async def close(self) -> None:
        """Have the session closed; its application is stopped."""
        await self._run(lambda steering: steering.object("close"))

    # What is told.

    async def subscribe(self, interval: float = 1.0) -> AsyncIterator[dict[str, Any]]:
        """The status now, and then whenever it has changed, up to the end.

        Who takes his time gets the newest.

        Args:
            interval: seconds between two of them, at least.
        """
        listener = self._audience.join(status=True)
        steering, link = await self._connected()
        yield await link.run(steering.object("subscribe", {"interval": interval}))
        while told := await link.run(steering.heard(listener)):
            yield told.params

    async def unsubscribe(self) -> None:
        """Have the status told no more, to nobody."""
        await self._run(lambda steering: steering.object("unsubscribe"))

    def notifications(self) -> AsyncIterator[Notification]:
        """What the application tells, from now on, up to the end of the session.

        Of what is not taken some 256 KiB are kept, and then the oldest dropped.
        """
        return self._heard(self._audience.join(status=False))

    async def _heard(self, listener: Listener) -> AsyncIterator[Notification]:
        steering, link = await self._connected()
        while told := await link.run(steering.heard(listener)):
            yield told

    # The connection.

    def disconnect(self) -> None:
        """Close the connection, and not the session; a next call opens another."""
        found, self._open = self._open, None
        if found is not None:
            found[1].abort()

    async def _run(
        self, flow: Callable[[Steering], Flow[T]], timeout: float | None = None
    ) -> T:
        steering, link = await self._connected()
        return await link.run(flow(steering), timeout)

    async def _connected(self) -> tuple[Steering, Link]:
        credentials = self._core.credentials()  # raises once it is over
        async with self._opening:
            if self._open is not None and self._open[0].wire.ended:
                self._open[1].abort()  # which it was already, or as good as
                self._open = None
            if self._open is None:
                plan, audience = self._core.plan, self._audience
                self._open = await connected(
                    plan,
                    SUBPROTOCOL,
                    lambda wire: Steering(wire, plan, credentials, audience),
                )
            return self._open
