"""The verb that changes limits: limit.

All are drop-ins, which hold from the daemon-reload on: those of the slice at once,
those of the template for sessions that begin afterwards, those of the server from its
next start on. (`systemctl set-property --runtime` is lost at the next reload where
another value was set to last.) How many sessions there may be is told to the bridge,
which answers 503, and to the socket, which hangs up: so the socket's bound lies above.
An application with units of its own has limits of its own, in the same way.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from chimirror import units
from chimirror.ctl import owned, systemd
from chimirror.ctl.dropins import DropIn
from chimirror.ctl.failure import Failure, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.ctl.host import Host
    from chimirror.ctl.owned import Units
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

    Settings = dict[str, str | None]

INFINITY = "infinity"
DEFAULT = "default"  # takes a limit of ours back
LEAST_MEMORY = 32 << 20  # the bridge and its interpreter take half of it
MAX_SESSIONS = "CHIMIRROR_MAX_SESSIONS"
MAX_SESSIONS_PER_SOURCE = "CHIMIRROR_MAX_SESSIONS_PER_SOURCE"
SESSION_TIMEOUT = "CHIMIRROR_SESSION_TIMEOUT"
# What the units give to the bridge and to the server.
OPTIONS = {
    "--max-sessions": MAX_SESSIONS,
    "--max-sessions-per-source": MAX_SESSIONS_PER_SOURCE,
    "--session-timeout": SESSION_TIMEOUT,
}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def memory(text: str) -> str:
    """Bytes for systemd."""
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)", text)
    if text in ("off", INFINITY):
        return INFINITY
    if not found:
        raise ValueError(f'"{text}" is not a size; write 512M, 2G or off')
    size = int(found[1]) * _SIZES[found[2]]
    if size < LEAST_MEMORY:
        raise ValueError(f'"{text}" is too little for a session; write 32M or more')
    return str(size)


def count(text: str) -> str:
    """A number for systemd."""
    limit = units.limit(text)
    return INFINITY if limit is None else str(limit)


def percent(text: str) -> str:
    """CPU time for systemd, which takes nothing for no limit."""
    if text in ("off", INFINITY):
        return ""
    if not re.fullmatch(r"[1-9]\d{0,5}%", text):
        raise ValueError(f'"{text}" is not a share; write 50%, 200% or off')
    return text


def seconds(text: str) -> str:
    """A time for the bridge and the server."""
    limit = units.timeout(text)
    return "off" if limit is None else f"{limit:.6f}".rstrip("0").rstrip(".")


def sessions(text: str) -> str:
    """How many there may be, for the bridge and the server."""
    return str(units.count(text))


def sources(text: str) -> str:
    """How many of one address there may be, for the server."""
    return str(units.limit(text) or "off")


def per_source(text: str) -> str:
    """Connections for the socket, which takes 0 for no limit."""
    return str(units.limit(text) or 0)


def margin(text: str) -> str:
    """Connections at once, so that one too many is still told so."""
    most = units.count(text)
    return str(most + max(64, most // 8))


class Target(NamedTuple):
    """A unit whose drop-in holds limits.

    Attributes:
        settings: of the unit file, by option.
        variables: for the bridge or the server, by option.
    """

    unit: str
    section: str
    settings: dict[str, tuple[str, Callable[[str], str]]]
    variables: dict[str, tuple[str, Callable[[str], str]]] = {}  # noqa: RUF012  # const


SERVER = Target(
    systemd.SERVER,
    "Service",
    {},
    {
        "--session-timeout": (SESSION_TIMEOUT, seconds),
        "--sessions": (MAX_SESSIONS, sessions),
        "--sessions-per-source": (MAX_SESSIONS_PER_SOURCE, sources),
    },
)


def targets(units: Units) -> tuple[Target, ...]:
    """What of these units holds limits."""
    return (
        Target(
            units.slice,
            "Slice",
            {
                "--memory-max": ("MemoryMax", memory),
                "--tasks-max": ("TasksMax", count),
                "--cpu-quota": ("CPUQuota", percent),
            },
        ),
        Target(
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
        Target(
            units.socket,
            "Socket",
            {
                "--sessions": ("MaxConnections", margin),
                "--sessions-per-source": ("MaxConnectionsPerSource", per_source),
            },
        ),
    )


def limit(given: Given, host: Host, output: Output) -> int:
    """Set limits: all that are given, or none where one of them is no limit."""
    name = given.options.get("--application")
    units = owned.units(name or "")
    wanted = [
        (one, _parsed(given, one.settings), _parsed(given, one.variables))
        for one in (*targets(units), *((SERVER,) if name is None else ()))
    ]
    wanted = [one for one in wanted if one[1] or one[2]]
    if not wanted:
        raise Failure(os.EX_USAGE, "nothing to set; --help lists the limits")
    systemd.need(host)
    owned.need(host, name)
    installed(units.sample, units.socket)
    for target, settings, variables in wanted:
        _keep(host, target, "--runtime" in given, settings, variables)
        for name, value in (settings | variables).items():
            said = f"{name} is the unit's own" if value is None else f"{name}={value}"
            output.write(f"{target.unit}: {said}\n")
    systemd.systemctl("daemon-reload")
    if systemd.SERVER in (target.unit for target, _, _ in wanted):
        _advise()
    return os.EX_OK


def _advise() -> None:
    """Say what the server needs, if it runs: it has read its limits."""
    (server,) = systemd.properties([systemd.SERVER], ["ActiveState"])
    if server.get("ActiveState") != "inactive":
        restart = f"systemctl restart {systemd.SERVER}"
        say(f"{systemd.SERVER} runs, and has its limits from its start: {restart}")


def installed(*names: str) -> None:
    """Raises Failure where one of these units is not there."""
    for one in systemd.properties(names, ["LoadState"]):
        if one.get("LoadState") != "loaded":
            text = f"{one['Id']} is {one.get('LoadState')}; chimirror-ctl check"
            raise Failure(os.EX_UNAVAILABLE, f"{text} tells what is wrong")


def _parsed(
    given: Given, table: dict[str, tuple[str, Callable[[str], str]]]
) -> Settings:
    """The settings that are asked for; None is what the unit itself says."""
    found: Settings = {}
    for option, (name, parse) in table.items():
        text = given.options.get(option)
        if text is not None:
            try:
                found[name] = None if text == DEFAULT else parse(text)
            except ValueError as error:
                raise Failure(os.EX_USAGE, f"{option}: {error}") from None
    return found


def _keep(
    host: Host, target: Target, runtime: bool, settings: Settings, variables: Settings
) -> None:
    """Change a drop-in; what is set to last is not hidden by what passes."""
    for passing in (True, False):
        kept = DropIn(host, target.unit, target.section, runtime=passing)
        for pairs, changes in (
            (kept.settings, settings),
            (kept.variables, variables),
        ):
            for name, value in changes.items():
                if passing == runtime and value is not None:
                    pairs[name] = value
                elif passing or not runtime:
                    pairs.pop(name, None)
        kept.write()
