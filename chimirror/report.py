"""What there is to tell of a session: to whoever asks while it lives, and for the log.

The same fields from the bridge's status file and over a worker's control socket, so
that both kinds of deployment make one table (chimirror-ctl(1)). Never the payload.
"""

from __future__ import annotations

from time import time_ns

from chimirror.connection import OPEN
from chimirror.system import children
from chimirror.system.escape import escape
from chimirror.system.lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.service import Service
    from chimirror.session import Session
    from chimirror.wire.opening import Opening


def describe(service: Service, session: Session) -> dict[str, str | int]:
    """A session that is open, or has been.

    Returns:
        Texts as the records have them, counts since the start; `started` and `updated`
        in microseconds since 1970, `pid` ours, `application_pid` the application's.
    """
    now = time_ns() // 1000
    age = int((service.loop.now - session.opened) * 1_000_000)
    return {
        "id": session.identity,
        "pid": os.getpid(),
        "application_pid": session.application.pid,
        "started": now - age,
        "updated": now,
        "peer": session.peer.text,
        "application": session.app.name,
        "command": session.app.command,
        "framing": session.framing.name,
        "state": "open" if session.connection.state == OPEN else "closing",
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
        "messages_in": session.messages_in,
        "messages_out": session.messages_out,
    }


def sentence(told: dict[str, str | int]) -> str:
    """The same on one line, for `systemctl status`."""
    return (
        f"{escape(str(told['peer']))}: {escape(str(told['command']))}; "
        f"in {told['bytes_in']} bytes, {told['messages_in']} messages; "
        f"out {told['bytes_out']} bytes, {told['messages_out']} messages"
    )


def started(service: Service, session: Session, opening: Opening) -> None:
    """Write the first of a session's two records."""
    service.records.start(
        session=session.identity,
        peer=session.peer.text,
        command=session.app.command,
        application=session.app.name,
        path=opening.target,
        origin=opening.origin.decode("latin-1"),
        framing=opening.framing,
    )


def ended(service: Service, session: Session) -> None:
    """Write the second."""
    status = session.status
    service.records.end(
        session=session.identity,
        peer=session.peer.text,
        command=session.app.command,
        application=session.app.name,
        bytes_in=session.bytes_in,
        bytes_out=session.bytes_out,
        messages_in=session.messages_in,
        messages_out=session.messages_out,
        exit="" if status is None else children.describe(status),
        reason=session.reason,
        duration_usec=int((service.loop.clock() - session.opened) * 1_000_000),
    )
