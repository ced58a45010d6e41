"""The verb that shows limits: limits. What holds now, what is used, who has set it."""

from __future__ import annotations

import time
from collections import Counter

from chimirror import envfile, units
from chimirror.ctl import limit, owned, processes, sources, systemd, table
from chimirror.ctl.cgroups import Trees
from chimirror.ctl.table import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chimirror.ctl.host import Host
    from chimirror.ctl.live import Live
    from chimirror.ctl.owned import Units
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

    Properties = dict[str, str]
    Row = dict[str, object]

COLUMNS = (
    Column("limit", "LIMIT"),
    Column("value", "VALUE"),
    Column("used", "USED"),
    Column("set", "SET"),
    Column("meaning", "MEANING"),
)
SAMPLE = 0.5  # seconds: five of the periods in which the kernel counts CPU time
# Where a limit of the server was set: what is set now holds from its restart on.
OUTDATED = "outdated"
MEANINGS = {
    "memory-max": "memory of all sessions together",
    "tasks-max": "processes and threads of all together",
    "cpu-quota": "CPU time of all together; 100% is one core; used: just now",
    "sessions": "sessions at once; more are answered 503",
    "sessions-per-source": "sessions at once from one address; used: the busiest",
    "connections": "connections at once; systemd hangs up on more",
    "session-memory-max": "memory of each session; used: the largest",
    "session-tasks-max": "processes and threads of each; used: the largest",
    "session-timeout": "how long each may last; used: the oldest",
    "server-sessions": "sessions of the server at once; more are answered 503",
    "server-sessions-per-source": "its sessions from one address; used: the busiest",
    "server-session-timeout": "how long each of its may last; used: the oldest",
}
SHOWN = {
    "memory-max": table.size,
    "session-memory-max": table.size,
    "session-timeout": table.duration,
    "server-session-timeout": table.duration,
    "cpu-quota": "{:.0%}".format,
}
OF_SLICE = ("LoadState", "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "DropInPaths")
OF_TEMPLATE = (
    "LoadState",
    "MemoryMax",
    "TasksMax",
    "Environment",
    "EnvironmentFiles",
    "DropInPaths",
)
OF_SOCKET = (
    "LoadState",
    "MaxConnections",
    "MaxConnectionsPerSource",
    "NConnections",
    "DropInPaths",
)
OF_SERVER = ("MainPID", "Environment", "EnvironmentFiles")
SERVER_LIMITS = {
    "server-sessions": "--max-sessions",
    "server-sessions-per-source": "--max-sessions-per-source",
    "server-session-timeout": "--session-timeout",
}


def limits(
    given: Given,
    host: Host,
    output: Output,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """A table of the limits of the units."""
    name = given.options.get("--application")
    units = owned.units(name or "")
    systemd.need(host)
    owned.need(host, name)
    limit.installed(units.sample, units.socket)
    found = sources.gather(host)
    status = found.complain()
    now_used = used(host, units, found.sessions)
    now_used["cpu-quota"] = cores(Trees(host), units.group, pause)
    held = holding(units)
    if name is None:
        (server,) = systemd.properties([systemd.SERVER], OF_SERVER)
        pid = int(server["MainPID"])
        served = [one for one in found.sessions if one.server == pid > 0]
        now_used |= used_of_server(served)
        held |= of_server(server, processes.words(host.proc, pid))
    rows: list[Row] = [
        {"limit": name, "value": value, "used": now_used[name], "set": origin}
        for name, (value, origin) in held.items()
    ]
    if "--json" in given:
        output.json(rows)
        return status
    for row in rows:
        name = str(row["limit"])
        row["meaning"] = MEANINGS[name]
        if output.width:
            row["value"], row["used"] = (
                _said(name, row["value"]),
                _said(name, row["used"]),
            )
    output.table(COLUMNS, rows)
    return status


def _said(name: str, value: object) -> object:
    if name in SHOWN and isinstance(value, int | float):
        return SHOWN[name](value)
    return value


def holding(units: Units) -> dict[str, tuple[float | None, str]]:
    """The value of each limit (None: no limit), and where it was set.

    Those of the server are not among them.
    """
    (of_slice,) = systemd.properties([units.slice], OF_SLICE)
    (template,) = systemd.properties([units.sample], OF_TEMPLATE)
    (socket,) = systemd.properties([units.socket], OF_SOCKET)
    found = {
        "memory-max": _property(of_slice, "MemoryMax"),
        "tasks-max": _property(of_slice, "TasksMax"),
        "cpu-quota": _quota(of_slice),
        "sessions": _variable(template, limit.MAX_SESSIONS),
        "sessions-per-source": _property(socket, "MaxConnectionsPerSource"),
        "connections": _property(socket, "MaxConnections"),
        "session-memory-max": _property(template, "MemoryMax"),
        "session-tasks-max": _property(template, "TasksMax"),
        "session-timeout": _variable(template, limit.SESSION_TIMEOUT),
    }
    if found["sessions-per-source"][0] == 0:
        found["sessions-per-source"] = None, found["sessions-per-source"][1]
    return found


def of_server(
    unit: Properties, command: list[str]
) -> dict[str, tuple[float | None, str]]:
    """What holds in the server, which has read its limits when it was started.

    Args:
        command: the command line that it runs with; empty if it does not.
    """
    found = {}
    for name, option in SERVER_LIMITS.items():
        value, origin = _variable(unit, limit.OPTIONS[option])
        if option in command:
            started = _value(command[command.index(option) + 1])
            if started != value:
                value, origin = started, OUTDATED
        found[name] = value, origin
    return found


def _property(of: Properties, name: str) -> tuple[float | None, str]:
    text = of.get(name, "")
    return int(text) if text.isdigit() else None, _origin(of, name)


def _quota(of: Properties) -> tuple[float | None, str]:
    """Cores: seconds of CPU time per second, as systemd writes times."""
    try:
        cores: float | None = units.grace(of["CPUQuotaPerSecUSec"])
    except (KeyError, ValueError):
        cores = None
    return cores, _origin(of, "CPUQuota")


def _origin(of: Properties, setting: str) -> str:
    """What of its drop-ins sets it: the last one counts."""
    found = "unit"
    for path in of.get("DropInPaths", "").split():
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if f"\n{setting}=" in "\n" + file.read():
                    found = "runtime" if path.startswith("/run/") else "persistent"
        except OSError:
            pass  # it has gone since
    return found


def _variable(of: Properties, name: str) -> tuple[float | None, str]:
    """A variable of the unit: its files are read in order, the last one counts."""
    text, origin = "", "unit"
    for word in of.get("Environment", "").split():
        if word.startswith(f"{name}="):
            text = word.partition("=")[2]
    for line in of.get("EnvironmentFiles", "").splitlines():
        path = line.partition(" (")[0]
        try:
            given = envfile.read_all([path])
        except ValueError:
            continue  # it is not there, or check tells what is wrong with it
        if name in given:
            text = given[name]
            origin = "runtime" if path.startswith("/run/") else "persistent"
    return _value(text), origin


def _value(text: str) -> float | None:
    """A number or a time; both are written as times are."""
    try:
        return units.timeout(text)
    except ValueError:
        return None


def used(host: Host, units: Units, found: list[Live]) -> dict[str, float | None]:
    """What units use of each limit at this moment."""
    whole = Trees(host).usage(units.group)
    sessions = [one for one in found if units.has(one.unit)]
    return {
        "memory-max": whole.memory,
        "tasks-max": whole.tasks,
        "sessions": len(sessions),
        "sessions-per-source": _busiest(sessions),
        "connections": len(sessions),
        "session-memory-max": _most(one.usage.memory for one in sessions),
        "session-tasks-max": _most(one.usage.tasks for one in sessions),
        "session-timeout": _oldest(sessions),
    }


def cores(trees: Trees, group: str, pause: Callable[[float], None]) -> float | None:
    """How much CPU time units use, as a share of the time that it is looked at."""
    began, before = time.monotonic(), trees.usage(group).cpu
    pause(SAMPLE)
    passed, after = time.monotonic() - began, trees.usage(group).cpu
    if before is None or after is None:
        return None
    return round((after - before) / passed, 3)


def used_of_server(sessions: list[Live]) -> dict[str, float | None]:
    """What the server uses of its own."""
    return {
        "server-sessions": len(sessions),
        "server-sessions-per-source": _busiest(sessions),
        "server-session-timeout": _oldest(sessions),
    }


def _busiest(sessions: list[Live]) -> int:
    """How many sessions one source has."""
    found = Counter(one.peer.rpartition(":")[0] for one in sessions if one.peer)
    return max(found.values(), default=0)


def _oldest(sessions: list[Live]) -> float | None:
    """Seconds."""
    now = sources.now()
    return _most((now - one.started) / 1e6 for one in sessions)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
