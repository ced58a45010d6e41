"""Finds the live sessions of a machine: the units', other bridges', the servers'.

A status file lies where every local user may put one, so it is believed only if a unit
has its id as invocation, or if its owner also owns a chimirror process of its pid; what
is done to a unit's session is done by the name of the unit, never by a pid from a file.
"""

from __future__ import annotations

import os
import time
from stat import S_ISREG
from typing import NamedTuple

from chimirror.ctl import control, live, processes, systemd
from chimirror.ctl.cgroups import Trees
from chimirror.ctl.failure import Failure, say
from chimirror.ctl.fields import Malformed, decode
from chimirror.ctl.host import SLICE
from chimirror.ctl.live import Live
from chimirror.system import runtime
from chimirror.system.runtime import SERVERS, SESSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.host import Host

    Unit = tuple[str, str]  # name and control group

LARGEST = 1 << 16  # bytes of a status file
ATTEMPTS = 3  # it may be read while it is written


class Found(NamedTuple):
    """What was found.

    Attributes:
        denied: places that only others may look into.
        silent: workers that did not answer, in words.
    """

    sessions: list[Live]
    denied: list[str]
    silent: list[str]

    def known(self) -> set[str] | None:
        """The ids of all live sessions; None where some may be missing."""
        hidden = self.denied or self.silent
        return None if hidden else {one.id for one in self.sessions}

    def complain(self) -> int:
        """Tell what is missing; the exit status for it.

        Raises:
            Failure: all of it is.
        """
        for text in self.silent:
            say(f"some sessions are missing: {text}")
        if self.denied and all(one.state == live.UNKNOWN for one in self.sessions):
            raise Failure(os.EX_NOPERM, f"{self.denied[0]}: {_ASK_ROOT}")
        for place in self.denied:
            say(f"some sessions are missing: {place}: {_ASK_ROOT}")
        return os.EX_TEMPFAIL if self.silent else os.EX_OK


_ASK_ROOT = "permission denied; ask as root"


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def gather(host: Host) -> Found:
    """All live sessions, with what they use."""
    found = Found([], [], [])
    trees = Trees(host)
    mute: list[str] = []
    files = [told for place in host.places for told in _files(place, found, mute)]
    if mute:
        _tidy(host, mute)
    # After the files: what has begun since is found here, and is not taken for dead.
    units = _units(host, trees)
    for path, one in files:
        if _join(one, units) or _plain(host, path, one):
            one.socket = runtime.control(path)
            found.sessions.append(one)
    found.sessions.extend(_untold(host, trees, *unit) for unit in units.items())
    for place in host.places:
        _servers(f"{place}/{SERVERS}", found)
    _measure(host, trees, found.sessions)
    return found


# Bridges


def _files(top: str, found: Found, mute: list[str]) -> Iterator[tuple[str, Live]]:
    """The status files, and what they say; those that say nothing are told apart."""
    place = f"{top}/{SESSIONS}"
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return
    except PermissionError:
        found.denied.append(place)
        return
    for name in filter(runtime.is_session, names):
        path = f"{place}/{name}"
        one = _read(path)
        if one is None:
            mute.append(path)
        elif one.id == name:
            yield path, one


def _read(path: str) -> Live | None:
    for _ in range(ATTEMPTS):
        try:
            return live.read(decode(_content(path)))
        except OSError:
            return None
        except Malformed:
            pass
    return None


def _content(path: str) -> bytes:
    """What a file says; nothing where it is no plain file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, LARGEST)
    finally:
        os.close(fd)


def _join(one: Live, units: dict[str, Unit]) -> bool:
    """Whether it is the session of a unit, which it is then told."""
    unit = units.pop(one.id, None)
    if unit is None:
        return False
    one.unit, one.group = unit
    one.application = one.application or systemd.application(one.unit)
    return True


def _plain(host: Host, path: str, one: Live) -> bool:
    """Whether it is the session of a bridge without a unit; what is stale goes."""
    try:
        if processes.is_ours(host.proc, one.pid, os.lstat(path).st_uid):
            return True
        if not os.path.exists(f"{host.proc}/{one.pid}"):
            os.unlink(path)
            os.unlink(runtime.control(path))
    except OSError:
        pass  # it has gone by itself, or is not ours to take away
    return False


def _tidy(host: Host, mute: list[str]) -> None:
    """Take away files of bridges that were killed before they had written anything.

    A bridge has its file open from its making to its end.
    """
    held = processes.files(host.proc)
    for path in mute:
        try:
            status = os.lstat(path)
            if held is None or not S_ISREG(status.st_mode):
                continue
            if (status.st_dev, status.st_ino) not in held:
                os.unlink(path)
                os.unlink(runtime.control(path))
        except OSError:
            pass  # as above


# Units


def _units(host: Host, trees: Trees) -> dict[str, Unit]:
    """The units of sessions, by invocation."""
    found = {}
    for unit, group in trees.services(SLICE):
        if systemd.SESSION_UNIT.fullmatch(unit):
            identity = systemd.invocation(host, unit)
            if identity:
                found[identity] = unit, group
    return found


def _untold(host: Host, trees: Trees, identity: str, found: Unit) -> Live:
    """A unit whose bridge has said nothing, or nothing yet."""
    unit, group = found
    pid = next(iter(trees.processes(group)), 0)
    given = processes.variables(host.proc, pid) if pid else {}
    address, port = given.get("REMOTE_ADDR", ""), given.get("REMOTE_PORT", "")
    peer = f"[{address}]" if ":" in address else address
    return Live(
        id=identity,
        pid=pid,
        started=trees.since(group),
        peer=f"{peer}:{port}" if port else peer,
        application=systemd.application(unit),
        unit=unit,
        group=group,
    )


# Servers


def _servers(place: str, found: Found) -> None:
    try:
        for supervisor, paths in control.servers(place):
            for path in paths:
                _ask(supervisor, path, found)
    except FileNotFoundError:
        pass
    except PermissionError:
        found.denied.append(place)


def _ask(supervisor: int, path: str, found: Found) -> None:
    """Add a worker's sessions; one that hangs up may have ended: it is asked again."""
    for again in (True, False):
        try:
            found.sessions.extend(_worker(supervisor, path))
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # it has ended
        except control.HungUp as error:
            if again:
                continue
            found.silent.append(str(error))
        except (control.Silent, Malformed, TimeoutError) as error:
            found.silent.append(str(error))
        return


def _worker(supervisor: int, path: str) -> list[Live]:
    with control.Worker(path) as worker:
        told = [live.read(one) for one in worker.sessions()]
    for one in told:
        one.server, one.socket = supervisor, path
    return told


# Figures


def _measure(host: Host, trees: Trees, sessions: list[Live]) -> None:
    """What each uses: a unit all that is in it, else the application's group."""
    wanted = {one.application_pid for one in sessions if not one.unit} - {0}
    members = processes.groups(host.proc, wanted) if wanted else {}
    for one in sessions:
        if one.unit:
            one.usage = trees.usage(one.group)
            continue
        used = members.get(one.application_pid, [])
        if not one.server and (bridge := processes.stat(host.proc, one.pid)):
            used = [*used, bridge]
        one.usage = processes.usage(used)
