"""How many sessions the units of this machine have, and how many they may have.

One request to systemd tells everything, since agent-checks ask each second. A server
tells its number of sessions in its status text. Servers outside of units are not known
here: they have --agent and --metrics.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chimirror.ctl import drained_units, systemd, unit_names, unit_settings
from chimirror.metrics.agent_check import STOPPED, agent_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.paths import HostPaths

    Properties = dict[str, str]

ACCEPTING, DRAINING, CLOSED = "accepting", "draining", "closed"
MAX_SESSIONS = "CHIMIRROR_MAX_SESSIONS"
_PROPERTIES = (
    "ActiveState",
    drained_units.STARTED,
    "MaxConnections",
    "NConnections",
    "StatusText",
    "Environment",
    "EnvironmentFiles",
    "TasksCurrent",
    "TasksMax",
)
# The status text of a server: server/notifier.py.
_STATUS = re.compile(r"(draining: )?(\d+) live sessions?")


class ServiceLoad(NamedTuple):
    """The load of a service: of all bridges of a socket, or of the server.

    Attributes:
        state: ACCEPTING, DRAINING or CLOSED.
        capacity: The most sessions that may run at once, or None for no limit.
    """

    state: str
    sessions: int
    capacity: int | None


class HostLoad(NamedTuple):
    """The load of the units of a machine, or of an application with its own units.

    Attributes:
        services: The bridges of the socket, and the server beside those shipped.
        tasks: Processes and threads in the slice, or None if they are not counted.
        tasks_max: The most tasks of the slice, or None for no limit.
    """

    services: list[ServiceLoad]
    tasks: int | None
    tasks_max: int | None


def measure(host: HostPaths, name: str | None) -> HostLoad:
    """Ask systemd for the load.

    Args:
        host: The machine.
        name: An application with units of its own, or None for the shipped units.

    Raises:
        CommandError: systemd is not running, or there is no such application.
    """
    systemd.require(host)
    unit_names.require(host, name)
    units = unit_names.units(name or "")
    wanted = [units.socket, units.sample, units.slice]
    if name is None:
        wanted += [systemd.SERVER_SOCKET, systemd.SERVER]
    socket, template, of_slice, *server = systemd.properties(wanted, _PROPERTIES)
    drained = drained_units.read(host)
    services = [_bridges(socket, template, drained)]
    if server:
        services.append(_server(server[0], server[1], drained))
    return HostLoad(
        services,
        _count(unit_settings.number(of_slice, "TasksCurrent")[0]),
        _count(unit_settings.number(of_slice, "TasksMax")[0]),
    )


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)


def _bridges(
    socket: Properties, template: Properties, drained: Properties
) -> ServiceLoad:
    limits = [
        unit_settings.number(socket, "MaxConnections")[0],
        unit_settings.variable(template, MAX_SESSIONS)[0],
    ]
    return ServiceLoad(
        _socket_state(socket, drained),
        int(unit_settings.number(socket, "NConnections")[0] or 0),
        min((int(limit) for limit in limits if limit is not None), default=None),
    )


def _server(
    socket: Properties, service: Properties, drained: Properties
) -> ServiceLoad:
    state, sessions = _socket_state(socket, drained), 0
    running = service.get("ActiveState")
    status = _STATUS.match(service.get("StatusText", ""))
    if running in (*systemd.RUNNING, "deactivating"):
        is_draining = running == "deactivating" or (status and status[1])
        state = DRAINING if is_draining else ACCEPTING
        sessions = int(status[2]) if status else 0
    limit, _ = unit_settings.variable(service, MAX_SESSIONS)
    return ServiceLoad(state, sessions, _count(limit))


def _socket_state(socket: Properties, drained: Properties) -> str:
    if socket.get("ActiveState") in systemd.RUNNING:
        return ACCEPTING
    recorded = drained.get(socket["Id"])
    started = socket.get(drained_units.STARTED, "0")
    if recorded is not None and drained_units.is_current(recorded, started):
        return DRAINING
    return CLOSED


def agent_answer(host: HostPaths, name: str | None) -> bytes:
    """Return the line for the agent-check of HAProxy.

    The share that is left is that of the sessions, or that of the tasks of the slice if
    it is lower. Only services that accept count.

    Args:
        host: The machine.
        name: As for measure().
    """
    load = measure(host, name)
    accepting = [each for each in load.services if each.state == ACCEPTING]
    if not accepting:
        is_draining = any(each.state == DRAINING for each in load.services)
        return agent_line(0, 1, draining=True) if is_draining else STOPPED
    shares = [(0, 1)]  # where nothing has a limit
    capacities = [each.capacity for each in accepting if each.capacity is not None]
    if len(capacities) == len(accepting):
        shares.append((sum(each.sessions for each in accepting), sum(capacities)))
    if load.tasks is not None and load.tasks_max is not None:
        shares.append((load.tasks, load.tasks_max))
    used, limit = min(shares, key=lambda share: (share[1] - share[0]) / (share[1] or 1))
    return agent_line(used, limit, draining=False)
