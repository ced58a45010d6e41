"""Moves bytes for the blocking API, with one thread for each connection.

While the caller is busy, the thread answers pings, sends pings and receives up to the
limits. Every access to the protocol needs the lock of `changed`. A caller that holds
the lock also sends, so that no message waits for the thread.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time

from chimirror.client.errors import NotConnected
from chimirror.client.failover import open_first
from chimirror.client.flow import OpenConnection, ResolveHost, Sleep, WaitForSocket
from chimirror.client.transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from chimirror.client.flow import Flow, Step
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.transport import TransportProtocol
    from chimirror.client.websocket import WebSocketProtocol

    P = TypeVar("P", bound=TransportProtocol)
    T = TypeVar("T")


class ThreadDriver:
    """Thread for one socket. Runs until the connection has ended."""

    def __init__(self, sock: socket.socket, protocol: TransportProtocol) -> None:
        self.changed = threading.Condition()
        self._protocol = protocol
        self._websocket = protocol.websocket
        self._transport = Transport(sock, protocol)
        self._poll = select.poll()
        self._polled_events = 0  # registered poll events of the socket
        self._poll_deadline = 0.0  # when the current poll ends
        self._polling = False
        self._wake_read_fd, self._wake_write_fd = os.pipe()
        os.set_blocking(self._wake_read_fd, False)
        os.set_blocking(self._wake_write_fd, False)
        self._poll.register(self._wake_read_fd, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()

    # Called by the threads of the caller.

    def run(self, flow: Flow[T], timeout: float | None = None) -> T:
        """Run a flow to its end.

        Raises:
            TimeoutError: The flow has not finished within `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self.changed:
            try:
                while True:
                    try:
                        step = next(flow)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    if not self.update() or step is not None:
                        self._perform(step, end)
            finally:
                flow.close()
                self.update()
                self.changed.notify_all()

    def _perform(self, step: Step, end: float | None) -> None:
        if callable(step):
            self.changed.release()
            try:
                step()
            finally:
                self.changed.acquire()
            return
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("not finished within the timeout")
        self.changed.wait(left)

    def abort(self) -> None:
        """Close the connection at once."""
        with self.changed:
            self._protocol.abort()
            self.update()
        self.join()

    def join(self) -> None:
        """Wait for the end of the connection after it was closed."""
        self._thread.join()

    def update(self) -> bool:
        """Flush the connection and wake the thread if it must poll otherwise.

        The caller holds the lock.

        Returns:
            Whether bytes were sent or the connection was lost.
        """
        progressed = self._transport.flush()
        changed = (
            self._events() != self._polled_events
            or self._websocket.next_deadline() < self._poll_deadline
        )
        if self._polling and (changed or self._websocket.lost_reason is not None):
            self._polling = False
            os.write(self._wake_write_fd, b"-")
        return progressed

    # Called by the thread.

    def _run(self) -> None:
        with self.changed:
            try:
                self.update()
                while self._websocket.lost_reason is None:
                    self._run_once()
                    self.changed.notify_all()
            finally:
                self._websocket.on_connection_lost("internal error of the client")
                self._transport.close()
                os.close(self._wake_read_fd)
                os.close(self._wake_write_fd)
                self.changed.notify_all()

    def _run_once(self) -> None:
        ready = self._wait_ready()
        if self._wake_read_fd in ready:
            os.read(self._wake_read_fd, 64)
        fd = self._transport.fileno()
        if self._transport.wants_read and (
            fd in ready or self._transport.has_buffered_data()
        ):
            self._transport.receive()
        self.update()

    def _wait_ready(self) -> list[int]:
        """Poll without holding the lock. Returns the ready descriptors."""
        events, fd = self._events(), self._transport.fileno()
        if events != self._polled_events:
            # A socket without events would still report a hang-up: a busy loop.
            if events:
                self._poll.register(fd, events)
            else:
                self._poll.unregister(fd)
            self._polled_events = events
        # poll(2) does not see bytes in the buffer of TLS.
        buffered = self._transport.wants_read and self._transport.has_buffered_data()
        self._poll_deadline = self._websocket.next_deadline()
        left = 0.0 if buffered else self._poll_deadline - self._websocket.clock()
        self._polling = True
        self.changed.release()
        try:
            return [fd for fd, _ in self._poll.poll(_milliseconds(left))]
        finally:
            self.changed.acquire()
            self._polling = False

    def _events(self) -> int:
        events = select.POLLIN if self._transport.wants_read else 0
        return events | select.POLLOUT if self._transport.wants_write else events


def _milliseconds(seconds: float) -> int:
    return int(min(max(seconds, 0), 3600) * 1000) + (seconds > 0)


def open_connection(
    servers: Sequence[ConnectionParams],
    subprotocols: Sequence[str],
    create_protocol: Callable[[ConnectionParams, WebSocketProtocol], P],
) -> tuple[P, ThreadDriver]:
    """Connect to the first server that accepts, and wait until its protocol is open.

    Args:
        servers: The servers, in the order of the attempts.
        subprotocols: Subprotocols to offer, the preferred one first.
        create_protocol: Makes the protocol for a new WebSocket, of this server.

    Raises:
        NotConnected: There is no connection.
    """

    def perform(step: OpenConnection) -> tuple[P, ThreadDriver]:
        websocket = step.params.create_websocket(subprotocols, time.monotonic)
        protocol = create_protocol(step.params, websocket)
        driver = ThreadDriver(step.sock, protocol)
        try:
            driver.run(protocol.wait_until_open(), step.seconds)
        except BaseException as error:  # noqa: BLE001 whichever, it is raised again
            late = step.params.timeout_error(protocol.timeout_cause)
            driver.abort()
            raise (late if isinstance(error, TimeoutError) else error) from None
        return protocol, driver

    flow = open_first(servers, time.monotonic)
    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, OpenConnection):
                    answer: object = perform(step)
                else:
                    answer = _wait_for_step(step)
            except (OSError, UnicodeError, NotConnected) as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        flow.close()


def _wait_for_step(step: Step) -> object:
    if isinstance(step, Sleep):
        time.sleep(step.seconds)
        return None
    if callable(step):
        return step()
    if isinstance(step, ResolveHost):
        return socket.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)
    assert isinstance(step, WaitForSocket)
    poll = select.poll()
    poll.register(step.sock, select.POLLOUT if step.write else select.POLLIN)
    return bool(poll.poll(_milliseconds(step.seconds)))
