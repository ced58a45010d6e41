"""The verb that changes limits: limit.

All limits are drop-ins, which a daemon-reload applies. Limits of the slice hold at
once. Limits of the template hold for new sessions, and those of the server from its
next start on. (`systemctl set-property --runtime` is not used: the next reload loses
it where a persistent value exists.)

The number of sessions is set twice. The bridge answers 503 above it, and the socket
closes further connections. So the bound of the socket is higher. An application with
units of its own has limits of its own.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from chimirror.config import quantities
from chimirror.ctl import systemd, unit_names
from chimirror.ctl.dropins import DropIn
from chimirror.ctl.messages import CommandError, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.unit_names import UnitNames
    from chimirror.ctl.usage import CommandLine

    Settings = dict[str, str | None]

INFINITY = "infinity"
DEFAULT = "default"  # removes a limit that this verb has set
MIN_MEMORY = 32 << 20  # bytes: a bridge and its interpreter need half of it
MAX_SESSIONS = "CHIMIRROR_MAX_SESSIONS"
MAX_SESSIONS_PER_SOURCE = "CHIMIRROR_MAX_SESSIONS_PER_SOURCE"
MAX_SESSIONS_PER_USER = "CHIMIRROR_MAX_SESSIONS_PER_USER"
SESSION_TIMEOUT = "CHIMIRROR_SESSION_TIMEOUT"
# Options that the units give to the bridge and to the server.
OPTIONS = {
    "--max-sessions": MAX_SESSIONS,
    "--max-sessions-per-source": MAX_SESSIONS_PER_SOURCE,
    "--max-sessions-per-user": MAX_SESSIONS_PER_USER,
    "--session-timeout": SESSION_TIMEOUT,
}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def memory(text: str) -> str:
    """Check a size. systemd reads it as it is given."""
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)", text)
    if text in ("off", INFINITY):
        return INFINITY
    if not found:
        raise ValueError(f'"{text}" is not a size; write 512M, 2G or off')
    if int(found[1]) * _SIZES[found[2]] < MIN_MEMORY:
        raise ValueError(f'"{text}" is too little for a session; write 32M or more')
    return text


def count(text: str) -> str:
    """Convert a count for systemd."""
    limit = quantities.limit(text)
    return INFINITY if limit is None else str(limit)


def percent(text: str) -> str:
    """Convert a share of CPU time for systemd. Empty means no limit."""
    if text in ("off", INFINITY):
        return ""
    if not re.fullmatch(r"[1-9]\d{0,5}%", text):
        raise ValueError(f'"{text}" is not a percentage; write 50%, 200% or off')
    return text


def seconds(text: str) -> str:
    """Check a time. The bridge and the server read it as it is given."""
    limit = quantities.parse_timeout(text)
    return "off" if limit is None else text.strip(" ")


def sessions(text: str) -> str:
    """Convert a number of sessions for the bridge and the server."""
    return str(quantities.count(text))


def shares(text: str) -> str:
    """Convert a number of sessions per address or user for the server."""
    return str(quantities.limit(text) or "off")


def per_source(text: str) -> str:
    """Convert a number of connections per address for the socket. 0 means no limit."""
    return str(quantities.limit(text) or 0)


def margin(text: str) -> str:
    """Return the number of connections of the socket for a number of sessions.

    The margin lets the bridge answer 503 to connections above the limit.
    """
    most = quantities.count(text)
    return str(most + max(64, most // 8))


class LimitTarget(NamedTuple):
    """A unit with a drop-in for limits.

    Attributes:
        settings: Settings of the unit file, by option.
        variables: Variables of the bridge or the server, by option.
    """

    unit: str
    section: str
    settings: dict[str, tuple[str, Callable[[str], str]]]
    variables: dict[str, tuple[str, Callable[[str], str]]] = {}  # noqa: RUF012  # const


SERVER = LimitTarget(
    systemd.SERVER,
    "Service",
    {},
    {
        "--session-timeout": (SESSION_TIMEOUT, seconds),
        "--sessions": (MAX_SESSIONS, sessions),
        "--sessions-per-source": (MAX_SESSIONS_PER_SOURCE, shares),
        "--sessions-per-user": (MAX_SESSIONS_PER_USER, shares),
    },
)


def targets(units: UnitNames) -> tuple[LimitTarget, ...]:
    """Return the limit targets among the units of an application."""
    return (
        LimitTarget(
            units.slice,
            "Slice",
            {
                "--memory-max": ("MemoryMax", memory),
                "--tasks-max": ("TasksMax", count),
                "--cpu-quota": ("CPUQuota", percent),
            },
        ),
        LimitTarget(
            units.template,
            "Service",
            {
                "--session-memory-max": ("MemoryMax", memory),
                "--session-tasks-max": ("TasksMax", count),
            },
            {
                "--session-timeout": (SESSION_TIMEOUT, seconds),
                "--sessions": (MAX_SESSIONS, sessions),
            },
        ),
        LimitTarget(
            units.socket,
            "Socket",
            {
                "--sessions": ("MaxConnections", margin),
                "--sessions-per-source": ("MaxConnectionsPerSource", per_source),
            },
        ),
    )


def limit(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Set all given limits, or none if one of them is invalid."""
    name = given.options.get("--application")
    if name is not None and "--sessions-per-user" in given:
        text = "--sessions-per-user is a limit of the server alone"
        raise CommandError(os.EX_USAGE, f"{text}; write it without --application")
    units = unit_names.units(name or "")
    changes = [
        (target, _parsed(given, target.settings), _parsed(given, target.variables))
        for target in (*targets(units), *((SERVER,) if name is None else ()))
    ]
    changes = [change for change in changes if change[1] or change[2]]
    if not changes:
        raise CommandError(os.EX_USAGE, "nothing to set; --help lists the limits")
    systemd.require(host)
    unit_names.require(host, name)
    require_installed(units.sample, units.socket)
    for target, settings, variables in changes:
        _update_drop_ins(host, target, "--runtime" in given, settings, variables)
        for name, value in (settings | variables).items():
            message = f"{name} removed" if value is None else f"{name}={value}"
            output.write(f"{target.unit}: {message}\n")
    systemd.systemctl("daemon-reload")
    if systemd.SERVER in (target.unit for target, _, _ in changes):
        _warn_restart()
    return os.EX_OK


def _warn_restart() -> None:
    """Warn that a running server keeps the limits that it read at its start."""
    (server,) = systemd.properties([systemd.SERVER], ["ActiveState"])
    if server.get("ActiveState") != "inactive":
        restart = f"systemctl restart {systemd.SERVER}"
        warn(f"{systemd.SERVER} keeps the limits of its start until {restart}")


def require_installed(*names: str) -> None:
    """Raise CommandError if one of these units is not loaded."""
    for unit in systemd.properties(names, ["LoadState"]):
        if unit.get("LoadState") != "loaded":
            text = f"{unit['Id']} is {unit.get('LoadState')}; chimirror-ctl check"
            raise CommandError(os.EX_UNAVAILABLE, f"{text} shows the reason")


def _parsed(
    given: CommandLine, table: dict[str, tuple[str, Callable[[str], str]]]
) -> Settings:
    """Convert the given options of a target. None stands for DEFAULT.

    Raises:
        CommandError: A value is invalid.
    """
    found: Settings = {}
    for option, (name, parse) in table.items():
        text = given.options.get(option)
        if text is not None:
            try:
                found[name] = None if text == DEFAULT else parse(text)
            except ValueError as error:
                raise CommandError(os.EX_USAGE, f"{option}: {error}") from None
    return found


def _update_drop_ins(
    host: HostPaths,
    target: LimitTarget,
    runtime: bool,
    settings: Settings,
    variables: Settings,
) -> None:
    """Change the drop-ins of a unit.

    A new persistent value also removes the temporary one, which would hide it.
    """
    for is_runtime in (True, False):
        drop_in = DropIn(host, target.unit, target.section, runtime=is_runtime)
        for pairs, changes in (
            (drop_in.settings, settings),
            (drop_in.variables, variables),
        ):
            for name, value in changes.items():
                if is_runtime == runtime and value is not None:
                    pairs[name] = value
                elif is_runtime or not runtime:
                    pairs.pop(name, None)
        drop_in.write()
