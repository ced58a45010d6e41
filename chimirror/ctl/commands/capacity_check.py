"""The findings of `check` about numbers of sessions: limits, and what the host holds.

`host_capacity` calculates. Here its numbers are compared with the limits of the units.
"""

from __future__ import annotations

from typing import NamedTuple

from chimirror.ctl import (
    discovery,
    host_capacity,
    systemd,
    transient_unit,
    unit_names,
)
from chimirror.ctl.commands import set_limits, show_limits
from chimirror.ctl.messages import BAD, GOOD, WARNING, Finding
from chimirror.ctl.paths import SLICE
from chimirror.ctl.transient_unit import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimirror.ctl.host_capacity import Bound
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.session_info import SessionInfo
    from chimirror.ctl.transient_unit import Place

RESERVED_TASKS = 1000  # processes of the rest of the machine
UNITS = (
    *(systemd.SERVER, systemd.SERVER_SOCKET, systemd.SAMPLE, systemd.SOCKET),
    SLICE,
)
NAMES = (
    *("LimitNOFILE", "LimitNPROC", "TasksMax", "MemoryMax", "Listen"),
    *("Environment", "EnvironmentFiles"),
)


class _Kind(NamedTuple):
    """Sessions of one kind, and their limit in the units."""

    service: host_capacity.SessionKind
    maximum: float | None


def limits(host: HostPaths) -> Iterator[Finding]:
    """Compare the limits of the units with each other, and with those of the kernel."""
    current_limits = show_limits.current_limits(unit_names.units(""))
    sessions, _ = current_limits["sessions"]
    connections, _ = current_limits["connections"]
    if sessions is None:
        text = f"{set_limits.MAX_SESSIONS} is not set"
        advice = "chimirror-ctl limit --sessions N sets it"
        place = _place_of_variable(set_limits.MAX_SESSIONS)
        yield Finding(BAD, "sessions", text, advice, *place)
        return
    if connections is not None and connections <= sessions:
        text = f"{sessions:g} may be open, but systemd closes all after {connections:g}"
        advice = f"chimirror-ctl limit --sessions {sessions:g} sets both"
        place = _place_of_variable(set_limits.MAX_SESSIONS)
        yield Finding(BAD, "sessions", text, advice, *place)
    # A session has a bridge and at least one process of the application.
    tasks = 2 * sessions + RESERVED_TASKS
    for name in ("pid_max", "threads-max"):
        file = f"{host.proc}/sys/kernel/{name}"
        maximum = _number(file)
        if maximum and maximum < tasks:
            text = f"{sessions:g} sessions need {tasks:g} processes, of {maximum}"
            advice = f"sysctl kernel.{name}={2 * tasks:g}, or fewer sessions"
            yield Finding(BAD, f"kernel.{name}", text, advice, file)
    allowed, _ = current_limits["tasks-max"]
    if allowed is not None and allowed < 2 * sessions:
        text = f"{sessions:g} sessions need {2 * sessions:g} tasks, of {allowed:g}"
        advice = f"chimirror-ctl limit --tasks-max {4 * sessions:g}, or fewer sessions"
        place = transient_unit.find_settings(SLICE).places.get("TasksMax", NOWHERE)
        yield Finding(WARNING, SLICE, text, advice, *place)
    file = f"{host.proc}/sys/fs/file-max"
    files = _number(file)
    if files and files < 50 * sessions:
        text = f"{sessions:g} sessions may need {50 * sessions:g} files, of {files}"
        advice = f"sysctl fs.file-max={100 * sessions:g}"
        yield Finding(WARNING, "fs.file-max", text, advice, file)
    yield Finding(GOOD, "sessions", f"{sessions:g} may be open at once")


def _place_of_variable(name: str) -> Place:
    """Return the file and line that set a variable of the bridge."""
    return transient_unit.find_settings(systemd.SAMPLE).place_of_variable(name)


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def capacities(host: HostPaths, services: Sequence[str]) -> Iterator[Finding]:
    """Tell for each service how many sessions this host holds, and the first limit.

    Args:
        host: The paths of this machine.
        services: The services that are in use.
    """
    units = {unit["Id"]: unit for unit in systemd.properties(UNITS, NAMES)}
    if not units.keys() >= set(UNITS):
        return
    found = discovery.discover(host).sessions
    if systemd.SERVER in services:
        kind = _of_server(units, [one for one in found if one.server])
        yield from _capacity(host, systemd.SERVER, kind)
    if systemd.SAMPLE in services:
        kind = _of_bridges(units, [one for one in found if one.unit])
        yield from _capacity(host, systemd.TEMPLATE, kind)


def _of_server(
    units: dict[str, dict[str, str]], sessions: Sequence[SessionInfo]
) -> _Kind:
    unit = units[systemd.SERVER]
    maximum, _ = show_limits.server_limits(unit, [])["server-sessions"]
    service = host_capacity.SessionKind(
        sessions=sessions,
        processes=1,
        files=host_capacity.SERVER_FILES,
        memory=host_capacity.SERVER_MEMORY,
        overhead=host_capacity.SERVER_OVERHEAD,
        tasks=(unit.get("TasksMax", ""), units[SLICE].get("TasksMax", "")),
        memory_max=(unit.get("MemoryMax", ""), units[SLICE].get("MemoryMax", "")),
        descriptors=unit.get("LimitNOFILE"),
        listens=units[systemd.SERVER_SOCKET].get("Listen", ""),
        user_processes=unit.get("LimitNPROC", ""),
        has_default=maximum is None,
    )
    return _Kind(service, maximum)


def _of_bridges(
    units: dict[str, dict[str, str]], sessions: Sequence[SessionInfo]
) -> _Kind:
    maximum, _ = show_limits.current_limits(unit_names.units(""))["sessions"]
    service = host_capacity.SessionKind(
        sessions=sessions,
        processes=2,
        files=host_capacity.BRIDGE_FILES,
        memory=host_capacity.BRIDGE_MEMORY,
        overhead=0,
        tasks=(units[SLICE].get("TasksMax", ""),),
        memory_max=(units[SLICE].get("MemoryMax", ""),),
        descriptors=None,
        listens=units[systemd.SOCKET].get("Listen", ""),
    )
    return _Kind(service, maximum)


def _capacity(host: HostPaths, name: str, kind: _Kind) -> Iterator[Finding]:
    """Tell the bounds of one service, and warn if its limit is above the lowest."""
    bounds = host_capacity.bounds(host, kind.service)
    if not bounds:
        return
    about = f"capacity of {name}"
    numbers = {bound.resource: bound.sessions for bound in bounds}
    lowest, *others = bounds
    text = f"{lowest.sessions:,} sessions: {lowest.cause}"
    if others:
        text += f"; then {_listed(others)}"
    if kind.maximum is not None and kind.maximum > lowest.sessions:
        text = f"{kind.maximum:,.0f} sessions may be open, and it holds {text}"
        advice = f"{lowest.advice}; or fewer sessions"
        yield Finding(WARNING, about, text, advice, sessions=numbers)
    else:
        yield Finding(GOOD, about, text, sessions=numbers)


def _listed(bounds: Sequence[Bound]) -> str:
    return ", ".join(f"{bound.resource} {bound.sessions:,}" for bound in bounds)
