"""Fields of a session for status files, control requests and `systemctl status`.

The status file of a bridge and the control socket of a worker have the same fields.
chimirror-ctl(1) shows both in one table. The fields never contain payload.
"""

from __future__ import annotations

from time import time_ns

from chimirror.builtin_modules import os
from chimirror.session.connection import OPEN
from chimirror.text import escape, escape_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.session import SessionContext, SessionEntry


def summarize(context: SessionContext, session: SessionEntry) -> dict[str, str | int]:
    """Return the fields of a session that is open, or has been.

    Returns:
        Texts as in the records and counts since the start. `started` and `updated` are
        in microseconds since 1970. `pid` is this process, `application_pid` the
        application. `cgroup` is the directory of a cgroup that has counted only this
        session, where there is one.
    """
    now = time_ns() // 1000
    age = int((context.loop.now - session.opened_at) * 1_000_000)
    cgroup = context.cgroup_of(session.session_id)
    return {
        "id": session.session_id,
        "pid": os.getpid(),
        "application_pid": session.process.pid,
        "started": now - age,
        "updated": now,
        "peer": session.peer.text,
        **({"user": escape_name(session.user)} if session.user else {}),
        "application": session.application.name,
        "command": session.application.command,
        "framing": session.framing.name,
        "state": "open" if session.connection.state == OPEN else "closing",
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
        "messages_in": session.messages_in,
        "messages_out": session.messages_out,
        **({"cgroup": cgroup} if cgroup else {}),
    }


def status_line(fields: dict[str, str | int]) -> str:
    """Return the fields on one line, for `systemctl status`."""
    user = f" of {fields['user']}" if "user" in fields else ""
    return (
        f"{escape(str(fields['peer']))}{user}: {escape(str(fields['command']))}; "
        f"in {fields['bytes_in']} bytes, {fields['messages_in']} messages; "
        f"out {fields['bytes_out']} bytes, {fields['messages_out']} messages"
    )
