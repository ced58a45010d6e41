"""The verbs that end sessions: close, kill, drain.

A unit is told by systemctl, a server's worker by its control socket, a bridge without a
unit by a signal. Only force waits for the end, since it has a last resort: whoever has
been told to end at once tells its client and the records, and one that does not is
killed with all that is in its unit. A session that is asked has graces of its own.
"""

from __future__ import annotations

import os
import signal
import time

from chimirror.ctl import choose, control, owned, processes, sources, systemd
from chimirror.ctl.cgroups import Trees
from chimirror.ctl.failure import Failure, say
from chimirror.system.runtime import SERVERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chimirror.ctl.host import Host
    from chimirror.ctl.live import Live
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

STOP = ("stop", "--no-block")
ABORT = ("kill", "--kill-whom=main", "--signal=USR1")
KILL = ("kill", "--kill-whom=all", "--signal=KILL")
# A bridge that is well needs two seconds for a client that does not read, and two more
# for one that does not hang up.
PATIENCE = 5.0
LOOK = 0.02


def close(given: Given, host: Host, output: Output) -> int:
    """Ask sessions to end; their clients see 1001."""
    chosen = choose.live(sources.gather(host), given.ids)
    systemd.on_units(STOP, [one.unit for one in chosen if one.unit])
    for one in chosen:
        if _alone(one):
            _signal(one, signal.SIGTERM)
    return _told(chosen, output, force=False)


def kill(
    given: Given,
    host: Host,
    output: Output,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """End sessions by force."""
    chosen = choose.live(sources.gather(host), given.ids)
    _force(ABORT, chosen)
    for one in chosen:
        if _alone(one):
            _signal(one, signal.SIGUSR1)
    status = _told(chosen, output, force=True)
    _finish(host, [one for one in chosen if not one.server], pause)
    return status


def _alone(one: Live) -> bool:
    """Whether it is a bridge that has no unit."""
    return not one.unit and not one.server


def _told(chosen: Sequence[Live], output: Output, *, force: bool) -> int:
    """Tell workers too, and say who was told."""
    for identity in _ask([one for one in chosen if one.server], force=force):
        say(f"{identity} has ended by itself")
    output.write("".join(f"{one.id}\n" for one in chosen))
    return os.EX_OK


def _force(words: Sequence[str], bridges: Sequence[Live]) -> None:
    """Signal units; that one of them has ended meanwhile is no failure."""
    try:
        systemd.on_units(words, [one.unit for one in bridges if one.unit])
    except Failure as failure:
        if failure.status == os.EX_NOPERM:
            raise


def _finish(
    host: Host, bridges: Sequence[Live], pause: Callable[[float], None]
) -> None:
    """Give bridges their time, and kill those that go on."""
    left = _those_left(host, bridges, pause)
    for one in left:
        say(f"{one.id} did not end at once, and was killed with its bridge")
    _force(KILL, left)
    for one in left:
        if _alone(one):
            _slay(host, one)
    if left := _those_left(host, left, pause):
        where = " ".join(one.unit or str(one.pid) for one in left)
        raise Failure(os.EX_UNAVAILABLE, f"cannot be killed: {where}")


def _those_left(
    host: Host, bridges: Sequence[Live], pause: Callable[[float], None]
) -> list[Live]:
    """Those that have not ended when patience has."""
    trees = Trees(host)
    left = [one for one in bridges if _goes_on(host, trees, one)]
    for _ in range(int(PATIENCE / LOOK)):
        if not left:
            break
        pause(LOOK)
        left = [one for one in left if _goes_on(host, trees, one)]
    return left


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


def _goes_on(host: Host, trees: Trees, one: Live) -> bool:
    if one.unit:
        running = systemd.invocation(host, one.unit) == one.id
        return running and bool(trees.processes(one.group))
    return "chimirror" in processes.command(host.proc, one.pid)


def _signal(one: Live, number: int) -> None:
    """Tell a bridge that has no unit; it takes its application along."""
    try:
        os.kill(one.pid, number)
    except ProcessLookupError:
        say(f"{one.id} has ended by itself")


def _slay(host: Host, one: Live) -> None:
    """Kill a bridge that has no unit, and what it has started."""
    application = processes.stat(host.proc, one.application_pid)
    try:
        os.kill(one.pid, signal.SIGKILL)
        if application is not None and application.parent == one.pid:
            os.killpg(one.application_pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended after all


# drain


def drain(given: Given, host: Host, output: Output) -> int:
    """Stop accepting, and let sessions end; with --now ask them to."""
    servers = list(_supervisors(host))
    done = (host.booted and _stop_units(host)) or bool(servers)
    if not done:
        raise Failure(os.EX_UNAVAILABLE, "nothing is accepting or running here")
    for supervisor in servers:
        if not _in_unit(host, supervisor):
            _tell(supervisor)
    found = sources.gather(host)
    if "--now" in given:
        systemd.on_units(STOP, [one.unit for one in found.sessions if one.unit])
        _ask([one for one in found.sessions if one.server], force=False)
    output.write(f"sessions left: {len(found.sessions)}\n")
    return found.complain()


def _stop_units(host: Host) -> bool:
    """Whether there were any; the server drains by itself when it is stopped."""
    own = [owned.units(name).socket for name in owned.names(host)]
    known = (systemd.SOCKET, systemd.SERVER_SOCKET, systemd.SERVER, *own)
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
