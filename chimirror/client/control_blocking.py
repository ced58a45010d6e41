"""Calls about a session: the blocking API of `control`."""

from __future__ import annotations

import threading
from typing import Any, Generic, Self, TypeVar

from chimirror.client.control import (
    ControlProtocol,
    Notification,
    Subscribers,
    offered_names,
)
from chimirror.client.errors import ControlLost
from chimirror.client.thread_driver import ThreadDriver, open_connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chimirror.client.control import Params, Subscription
    from chimirror.client.flow import Flow
    from chimirror.client.session import SessionProtocol

T = TypeVar("T")
U = TypeVar("U")


class Control:
    """Calls about a session while its data flow.

    The first call opens a second connection to the server. After a loss, the next call
    opens another one. Only sessions with framing stdio have a control connection.
    Calls raise CallFailed, ControlLost and the errors of `connect`.
    """

    def __init__(self, session: SessionProtocol, driver: ThreadDriver) -> None:
        self._session = session
        self._driver = driver  # the driver of the session
        self._subscribers = Subscribers()
        self._connect_lock = threading.Lock()
        self._connection: tuple[ControlProtocol, ThreadDriver] | None = None

    def call(
        self,
        method: str,
        params: Params = (),
        *,
        timeout: float | None = None,
    ) -> Any:
        """Call a method of chimirror-protocol(7) or of the application.

        Args:
            method: Name of the method.
            params: A mapping, or a sequence if the application accepts one.
            timeout: Seconds, counted from the open connection.

        Returns:
            The result as a JSON value.
        """
        return self._run(lambda protocol: protocol.call(method, params or {}), timeout)

    def notify(self, method: str, params: Params = ()) -> None:
        """Send a notification, which has no response, to the application."""
        self._run(lambda protocol: protocol.notify(method, params or {}))

    def pause(self, *streams: str) -> list[str]:
        """Pause streams.

        Args:
            streams: "stdin", "stdout", "stderr". Without names, all three.

        Returns:
            The streams that are paused now.
        """
        return self._run(lambda protocol: protocol.switch_streams("pause", streams))

    def resume(self, *streams: str) -> list[str]:
        """Resume streams.

        Args:
            streams: "stdin", "stdout", "stderr". Without names, all three.

        Returns:
            The streams that are still paused.
        """
        return self._run(lambda protocol: protocol.switch_streams("resume", streams))

    def status(self) -> dict[str, Any]:
        """Return the status of the session."""
        return self._run(lambda protocol: protocol.call_for_object("status"))

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the application, an AsyncAPI document."""
        return self._run(lambda protocol: protocol.call_for_object("manifest"))

    def signal(self, signal: str | int) -> None:
        """Send a signal, even while the data connection is blocked."""
        self._run(lambda protocol: protocol.signal(signal))

    def close(self) -> None:
        """Make the server close the session, which stops the application."""
        self._run(lambda protocol: protocol.call_for_object("close"))

    # Notifications.

    def subscribe(self, interval: float = 1.0) -> Iterator[dict[str, Any]]:
        """Iterate over the status: the current one, then one after each change.

        The iteration ends with the session or with `unsubscribe`. A slow reader gets
        only the newest status.

        Args:
            interval: Minimum number of seconds between two statuses.
        """
        subscription = self._subscribers.subscribe(interval)
        return NotificationStream(
            self._connect, subscription, lambda notification: notification.params
        )

    def unsubscribe(self) -> None:
        """End all subscriptions to the status: every `subscribe` iteration ends."""
        self._run(lambda protocol: protocol.unsubscribe())

    def notifications(self) -> Iterator[Notification]:
        """Iterate over notifications of the application until the end of the session.

        Starts with the call of this method. About 256 KiB of unread notifications are
        kept, then the oldest ones are dropped.
        """
        return NotificationStream(
            self._connect,
            self._subscribers.subscribe(),
            lambda notification: notification,
        )

    # The control connection.

    def disconnect(self) -> None:
        """Close the control connection but not the session.

        The next call opens another connection.
        """
        with self._connect_lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection[1].abort()

    def _run(
        self, flow: Callable[[ControlProtocol], Flow[T]], timeout: float | None = None
    ) -> T:
        protocol, driver = self._connect()
        return driver.run(flow(protocol), timeout)

    def _connect(self) -> tuple[ControlProtocol, ThreadDriver]:
        with self._driver.changed:
            credentials = self._session.credentials()  # raises if the session has ended
        with self._connect_lock:
            if self._connection is not None and self._connection[0].websocket.ended:
                self._connection[1].abort()  # closes the socket if it is still open
                self._connection = None
            if self._connection is None:
                subscribers = self._subscribers
                self._connection = open_connection(
                    [self._session.connection_params],  # the address of the session
                    offered_names(credentials["session"]),
                    lambda params, websocket: ControlProtocol(
                        websocket, params, credentials, subscribers
                    ),
                )
            return self._connection


class NotificationStream(Generic[U]):
    """Iterator over notifications. It continues after an exception."""

    def __init__(
        self,
        open_connection: Callable[[], tuple[ControlProtocol, ThreadDriver]],
        subscription: Subscription,
        convert: Callable[[Notification], U],
    ) -> None:
        self._connect = open_connection
        self._subscription = subscription
        self._convert = convert
        self._connection: tuple[ControlProtocol, ThreadDriver] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> U:
        if self._connection is None:
            self._connection = self._connect()
        protocol, driver = self._connection
        try:
            notification = driver.run(protocol.next_notification(self._subscription))
        except ControlLost:
            self._connection = None  # the next call opens another connection
            raise
        if notification is None:
            raise StopIteration
        return self._convert(notification)
