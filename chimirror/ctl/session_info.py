"""A live session: its status as reported, its usage as measured, and its id.

Knows nothing of the places where sessions are found.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise

from chimirror.ctl import json_fields
from chimirror.ctl.cgroups import ResourceUsage
from chimirror.ctl.messages import CommandError
from chimirror.host import runtime_dir
from chimirror.text import SHORT_ID, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chimirror.ctl.json_fields import Object

# The unit exists, but has no status: the session is just starting or ending.
UNKNOWN = "unknown"
SPARE = "spare"  # a process that waits for a session
NO_USAGE = ResourceUsage()


@dataclass(slots=True)
class SessionInfo:
    """The status of a live session. Unreported fields are empty, 0 or None.

    Attributes:
        started: Microseconds since 1970.
        pid: The bridge or worker.
        unit: The unit of the session. Its control group is `group`.
        cgroup: The directory of the control group of a session with limits.
        server: The pid of the supervisor, 0 for a bridge.
        socket: The control socket of the bridge or worker.
        name: What messages call it: a prefix of its id that no other live session has.
    """

    id: str
    pid: int
    started: int
    peer: str = ""
    user: str = ""
    command: str = ""
    application: str = ""
    application_pid: int = 0
    framing: str = ""
    state: str = UNKNOWN
    bytes_in: int | None = None
    bytes_out: int | None = None
    messages_in: int | None = None
    messages_out: int | None = None
    usage: ResourceUsage = NO_USAGE
    unit: str = ""
    group: str = ""
    cgroup: str = ""
    server: int = 0
    socket: str = ""
    name: str = ""

    def row(self, now: int) -> dict[str, object]:
        """Return the session as a row of a table and as a JSON object.

        Args:
            now: Microseconds since 1970.
        """
        return {
            "id": self.id,
            "peer": self.peer,
            **({"user": self.user} if self.user else {}),
            "age": round(max(now - self.started, 0) / 1e6, 3),
            "application": self.application or self.command,
            "state": self.state,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "messages_in": self.messages_in,
            "messages_out": self.messages_out,
            "cpu": self.usage.cpu,
            "memory": self.usage.memory,
            "tasks": self.usage.tasks,
            "started": self.started,
            "command": self.command,
            "framing": self.framing,
            "pid": self.pid,
            "application_pid": self.application_pid or None,
            "unit": self.unit or None,
            "server": self.server or None,
        }


def read(report: Object) -> SessionInfo:
    """Read the report of a bridge or a worker.

    Raises:
        Malformed: A field is missing or has the wrong type.
    """
    identity = json_fields.text(report, "id")
    if not runtime_dir.is_session(identity):  # shells complete it
        raise json_fields.Malformed("id is not that of a session")
    return SessionInfo(
        id=identity,
        pid=json_fields.count(report, "pid"),
        started=json_fields.count(report, "started"),
        peer=json_fields.text(report, "peer"),
        user=json_fields.text(report, "user", ""),
        command=json_fields.text(report, "command"),
        application=json_fields.text(report, "application", ""),
        application_pid=json_fields.count(report, "application_pid", 0),
        framing=json_fields.text(report, "framing"),
        state=json_fields.text(report, "state"),
        bytes_in=json_fields.count(report, "bytes_in"),
        bytes_out=json_fields.count(report, "bytes_out"),
        messages_in=json_fields.count(report, "messages_in"),
        messages_out=json_fields.count(report, "messages_out"),
        cgroup=json_fields.text(report, "cgroup", ""),
    )


_PREFIX = re.compile(r"[0-9a-f]{1,32}")


def unique_prefix_length(ids: Sequence[str]) -> int:
    """Return the shortest prefix length that keeps all ids distinct."""
    ordered = sorted(ids)
    length = SHORT_ID
    for identity, other in pairwise(ordered):
        while identity != other and identity[:length] == other[:length]:
            length += 1
    return length


def shorten_ids(rows: Iterable[dict[str, object]], others: Iterable[str]) -> None:
    """Shorten the ids of rows to prefixes that are unique, also among others."""
    rows = list(rows)
    length = unique_prefix_length([*(str(row["id"]) for row in rows), *others])
    for row in rows:
        row["id"] = str(row["id"])[:length]


def parse_prefix(text: str) -> str:
    """Check an id, or the first characters of one, from the command line."""
    if not _PREFIX.fullmatch(text.lower()):
        raise CommandError(os.EX_USAGE, f"{escape(text)} is not the beginning of an ID")
    return text.lower()


def match_id(text: str, ids: Iterable[str]) -> str | None:
    """Return the only id with this prefix, or None if there is none.

    Raises:
        CommandError: Several ids have this prefix.
    """
    prefix = parse_prefix(text)
    matches = sorted({identity for identity in ids if identity.startswith(prefix)})
    if len(matches) > 1:
        length = unique_prefix_length(matches)
        examples = ", ".join(match[:length] for match in matches[:4])
        examples += ", …" if len(matches) > 4 else ""
        message = (
            f"{prefix} is ambiguous: {len(matches)} sessions begin with it: {examples}"
        )
        raise CommandError(os.EX_DATAERR, message)
    return matches[0] if matches else None
