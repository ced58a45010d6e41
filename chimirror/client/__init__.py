r"""Sessions with remote programs: the client library, asyncio and blocking.

    import chimirror.client

    async with chimirror.client.connect("ws://127.0.0.1:30747/") as session:
        await session.send(b"hello\n")
        async for output in session:
            print(output.stream, output.data)
        (await session.wait()).check()

    from chimirror.client import blocking

    with blocking.connect("ws://127.0.0.1:30747/") as session:
        ...the same, without async and await.

chimirror-client(3) tells of all of it.

From the bottom up. Pure: `texts`, `errors`, `events`, `url`, `stdio` and `framing`
(messages), `wire` (one WebSocket), `inbox` (what is unread), `opening` (the
handshake), `reading` and `conversation` (a session, as flows), `control` (steering it),
`steps` (what flows wait for). With sockets: `dial`, `line`. The faces: `pump`,
`blocking` and `control_blocking`; `link`, `aio` and `control_aio`. Nothing here knows
how a server works: chimirror-protocol(7) is all it goes by.
"""

from __future__ import annotations

from .control import Notification
from .errors import (
    CallFailed,
    ConnectTimeout,
    ControlLost,
    Error,
    ExitFailure,
    InvalidURL,
    LineTooLong,
    NotConnected,
    NotDelivered,
    ProtocolViolation,
    Refused,
    SessionLost,
    SessionOver,
    Unread,
    Untrusted,
)
from .events import Completed, Exit, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aio import Session, connect

__all__ = [
    "CallFailed",
    "Completed",
    "ConnectTimeout",
    "ControlLost",
    "Error",
    "Exit",
    "ExitFailure",
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
    "Unread",
    "Untrusted",
    "connect",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # asyncio costs 45 ms, which who wants the blocking face need not pay.
        if name not in ("Session", "connect"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import aio

        return getattr(aio, name)
