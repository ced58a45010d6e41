r"""Client library: sessions with remote programs, asyncio and blocking API.

    import chimirror.client

    async with chimirror.client.connect("ws://127.0.0.1:30747/") as session:
        await session.send(b"hello\n")
        async for output in session:
            print(output.stream, output.data)
        (await session.wait()).check()

    from chimirror.client import blocking

    with blocking.connect("ws://127.0.0.1:30747/") as session:
        ...the same, without async and await.

The public API is documented in chimirror-client(3).

Modules from the bottom up, without I/O:

- `errors`, `results`, `close_text`, `url`, `deadline`
- `tls_errors`: failures of TLS
- `credentials`: tokens, and what a server asks for
- `stdio_messages` and `framing`: messages
- `window` and `buffers`: output on its way, and unread output
- `websocket` and `handshake`: one WebSocket
- `flow`: the steps at which a flow waits
- `output` and `session`: a session, as flows
- `control`: the control connection, as flows

With files and sockets: `tls_settings`, `tls_handshake`, `servers`, `dialer`, `failover`
and `transport`.

Blocking API: `thread_driver`, `control_blocking`, `blocking`. Asyncio API:
`asyncio_driver`, `control_aio`, `aio`.

Imports only `chimirror.text`. Knows nothing of the server's implementation: the
contract is chimirror-protocol(7).
"""

from __future__ import annotations

from chimirror.client.control import Notification
from chimirror.client.errors import (
    CallFailed,
    ConnectTimeout,
    ControlLost,
    Error,
    Forbidden,
    InvalidCertificate,
    InvalidURL,
    LineTooLong,
    NotConnected,
    NotDelivered,
    ProtocolViolation,
    Refused,
    SessionLost,
    SessionOver,
    TLSFailure,
    Unauthorized,
    Unread,
    Untrusted,
)
from chimirror.client.results import Completed, Exit, ExitFailure, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.client.aio import Session, connect

__all__ = [
    "CallFailed",
    "Completed",
    "ConnectTimeout",
    "ControlLost",
    "Error",
    "Exit",
    "ExitFailure",
    "Forbidden",
    "InvalidCertificate",
    "InvalidURL",
    "LineTooLong",
    "NotConnected",
    "NotDelivered",
    "Notification",
    "Output",
    "ProtocolViolation",
    "Refused",
    "Session",
    "SessionLost",
    "SessionOver",
    "TLSFailure",
    "Unauthorized",
    "Unread",
    "Untrusted",
    "connect",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # Importing asyncio takes 45 ms, which the blocking API does not need.
        if name not in ("Session", "connect"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from chimirror.client import aio

        return getattr(aio, name)
