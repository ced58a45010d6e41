"""The verbs that end sessions: close, kill, drain.

A unit is told by systemctl, a server's worker by its control socket, a bridge without a
unit by a signal. None waits for the end: a session has graces of its own.
"""

from __future__ import annotations

import os
import signal

from chimirror.ctl import choose, control, processes, sources, systemd
from chimirror.ctl.failure import Failure, say
from chimirror.system.runtime import SERVERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimirror.ctl.host import Host
    from chimirror.ctl.live import Live
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

STOP = ("stop", "--no-block")
KILL = ("kill", "--kill-whom=all", "--signal=KILL")


def close(given: Given, host: Host, output: Output) -> int:
    """Ask sessions to end; their clients see 1001."""
    return _end(given, host, output, force=False)


def kill(given: Given, host: Host, output: Output) -> int:
    """End sessions by force."""
    return _end(given, host, output, force=True)


def _end(given: Given, host: Host, output: Output, *, force: bool) -> int:
    found = sources.gather(host)
    chosen = choose.live(found, given.ids)
    if in_units := [one.unit for one in chosen if one.unit]:
        systemd.on_units(KILL if force else STOP, in_units)
    for one in chosen:
        if not one.unit and not one.server:
            _signal(host, one, force=force)
    gone = _ask([one for one in chosen if one.server], force=force)
    for identity in gone:
        say(f"{identity} has ended by itself")
    output.write("".join(f"{one.id}\n" for one in chosen))
    return os.EX_OK


def _ask(sessions: Sequence[Live], *, force: bool) -> list[str]:
    """Tell workers; the ids of those sessions that were not there any more."""
    by_worker: dict[str, list[str]] = {}
    for one in sessions:
        by_worker.setdefault(one.socket, []).append(one.id)
    gone = []
    for path, ids in by_worker.items():
        try:
            with control.Worker(path) as worker:
                gone += sorted(set(ids) - set(worker.end(ids, force=force)))
        except (FileNotFoundError, ConnectionRefusedError, control.HungUp):
            gone += ids
        except (control.Silent, TimeoutError) as error:
            raise Failure(os.EX_TEMPFAIL, str(error)) from None
    return gone


def _signal(host: Host, one: Live, *, force: bool) -> None:
    """End a bridge that has no unit; it takes its application along.

    By force the application goes first, at once: the bridge then has nothing to wait
    for, and still sees to it that nothing is left.
    """
    application = processes.stat(host.proc, one.application_pid)
    try:
        if force and application is not None and application.parent == one.pid:
            os.killpg(one.application_pid, signal.SIGKILL)
        os.kill(one.pid, signal.SIGTERM)
    except ProcessLookupError:
        say(f"{one.id} has ended by itself")


# drain


def drain(given: Given, host: Host, output: Output) -> int:
    """Stop accepting, and let sessions end; with --now ask them to."""
    servers = list(_supervisors(host))
    done = (host.booted and _stop_units()) or bool(servers)
    if not done:
        raise Failure(os.EX_UNAVAILABLE, "nothing is accepting or running here")
    for supervisor in servers:
        if not _in_unit(host, supervisor):
            _tell(supervisor)
    found = sources.gather(host)
    if "--now" in given:
        if in_units := [one.unit for one in found.sessions if one.unit]:
            systemd.on_units(STOP, in_units)
        _ask([one for one in found.sessions if one.server], force=False)
    output.write(f"sessions left: {len(found.sessions)}\n")
    return found.complain()


def _stop_units() -> bool:
    """Whether there were any; the server drains by itself when it is stopped."""
    known = (systemd.SOCKET, systemd.SERVER_SOCKET, systemd.SERVER)
    shown = systemd.properties(known, ["LoadState"])
    there = [one["Id"] for one in shown if one.get("LoadState") == "loaded"]
    if there:
        systemd.systemctl(*STOP, "--", *there)
    return bool(there)


def _supervisors(host: Host) -> Iterator[int]:
    """Servers that are ours to end."""
    for place in host.places:
        servers = f"{place}/{SERVERS}"
        try:
            found = list(control.servers(servers))
        except FileNotFoundError:
            continue
        except PermissionError:
            text = f"{servers}: permission denied; ask as root"
            raise Failure(os.EX_NOPERM, text) from None
        for supervisor, _ in found:
            owner = os.stat(f"{servers}/{supervisor}").st_uid
            if processes.is_ours(host.proc, supervisor, owner):
                yield supervisor


def _in_unit(host: Host, pid: int) -> bool:
    groups = processes.read(f"{host.proc}/{pid}/cgroup").decode()
    return f"/{systemd.SERVER}" in groups


def _tell(supervisor: int) -> None:
    """A server drains on SIGTERM."""
    try:
        os.kill(supervisor, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended
