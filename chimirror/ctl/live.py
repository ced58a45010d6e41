"""A live session, as it is told by whoever serves it and measured by us."""

from __future__ import annotations

from dataclasses import dataclass

from chimirror.ctl import fields
from chimirror.ctl.cgroups import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.fields import Object

# The unit is there, and has not said anything: it is opening, or just about to go.
UNKNOWN = "unknown"
NOTHING = Usage()


@dataclass(slots=True)
class Live:
    """See the module; what nobody has told is empty, 0 or None.

    Attributes:
        started: microseconds since 1970.
        pid: of the bridge, or of the worker.
        unit: the session's own, in `group`.
        server: pid of the supervisor; 0 for a bridge.
        socket: the control socket of whoever has it.
    """

    id: str
    pid: int
    started: int
    peer: str = ""
    command: str = ""
    application: str = ""
    application_pid: int = 0
    framing: str = ""
    state: str = UNKNOWN
    bytes_in: int | None = None
    bytes_out: int | None = None
    messages_in: int | None = None
    messages_out: int | None = None
    usage: Usage = NOTHING
    unit: str = ""
    group: str = ""
    server: int = 0
    socket: str = ""

    def row(self, now: int) -> dict[str, object]:
        """As it is shown, and as JSON has it.

        Args:
            now: microseconds since 1970.
        """
        return {
            "id": self.id,
            "peer": self.peer,
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


def read(told: Object) -> Live:
    """From what a bridge or a worker says.

    Raises:
        Malformed: it cannot be that.
    """
    return Live(
        id=fields.text(told, "id"),
        pid=fields.count(told, "pid"),
        started=fields.count(told, "started"),
        peer=fields.text(told, "peer"),
        command=fields.text(told, "command"),
        application=fields.text(told, "application", ""),
        application_pid=fields.count(told, "application_pid", 0),
        framing=fields.text(told, "framing"),
        state=fields.text(told, "state"),
        bytes_in=fields.count(told, "bytes_in"),
        bytes_out=fields.count(told, "bytes_out"),
        messages_in=fields.count(told, "messages_in"),
        messages_out=fields.count(told, "messages_out"),
    )
