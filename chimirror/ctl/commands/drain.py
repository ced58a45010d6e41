"""Verbs that stop and resume accepting: drain, undrain.

A running server is asked over its control sockets. It keeps its listeners and answers
503 until it is asked again. Socket units are stopped, and `drained_units` records
those that were active. `undrain` starts these.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chimirror.ctl import (
    control_client,
    discovery,
    drained_units,
    json_fields,
    procfs,
    systemd,
)
from chimirror.ctl.drained_units import STARTED
from chimirror.ctl.messages import CommandError, warn
from chimirror.host.runtime_dir import SERVERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

STOP = ("stop", "--no-block")


class Answers(NamedTuple):
    """The responses of all servers.

    Attributes:
        draining: For each server that has answered, whether it rejects new sessions.
        status: The exit status, for servers that have not.
    """

    draining: dict[int, bool]
    status: int


def drain(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Accept no more sessions. With --now, end the sessions too."""
    now = "--now" in given
    servers = _ask_servers(host, "drain", {"now": now})
    loaded = host.booted and _stop_sockets(host, servers.draining)
    if not servers.draining and not loaded:
        status = servers.status or os.EX_UNAVAILABLE
        raise CommandError(status, "no server and no socket unit runs here")
    found = discovery.discover(host)
    if now:
        units = [session.unit for session in found.sessions if session.unit]
        systemd.on_units(STOP, units)
    output.write(f"sessions left: {len(found.sessions)}\n")
    return found.warn_incomplete() or servers.status


def undrain(_given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Accept sessions again."""
    servers = _ask_servers(host, "undrain", {})
    units = drained_units.names(host)
    if not servers.draining and not units:
        status = servers.status or os.EX_UNAVAILABLE
        raise CommandError(status, "nothing is drained here")
    if units:
        systemd.systemctl("start", "--", *units)
        drained_units.forget(host)
    names = list(units)
    for pid, draining in servers.draining.items():
        if draining:
            warn(f"server {pid} is stopping; start another one")
        else:
            names.append(f"server {pid}")
    output.write("".join(f"accepts sessions: {name}\n" for name in names))
    return servers.status


# Socket units


def _stop_sockets(host: HostPaths, servers: Collection[int]) -> bool:
    """Stop the socket units, but for that of a server that has been asked.

    Returns:
        True if any socket unit exists.
    """
    names = drained_units.socket_names(host)
    states = systemd.properties(names, ["LoadState", "ActiveState", STARTED])
    loaded = [unit for unit in states if unit.get("LoadState") == "loaded"]
    asked = any(_in_unit(host, pid) for pid in servers)
    running = {
        unit["Id"]: unit.get(STARTED, "0")
        for unit in loaded
        if unit.get("ActiveState") in systemd.RUNNING
        and not (asked and unit["Id"] == systemd.SERVER_SOCKET)
    }
    if running:
        drained_units.add(host, running)
        systemd.systemctl(*STOP, "--", *running)
    return bool(loaded)


def _in_unit(host: HostPaths, pid: int) -> bool:
    groups = procfs.read(f"{host.proc}/{pid}/cgroup").decode()
    return f"/{systemd.SERVER}" in groups


# Servers


def _ask_servers(host: HostPaths, method: str, params: dict[str, object]) -> Answers:
    """Send a request to each worker of each server.

    Warns about each that does not answer, such as one of an older version.
    """
    draining: dict[int, bool] = {}
    status = os.EX_OK
    for supervisor, path in _find_workers(host):
        try:
            about = control_client.worker_name(supervisor, path)
            with control_client.ControlClient(path, about) as worker, worker.reading():
                answer = worker.request(method, **params)
                draining[supervisor] = json_fields.flag(answer, "draining")
        except control_client.Ended:
            pass
        except control_client.RequestDenied as error:
            warn(f"server {supervisor} has to be stopped instead: {error}")
            status = os.EX_UNAVAILABLE
        except control_client.AccessDenied as error:
            warn(str(error))
            status = os.EX_NOPERM
        except control_client.NoAnswer as error:
            warn(str(error))
            status = os.EX_TEMPFAIL
    return Answers(draining, status)


def _find_workers(host: HostPaths) -> Iterator[tuple[int, str]]:
    """Find the workers of the servers that run here.

    Yields:
        The pid of the supervisor, and the socket path of the worker.

    Raises:
        CommandError: This user may not read the directory.
    """
    for directory in host.runtime_dirs:
        servers_dir = f"{directory}/{SERVERS}"
        try:
            for supervisor, paths in control_client.find_servers(servers_dir):
                for path in paths:
                    yield supervisor, path
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            text = f"{servers_dir}: permission denied; run it as root"
            text = f"servers cannot be asked: {text}"
            raise CommandError(os.EX_NOPERM, text) from None
