"""What a flow waits for: the words between logic that never waits and faces that do.

A *flow* is a generator that does one thing for a caller (connects, sends, reads). It
yields a step wherever it cannot go on; the face that runs it waits in its own way,
blocking or in an event loop, and resumes it. So there is one implementation of
everything, and as many ways to wait as there are faces. A flow may be closed at any
step, and gives back then what it held.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

T = TypeVar("T")


class Ready(NamedTuple):
    """Wait until a socket can be read or written; resumed with whether it can."""

    sock: socket
    write: bool
    seconds: float


class Lookup(NamedTuple):
    """Find the addresses of a host; resumed with what getaddrinfo(3) says."""

    host: str
    port: int


# None waits until anything has changed in the session; a callable is to be called,
# for the caller's own handlers, and what it returns awaited where that is possible.
Step = Ready | Lookup | Callable[[], object] | None
Flow = Generator[Step, Any, T]
