"""The verb that shows limits, their usage and their origin: limits."""

from __future__ import annotations

import time
from collections import Counter

from chimirror.config import quantities
from chimirror.ctl import (
    discovery,
    formats,
    procfs,
    systemd,
    unit_names,
    unit_settings,
)
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.ctl.commands import set_limits
from chimirror.ctl.output import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.session_info import SessionInfo
    from chimirror.ctl.unit_names import UnitNames
    from chimirror.ctl.usage import CommandLine

    Properties = dict[str, str]
    Row = dict[str, object]

COLUMNS = (
    Column("limit", "LIMIT"),
    Column("value", "VALUE", formats.number),
    Column("used", "USED", formats.number),
    Column("set", "SET"),
    Column("meaning", "MEANING", rank=1),
)
SAMPLE_TIME = 0.5  # seconds: five periods of the kernel's CPU accounting
# Origin of a server limit that was changed after the start of the server.
OUTDATED = "outdated"
MEANINGS = {
    "memory-max": "memory of all sessions together",
    "tasks-max": "processes and threads of all together",
    "cpu-quota": "CPU time of all together; 100% is one core; used: now",
    "sessions": "sessions at once; further requests are answered 503",
    "sessions-per-source": "sessions at once from one address; used: the busiest",
    "connections": "connections at once; systemd closes further ones",
    "session-memory-max": "memory of each session; used: the largest",
    "session-tasks-max": "processes and threads of each; used: the largest",
    "session-timeout": "maximum age of each session; used: the oldest",
    "server-sessions": "sessions of the server; further requests are answered 503",
    "server-sessions-per-source": "its sessions from one address; used: the busiest",
    "server-sessions-per-user": "its sessions of one user; used: the busiest",
    "server-session-timeout": "maximum age of its sessions; used: the oldest",
}
# The formatters of a limit, which was set, and of its usage, which is measured.
SIZES = (formats.exact_size, formats.size)
TIMES = (formats.exact_duration, formats.duration)
SHOWN: dict[str, tuple[Callable[[float], str], Callable[[float], str]]] = {
    "memory-max": SIZES,
    "session-memory-max": SIZES,
    "session-timeout": TIMES,
    "server-session-timeout": TIMES,
    "cpu-quota": ("{:.0%}".format, "{:.0%}".format),
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
    "server-sessions-per-user": "--max-sessions-per-user",
    "server-session-timeout": "--session-timeout",
}


def limits(
    given: CommandLine,
    host: HostPaths,
    output: OutputWriter,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Print the limits of the units."""
    name = given.options.get("--application")
    units = unit_names.units(name or "")
    systemd.require(host)
    unit_names.require(host, name)
    set_limits.require_installed(units.sample, units.socket)
    found = discovery.discover(host)
    status = found.warn_incomplete()
    usage = usage_of_units(host, units, found.sessions)
    usage["cpu-quota"] = measure_cpu(CgroupHierarchy(host), units.group, pause)
    limits_held = current_limits(units)
    if name is None:
        (server,) = systemd.properties([systemd.SERVER], OF_SERVER)
        pid = int(server["MainPID"])
        served = [session for session in found.sessions if session.server == pid > 0]
        usage |= usage_of_server(served)
        limits_held |= server_limits(server, procfs.arguments(host.proc, pid))
    rows: list[Row] = [
        {"limit": name, "value": value, "used": usage[name], "set": origin}
        for name, (value, origin) in limits_held.items()
    ]
    if "--json" in given:
        output.json(rows)
        return status
    print_table(given, COLUMNS, rows, output)
    return status


def print_table(
    given: CommandLine,
    columns: Sequence[Column],
    rows: Sequence[Row],
    output: OutputWriter,
) -> None:
    """Print rows of limits, with their meaning. Changes the rows."""
    for row in rows:
        name = str(row["limit"])
        row["meaning"] = MEANINGS.get(name)  # a newer version may have more limits
        if output.width and name in SHOWN:
            for column, formatter in zip(("value", "used"), SHOWN[name], strict=True):
                value = row[column]
                if isinstance(value, int | float):
                    row[column] = formatter(value)
    output.table(columns, rows, full="--no-trunc" in given)


def current_limits(units: UnitNames) -> dict[str, tuple[float | None, str]]:
    """Return value and origin of each limit of the units, without the server.

    A value of None means no limit.
    """
    (of_slice,) = systemd.properties([units.slice], OF_SLICE)
    (template,) = systemd.properties([units.sample], OF_TEMPLATE)
    (socket,) = systemd.properties([units.socket], OF_SOCKET)
    found = {
        "memory-max": unit_settings.number(of_slice, "MemoryMax"),
        "tasks-max": unit_settings.number(of_slice, "TasksMax"),
        "cpu-quota": _quota(of_slice),
        "sessions": unit_settings.variable(template, set_limits.MAX_SESSIONS),
        "sessions-per-source": unit_settings.number(socket, "MaxConnectionsPerSource"),
        "connections": unit_settings.number(socket, "MaxConnections"),
        "session-memory-max": unit_settings.number(template, "MemoryMax"),
        "session-tasks-max": unit_settings.number(template, "TasksMax"),
        "session-timeout": unit_settings.variable(template, set_limits.SESSION_TIMEOUT),
    }
    if found["sessions-per-source"][0] == 0:
        found["sessions-per-source"] = None, found["sessions-per-source"][1]
    return found


def server_limits(
    unit: Properties, command: list[str]
) -> dict[str, tuple[float | None, str]]:
    """Return value and origin of the limits of the server.

    A running server has the limits that it read at its start.

    Args:
        command: The command line of the running server, empty if it does not run.
    """
    found = {}
    for name, option in SERVER_LIMITS.items():
        value, origin = unit_settings.variable(unit, set_limits.OPTIONS[option])
        if option in command:
            started = unit_settings.value(command[command.index(option) + 1])
            if started != value:
                value, origin = started, OUTDATED
        found[name] = value, origin
    return found


def _quota(properties: Properties) -> tuple[float | None, str]:
    """Return the CPU quota in cores: seconds of CPU time per second."""
    try:
        measure_cpu: float | None = quantities.parse_grace(
            properties["CPUQuotaPerSecUSec"]
        )
    except (KeyError, ValueError):
        measure_cpu = None
    return measure_cpu, unit_settings.origin(properties, "CPUQuota")


def usage_of_units(
    host: HostPaths, units: UnitNames, found: list[SessionInfo]
) -> dict[str, float | None]:
    """Return the current usage of each limit of the units."""
    total = CgroupHierarchy(host).usage(units.group)
    sessions = [session for session in found if units.has(session.unit)]
    return {
        "memory-max": total.memory,
        "tasks-max": total.tasks,
        "sessions": len(sessions),
        "sessions-per-source": _busiest(sessions),
        "connections": len(sessions),
        "session-memory-max": _maximum(session.usage.memory for session in sessions),
        "session-tasks-max": _maximum(session.usage.tasks for session in sessions),
        "session-timeout": _oldest(sessions),
    }


def measure_cpu(
    trees: CgroupHierarchy, group: str, pause: Callable[[float], None]
) -> float | None:
    """Measure the CPU time of a group, in cores."""
    started_at, cpu_before = time.monotonic(), trees.usage(group).cpu
    pause(SAMPLE_TIME)
    elapsed, cpu_after = time.monotonic() - started_at, trees.usage(group).cpu
    if cpu_before is None or cpu_after is None:
        return None
    return round((cpu_after - cpu_before) / elapsed, 3)


def usage_of_server(sessions: list[SessionInfo]) -> dict[str, float | None]:
    """Return the current usage of each limit of the server."""
    return {
        "server-sessions": len(sessions),
        "server-sessions-per-source": _busiest(sessions),
        "server-sessions-per-user": _busiest_user(sessions),
        "server-session-timeout": _oldest(sessions),
    }


def _busiest(sessions: list[SessionInfo]) -> int:
    """Return the number of sessions of the address that has most."""
    found = Counter(
        session.peer.rpartition(":")[0] for session in sessions if session.peer
    )
    return max(found.values(), default=0)


def _busiest_user(sessions: list[SessionInfo]) -> int:
    """Return the number of sessions of the user that has most."""
    found = Counter(session.user for session in sessions if session.user)
    return max(found.values(), default=0)


def _oldest(sessions: list[SessionInfo]) -> float | None:
    """Return the age of the oldest session, in seconds."""
    now = discovery.now()
    return _maximum((now - session.started) / 1e6 for session in sessions)


def _maximum(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
