"""Steps at which a flow waits, between logic without I/O and the two APIs.

A *flow* is a generator that performs one operation for a caller: connect, send or
read. It yields a step wherever it must wait. The driver performs the step, blocking
or in an event loop, and resumes the flow. So the logic exists once for both APIs.

A flow may be closed at any step and then releases its resources.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from chimirror.client.handshake import ConnectionParams

T = TypeVar("T")


class WaitForSocket(NamedTuple):
    """Wait until a socket is readable or writable. The result is False at a timeout."""

    sock: socket
    write: bool
    seconds: float


class ResolveHost(NamedTuple):
    """Resolve a host name. The result is that of getaddrinfo(3)."""

    host: str
    port: int


class Sleep(NamedTuple):
    """Wait for a time."""

    seconds: float


class OpenConnection(NamedTuple):
    """Perform the handshake over a connected socket, which the driver closes.

    The result is that of the caller's `open_connection`. NotConnected is passed back.
    """

    sock: socket
    params: ConnectionParams
    seconds: float


# None waits until anything has changed in the session. A callable is a function of the
# caller: the driver calls it, and the asyncio driver awaits an awaitable result. While
# a connection is opened, the flow gets the result.
Step = (
    WaitForSocket | ResolveHost | Sleep | OpenConnection | Callable[[], object] | None
)
Flow = Generator[Step, Any, T]
