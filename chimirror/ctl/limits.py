"""The verb that shows limits: limits. What holds now, what is used, who has set it."""

from __future__ import annotations

from collections import Counter

from chimirror import envfile, units
from chimirror.ctl import limit, sources, systemd, table
from chimirror.ctl.cgroups import Trees
from chimirror.ctl.host import SLICE
from chimirror.ctl.table import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.ctl.host import Host
    from chimirror.ctl.live import Live
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
MEANINGS = {
    "memory-max": "memory of all sessions together",
    "tasks-max": "processes and threads of all together",
    "cpu-quota": "CPU time of all together; 100% is one core",
    "sessions": "sessions at once; more are answered 503",
    "sessions-per-source": "sessions at once from one address; used: the busiest",
    "connections": "connections at once; systemd hangs up on more",
    "session-memory-max": "memory of each session; used: the largest",
    "session-tasks-max": "processes and threads of each; used: the largest",
    "session-timeout": "how long each may last; used: the oldest",
}
SHOWN = {
    "memory-max": table.size,
    "session-memory-max": table.size,
    "session-timeout": table.duration,
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


def limits(given: Given, host: Host, output: Output) -> int:
    """A table of the limits of the units."""
    systemd.need(host)
    limit.installed(systemd.SAMPLE, systemd.SOCKET)
    found = sources.gather(host)
    status = found.complain()
    now_used = used(host, [one for one in found.sessions if one.unit])
    rows: list[Row] = [
        {"limit": name, "value": value, "used": now_used[name], "set": origin}
        for name, (value, origin) in holding().items()
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


def holding() -> dict[str, tuple[float | None, str]]:
    """The value of each limit (None: no limit), and where it was set."""
    (of_slice,) = systemd.properties([SLICE], OF_SLICE)
    (template,) = systemd.properties([systemd.SAMPLE], OF_TEMPLATE)
    (socket,) = systemd.properties([systemd.SOCKET], OF_SOCKET)
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
    try:
        return units.timeout(text), origin
    except ValueError:
        return None, origin


def used(host: Host, sessions: list[Live]) -> dict[str, float | None]:
    """What is used of each limit at this moment."""
    trees = Trees(host)
    whole = trees.usage(SLICE)
    now = sources.now()
    sources_of = Counter(one.peer.rpartition(":")[0] for one in sessions if one.peer)
    return {
        "memory-max": whole.memory,
        "tasks-max": whole.tasks,
        "cpu-quota": None,
        "sessions": len(sessions),
        "sessions-per-source": max(sources_of.values(), default=0),
        "connections": len(sessions),
        "session-memory-max": _most(one.usage.memory for one in sessions),
        "session-tasks-max": _most(one.usage.tasks for one in sessions),
        "session-timeout": _most((now - one.started) / 1e6 for one in sessions),
    }


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
