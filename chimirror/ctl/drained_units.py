"""The record of socket units that `drain` has stopped: a file below /run.

Each line has the name of a unit, and when systemd had started it. So a socket that an
operator has started since is no longer drained, whatever its state is now. Knows
nothing of servers.
"""

from __future__ import annotations

from chimirror.ctl import systemd, unit_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.paths import HostPaths

DIRECTORY, FILE = "chimirror", "drained"  # below HostPaths.run
STARTED = "ActiveEnterTimestampMonotonic"  # 0: systemd has forgotten it


def names(host: HostPaths) -> list[str]:
    """Return the socket units that `drain` has stopped, and that still are drained."""
    return list(_recorded(host))


def add(host: HostPaths, units: dict[str, str]) -> None:
    """Record units that are about to be stopped.

    Args:
        host: The machine.
        units: The STARTED of each unit.
    """
    from chimirror.host.safe_directory import SafeDirectory

    record = _recorded(host) | units
    text = "".join(f"{name} {started}\n" for name, started in record.items())
    with SafeDirectory(f"{host.run}/{DIRECTORY}", create=True) as directory:
        directory.replace(FILE, text.encode())


def forget(host: HostPaths) -> None:
    """Remove the record."""
    from chimirror.host.safe_directory import SafeDirectory

    with SafeDirectory(f"{host.run}/{DIRECTORY}") as directory:
        directory.remove(FILE)


def socket_names(host: HostPaths) -> list[str]:
    """Return the socket units for clients, the shipped ones first."""
    own = [unit_names.units(name).socket for name in unit_names.names(host)]
    return [systemd.SOCKET, systemd.SERVER_SOCKET, *own]


def read(host: HostPaths) -> dict[str, str]:
    """Return the names in the file and their STARTED, without a look at the units."""
    try:
        with open(f"{host.run}/{DIRECTORY}/{FILE}", encoding="utf-8") as file:
            lines = [line.partition(" ") for line in file.read().splitlines()]
    except FileNotFoundError:
        return {}
    return {name: started for name, _, started in lines}


def is_current(recorded: str, started: str) -> bool:
    """Return True if a unit has not been started since it was recorded.

    Args:
        recorded: The STARTED in the file. An older version has written none.
        started: The STARTED of the unit now.
    """
    return not recorded or started in ("0", recorded)


def _recorded(host: HostPaths) -> dict[str, str]:
    """Return the drained socket units and their STARTED.

    Units that do not exist, and those that were started since, are left out.
    """
    known = socket_names(host)
    found = {name: started for name, started in read(host).items() if name in known}
    if not found:
        return {}
    units = systemd.properties(list(found), [STARTED])
    started_at = {unit["Id"]: unit.get(STARTED, "0") for unit in units}
    return {
        name: started
        for name, started in found.items()
        if is_current(started, started_at.get(name, "0"))
    }
