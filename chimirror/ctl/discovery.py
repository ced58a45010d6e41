"""Finds the live sessions of a machine: of units, of other bridges and of servers.

Every local user may write a file into the directory of status files. So a status file
is believed in two cases only. Its id is the invocation of a running unit, or its owner
also owns a chimirror process with its pid. The session of a unit is acted on by the
name of the unit, never by a pid from a file.
"""

from __future__ import annotations

import os
import time
from stat import S_ISREG
from typing import NamedTuple

from chimirror import regular_file
from chimirror.ctl import control_client, procfs, session_info, systemd
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.ctl.json_fields import Malformed, decode
from chimirror.ctl.messages import CommandError, warn
from chimirror.ctl.paths import SLICE
from chimirror.ctl.session_info import SessionInfo
from chimirror.host import runtime_dir
from chimirror.host.runtime_dir import SERVERS, SESSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimirror.ctl.paths import HostPaths

    Unit = tuple[str, str]  # name and control group

MAX_STATUS_FILE = 1 << 16  # bytes of a status file
READ_ATTEMPTS = 3  # a bridge may write the file at the same time


class Discovered(NamedTuple):
    """The result of a search for live sessions.

    Attributes:
        sessions: The sessions that were found.
        denied: Directories that this user may not read.
        unanswered: A message for each worker that did not answer.
        spares: Processes of servers that wait for a session.
    """

    sessions: list[SessionInfo]
    denied: list[str]
    unanswered: list[str]
    spares: list[SessionInfo]

    def live_ids(self) -> set[str] | None:
        """Return the ids of all live sessions, or None if some may be missing."""
        hidden = self.denied or self.unanswered
        return None if hidden else {session.id for session in self.sessions}

    def warn_incomplete(self) -> int:
        """Warn about sessions that may be missing. Returns the exit status for it.

        Raises:
            CommandError: No session can be read.
        """
        for text in self.unanswered:
            warn(f"some sessions are missing: {text}")
        if self.denied and all(
            session.state == session_info.UNKNOWN for session in self.sessions
        ):
            raise CommandError(os.EX_NOPERM, _unlisted(self.denied[0]))
        for directory in self.denied:
            warn(f"some sessions are missing: {_unlisted(directory)}")
        return os.EX_TEMPFAIL if self.unanswered else os.EX_OK

    def select(self, prefixes: Sequence[str]) -> list[SessionInfo]:
        """Return the sessions that these prefixes of ids name, each once.

        Raises:
            CommandError: One of them is not live. No session is touched then.
        """
        live = {session.id: session for session in self.sessions}
        selected: dict[str, SessionInfo] = {}
        for text in prefixes:
            identity = session_info.match_id(text, live)
            if identity is None:
                self.warn_incomplete()
                prefix = session_info.parse_prefix(text)
                missing = f"no live session {prefix}; chimirror-ctl sessions lists them"
                missing += ", and history those that have ended"
                raise CommandError(os.EX_NOINPUT, missing)
            selected[identity] = live[identity]
        length = session_info.unique_prefix_length(list(live))
        for session in selected.values():
            session.name = f"session {session.id[:length]}"
        return list(selected.values())


def _unlisted(directory: str) -> str:
    kind = "servers" if directory.endswith(SERVERS) else "bridges"
    text = f"{directory}: permission denied; run it as root"
    return f"sessions of {kind} cannot be listed: {text}"


def now() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1000


def discover(host: HostPaths) -> Discovered:
    """Find all live sessions and measure their usage."""
    hierarchy = CgroupHierarchy(host)
    found = discover_bridges(host, hierarchy)
    for directory in host.runtime_dirs:
        _add_servers(f"{directory}/{SERVERS}", found)
    _measure_usage(host, hierarchy, [*found.sessions, *found.spares])
    return found


def discover_bridges(host: HostPaths, hierarchy: CgroupHierarchy) -> Discovered:
    """Find the live sessions of bridges, without their usage."""
    found = Discovered([], [], [], [])
    empty_files: list[str] = []
    status_files = [
        pair
        for directory in host.runtime_dirs
        for pair in _read_status_files(directory, found, empty_files)
    ]
    if empty_files:
        _remove_orphans(host, empty_files)
    # Units are listed after the files. A session that began in between is found here,
    # and its file is not removed as stale.
    units = _session_units(host, hierarchy)
    for path, session in status_files:
        if _match_unit(session, units) or _is_live_bridge(host, path, session):
            session.socket = runtime_dir.control(path)
            found.sessions.append(session)
    found.sessions.extend(_from_unit(host, hierarchy, *unit) for unit in units.items())
    return found


# Bridges


def _read_status_files(
    runtime: str, found: Discovered, empty_files: list[str]
) -> Iterator[tuple[str, SessionInfo]]:
    """Read the status files of a runtime directory.

    Args:
        empty_files: Receives the paths of files without a readable status.

    Yields:
        The path of each file and its session.
    """
    directory = f"{runtime}/{SESSIONS}"
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        found.denied.append(directory)
        return
    for name in filter(runtime_dir.is_session, names):
        path = f"{directory}/{name}"
        session = _read_status(path)
        if session is None:
            empty_files.append(path)
        elif session.id == name:
            yield path, session


def _read_status(path: str) -> SessionInfo | None:
    for _ in range(READ_ATTEMPTS):
        try:
            data, _ = regular_file.read(path, MAX_STATUS_FILE, follow=False)
            return session_info.read(decode(data))
        except (OSError, regular_file.UnusableFile):
            return None
        except Malformed:
            pass
    return None


def _match_unit(session: SessionInfo, units: dict[str, Unit]) -> bool:
    """Give a session its unit. Returns whether it has one."""
    unit = units.pop(session.id, None)
    if unit is None:
        return False
    session.unit, session.group = unit
    session.application = session.application or systemd.application(session.unit)
    return True


def _is_live_bridge(host: HostPaths, path: str, session: SessionInfo) -> bool:
    """Return whether a bridge without a unit has this session. Removes stale files."""
    try:
        if procfs.is_chimirror_process(host.proc, session.pid, os.lstat(path).st_uid):
            return True
        if not os.path.exists(f"{host.proc}/{session.pid}"):
            os.unlink(path)
            os.unlink(runtime_dir.control(path))
    except OSError:
        pass  # the file has been removed, or belongs to another user
    return False


def _remove_orphans(host: HostPaths, empty_files: list[str]) -> None:
    """Remove the files of bridges that were killed before they wrote a status.

    A live bridge keeps its file open from creation to end.
    """
    open_files = procfs.open_files(host.proc)
    for path in empty_files:
        try:
            status = os.lstat(path)
            if open_files is None or not S_ISREG(status.st_mode):
                continue
            if (status.st_dev, status.st_ino) not in open_files:
                os.unlink(path)
                os.unlink(runtime_dir.control(path))
        except OSError:
            pass  # the file has been removed, or belongs to another user


# Units


def _session_units(host: HostPaths, hierarchy: CgroupHierarchy) -> dict[str, Unit]:
    """Return the units of sessions by invocation id."""
    found = {}
    for unit, group in hierarchy.services(SLICE):
        if systemd.SESSION_UNIT.fullmatch(unit):
            identity = systemd.invocation(host, unit)
            if identity:
                found[identity] = unit, group
    return found


def _from_unit(
    host: HostPaths, hierarchy: CgroupHierarchy, identity: str, found: Unit
) -> SessionInfo:
    """Return the session of a unit that has no status file, or none yet."""
    unit, group = found
    pid = next(iter(hierarchy.processes(group)), 0)
    variables = procfs.environment(host.proc, pid) if pid else {}
    address, port = variables.get("REMOTE_ADDR", ""), variables.get("REMOTE_PORT", "")
    peer = f"[{address}]" if ":" in address else address
    return SessionInfo(
        id=identity,
        pid=pid,
        started=hierarchy.created(group),
        peer=f"{peer}:{port}" if port else peer,
        application=systemd.application(unit),
        unit=unit,
        group=group,
    )


# Servers


def _add_servers(directory: str, found: Discovered) -> None:
    try:
        for supervisor, paths in control_client.find_servers(directory):
            for path in paths:
                _add_worker(supervisor, path, found)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except PermissionError:
        found.denied.append(directory)


def _add_worker(supervisor: int, path: str, found: Discovered) -> None:
    """Add the sessions of a worker. Asks again once if the connection closes."""
    for again in (True, False):
        try:
            for info in _query_worker(supervisor, path):
                is_spare = info.state == session_info.SPARE
                (found.spares if is_spare else found.sessions).append(info)
        except control_client.ConnectionClosed as error:
            if again:
                continue
            found.unanswered.append(str(error))
        except control_client.Ended:
            pass
        except control_client.NoAnswer as error:
            found.unanswered.append(str(error))
        return


def _query_worker(supervisor: int, path: str) -> list[SessionInfo]:
    """Return the sessions and the spares of a worker."""
    about = control_client.worker_name(supervisor, path)
    with control_client.ControlClient(path, about) as worker, worker.reading():
        sessions = [session_info.read(report) for report in worker.sessions()]
    for session in sessions:
        session.server, session.socket = supervisor, path
    return sessions


# Usage


def _measure_usage(
    host: HostPaths, hierarchy: CgroupHierarchy, sessions: list[SessionInfo]
) -> None:
    """Measure each session: its unit or cgroup, or the group of its application."""
    wanted = {session.application_pid for session in sessions if not session.unit} - {0}
    members = procfs.groups(host.proc, wanted) if wanted else {}
    for session in sessions:
        if session.unit:
            session.usage = hierarchy.usage(session.group)
            continue
        if session.server and session.cgroup:
            session.usage = hierarchy.usage_of_directory(session.cgroup)
            continue
        used = members.get(session.application_pid, [])
        if not session.server and (bridge := procfs.stat(host.proc, session.pid)):
            used = [*used, bridge]
        session.usage = procfs.usage(used)
