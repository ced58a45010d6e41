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
    for identity in _end_on_workers(
        [session for session in selected if session.server], force=force
    ):
        warn(f"{identity} has ended by itself")
    output.write("".join(f"{session.id}\n" for session in selected))
    return os.EX_OK


def _signal_units(words: Sequence[str], bridges: Sequence[SessionInfo]) -> None:
    """Signal units. A unit that has ended meanwhile is not an error."""
    try:
        systemd.on_units(words, [session.unit for session in bridges if session.unit])
    except CommandError as failure:
        if failure.status == os.EX_NOPERM:
            raise


def _kill_remaining(
    host: HostPaths, bridges: Sequence[SessionInfo], pause: Callable[[float], None]
) -> None:
    """Wait until the bridges have ended, and kill those that have not.

    Raises:
        CommandError: A bridge cannot be killed.
    """
    remaining = _wait_for_end(host, bridges, pause)
    for session in remaining:
        warn(f"{session.id} did not end at once, and was killed with its bridge")
    _signal_units(KILL_ALL, remaining)
    for session in remaining:
        if _is_plain_bridge(session):
            _kill_bridge(host, session)
    if remaining := _wait_for_end(host, remaining, pause):
        where = " ".join(session.unit or str(session.pid) for session in remaining)
        raise CommandError(os.EX_UNAVAILABLE, f"cannot be killed: {where}")


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


def _end_on_workers(sessions: Sequence[SessionInfo], *, force: bool) -> list[str]:
    """End sessions of workers. Returns the ids of those that had ended before."""
    by_worker: dict[str, list[str]] = {}
    for session in sessions:
        by_worker.setdefault(session.socket, []).append(session.id)
    missing = []
    for path, ids in by_worker.items():
        try:
            with control_client.ControlClient(path) as worker:
                missing += sorted(set(ids) - set(worker.end_sessions(ids, force=force)))
        except (
            FileNotFoundError,
            ConnectionRefusedError,
            control_client.ConnectionClosed,
        ):
            missing += ids
        except (control_client.NoAnswer, TimeoutError) as error:
            raise CommandError(os.EX_TEMPFAIL, str(error)) from None
    return missing


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
        warn(f"{session.id} has ended by itself")


def _kill_bridge(host: HostPaths, session: SessionInfo) -> None:
    """Kill a bridge without a unit, and its application."""
    application = procfs.stat(host.proc, session.application_pid)
    try:
        os.kill(session.pid, signal.SIGKILL)
        if application is not None and application.parent == session.pid:
            os.killpg(session.application_pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the bridge has ended
