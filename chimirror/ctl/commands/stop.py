"""Verbs that end sessions: close, kill.

A session of a server is ended by a request to its worker, that of a bridge by a
signal. So the client learns that an operator ended it, and not that the service goes
down. `close` does not wait, since a session has grace periods of its own.

`kill` waits for the end. A bridge that ends at once still notifies its client and
records the end. One that does not is killed with all processes of its unit.
"""

from __future__ import annotations

import os
import signal
import time

from chimirror.ctl import (
    control_client,
    discovery,
    procfs,
    systemd,
)
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.ctl.messages import CommandError, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.session_info import SessionInfo
    from chimirror.ctl.usage import CommandLine

KILL_ALL = ("kill", "--kill-whom=all", "--signal=KILL")
# A working bridge needs up to 2 s for a client that does not read. It needs 2 s more
# for one that does not close the connection.
END_TIMEOUT = 5.0
POLL_INTERVAL = 0.02
MAX_NAMES = 4  # sessions that an error names


def close(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Ask sessions to end. Their clients receive 1001."""
    selected = discovery.discover(host).select(given.ids)
    _signal_units(systemd.CLOSE, selected)
    for session in selected:
        if _is_plain_bridge(session):
            _signal_bridge(session, signal.SIGUSR2)
    return _end_and_report(selected, output, force=False)


def kill(
    given: CommandLine,
    host: HostPaths,
    output: OutputWriter,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """End sessions by force."""
    selected = discovery.discover(host).select(given.ids)
    _signal_units(systemd.KILL, selected)
    for session in selected:
        if _is_plain_bridge(session):
            _signal_bridge(session, signal.SIGUSR1)
    status = _end_and_report(selected, output, force=True)
    _kill_remaining(
        host, [session for session in selected if not session.server], pause
    )
    return status


def _is_plain_bridge(session: SessionInfo) -> bool:
    """Return whether the session has a bridge without a unit."""
    return not session.unit and not session.server


def _end_and_report(
    selected: Sequence[SessionInfo], output: OutputWriter, *, force: bool
) -> int:
    """End the sessions of workers, and print the ids of all selected sessions."""
    served = [session for session in selected if session.server]
    failed = _end_on_workers(served, force=force)
    asked = [session for session in selected if session not in failed]
    output.write("".join(f"{session.id}\n" for session in asked))
    return os.EX_TEMPFAIL if failed else os.EX_OK


def _signal_units(words: Sequence[str], bridges: Sequence[SessionInfo]) -> None:
    """Signal units. A unit that has ended meanwhile is not an error."""
    try:
        systemd.on_units(words, [session.unit for session in bridges if session.unit])
    except CommandError as failure:
        if failure.status == os.EX_NOPERM:
            text = f"{_names(bridges)}: {failure}"
            raise CommandError(failure.status, text) from None


def _kill_remaining(
    host: HostPaths, bridges: Sequence[SessionInfo], pause: Callable[[float], None]
) -> None:
    """Wait until the bridges have ended, and kill those that have not.

    Raises:
        CommandError: A bridge cannot be killed.
    """
    remaining = _wait_for_end(host, bridges, pause)
    for session in remaining:
        warn(f"{session.name} did not end at once, and was killed with its bridge")
    _signal_units(KILL_ALL, remaining)
    for session in remaining:
        if _is_plain_bridge(session):
            _kill_bridge(host, session)
    if remaining := _wait_for_end(host, remaining, pause):
        where = " ".join(session.unit or str(session.pid) for session in remaining)
        text = f"{_names(remaining)} cannot be killed: {where}; a process in state D"
        text += " of ps(1) waits for the kernel"
        raise CommandError(os.EX_UNAVAILABLE, text)


def _names(sessions: Sequence[SessionInfo]) -> str:
    """Name some sessions in an error."""
    names = [session.name for session in sessions[:MAX_NAMES]]
    more = len(sessions) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _wait_for_end(
    host: HostPaths, bridges: Sequence[SessionInfo], pause: Callable[[float], None]
) -> list[SessionInfo]:
    """Wait up to END_TIMEOUT. Returns the bridges that still run."""
    hierarchy = CgroupHierarchy(host)
    remaining = [
        session for session in bridges if _is_running(host, hierarchy, session)
    ]
    for _ in range(int(END_TIMEOUT / POLL_INTERVAL)):
        if not remaining:
            break
        pause(POLL_INTERVAL)
        remaining = [
            session for session in remaining if _is_running(host, hierarchy, session)
        ]
    return remaining


def _end_on_workers(
    sessions: Sequence[SessionInfo], *, force: bool
) -> list[SessionInfo]:
    """End sessions of workers. Warns about sessions that had ended before.

    Returns:
        The sessions of workers that did not answer. A warning names them.
    """
    by_worker: dict[str, list[SessionInfo]] = {}
    for session in sessions:
        by_worker.setdefault(session.socket, []).append(session)
    failed = []
    for path, asked in by_worker.items():
        about = control_client.worker_name(asked[0].server, path)
        ended: list[str] = []
        try:
            with control_client.ControlClient(path, about) as worker:
                ids = [session.id for session in asked]
                ended = worker.end_sessions(ids, force=force)
        except control_client.Ended:
            pass
        except control_client.NoAnswer as error:
            warn(f"not ended: {_names(asked)}: {error}")
            failed += asked
            continue
        for session in asked:
            if session.id not in ended:
                warn(f"{session.name} has ended by itself")
    return failed


def _is_running(
    host: HostPaths, hierarchy: CgroupHierarchy, session: SessionInfo
) -> bool:
    if session.unit:
        running = systemd.invocation(host, session.unit) == session.id
        return running and bool(hierarchy.processes(session.group))
    return "chimirror" in procfs.command(host.proc, session.pid)


def _signal_bridge(session: SessionInfo, number: int) -> None:
    """Signal a bridge without a unit, which ends its application too."""
    try:
        os.kill(session.pid, number)
    except ProcessLookupError:
        warn(f"{session.name} has ended by itself")
    except PermissionError:
        raise _foreign(session) from None


def _kill_bridge(host: HostPaths, session: SessionInfo) -> None:
    """Kill a bridge without a unit, and its application."""
    application = procfs.stat(host.proc, session.application_pid)
    try:
        os.kill(session.pid, signal.SIGKILL)
        if application is not None and application.parent == session.pid:
            os.killpg(session.application_pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the bridge has ended
    except PermissionError:
        raise _foreign(session) from None


def _foreign(session: SessionInfo) -> CommandError:
    text = f"{session.name} belongs to another user; run it as root"
    return CommandError(os.EX_NOPERM, text)
