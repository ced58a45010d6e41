"""Reaps child processes and ends the strays of ended sessions.

A stray is a process that an application has left behind. As subreaper
(PR_SET_CHILD_SUBREAPER) this process adopts such orphans. It recognizes them by
CHIMIRROR_SESSION in their environment, by their name, or by their process group. Knows
no WebSocket. waitpid(2), prctl(2).
"""

from __future__ import annotations

from time import process_time

from chimirror.builtin_modules import os, signal
from chimirror.io.loop import NEVER, FatalErrorHandler
from chimirror.process import children
from chimirror.process.children import become_subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container
    from typing import Protocol

    from chimirror.io.loop import EventLoop

    class ChildHandler(Protocol):
        """Callbacks of a ChildWatcher for one child."""

        def on_exit(self, status: int, survivors: bool) -> None: ...

        def on_error(self, error: Exception) -> None: ...

    class Sweeper(Protocol):
        """Ends the stray processes of sessions: StraySweeper, or another process."""

        def end_session(self, pid: int, session: str, survivors: bool) -> None: ...

        def on_stray_exit(self) -> None: ...


SESSION_VARIABLE = "CHIMIRROR_SESSION"
SWEEP_DURATION = 1.0  # seconds: strays of an ended session are searched for this long
SWEEP_INTERVAL = 0.1  # seconds between two searches
MAX_NAME = 15  # bytes of a session id in a process name (PR_SET_NAME)
REST_FACTOR = 20  # rest per search time: a search through thousands of children is slow
MANY_CHILDREN = 500  # with this many children one walk of waitpid(2) takes 30 us
SLOW_WALK = 0.0002  # seconds of CPU time: a slower walk is followed by a rest
BATCH = 512  # ends in a row, so that other handlers are served in between


class ChildWatcher(FatalErrorHandler):
    """Reaps children, adopted ones included, and calls the handler of each.

    Args:
        loop: event loop of this process.
        sweeper: ends strays. By default a StraySweeper of this process.
    """

    __slots__ = (
        "_clients",
        "_loop",
        "_after_reap",
        "_next_walk",
        "_sweeper",
        "armed",
        "deadline",
    )

    def __init__(self, loop: EventLoop, sweeper: Sweeper | None = None) -> None:
        self._loop = loop
        self._clients: dict[int, ChildHandler] = {}
        self._sweeper = sweeper or StraySweeper(loop, self._clients)
        self._next_walk = 0.0  # no walk before this time
        self._after_reap: list[Callable[[], None]] = []
        self.armed = 0
        self.deadline = NEVER
        loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def sweep_here(self) -> None:
        """End strays in this process from now on: the one that did so is gone."""
        self._sweeper = SystemSweeper(self._loop, self._clients)

    def finish_sweep(self) -> None:
        """Called at the end of this process. Ends strays, if it does so itself."""
        if isinstance(self._sweeper, SystemSweeper):
            self._sweeper.on_timer(self._loop.clock())

    def add_child(self, pid: int, client: ChildHandler) -> None:
        """Call `client.on_exit` when this child has ended."""
        self._clients[pid] = client

    def client(self, pid: int) -> ChildHandler | None:
        """Return the handler of a child, or None."""
        return self._clients.get(pid)

    def clients(self) -> Collection[ChildHandler]:
        """Return the handlers of all children."""
        return self._clients.values()

    def signal(self, pid: int, number: int) -> bool:
        """Signal the process group of an application that has not been reaped.

        Returns:
            True: the signal has been sent, and none waits.
        """
        if pid in self._clients and not children.kill_group(pid, number):
            children.kill(pid, number)  # a forked copy that leads no group yet
        return True

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """End the strays of a session."""
        self._sweeper.end_session(pid, session, survivors)

    def call_after_reap(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when all children that have ended are reaped."""
        self._after_reap.append(callback)

    def reap(self) -> None:
        """Called on SIGCHLD. Reaps the children that have ended."""
        if len(self._clients) > MANY_CHILDREN:
            self._reap_among_many()
        else:
            while self.reap_one():
                pass
        reaped, self._after_reap = self._after_reap, []
        for callback in reaped:
            callback()

    def _reap_among_many(self) -> None:
        """Reap with rests in between: each waitpid(2) walks over the children.

        The walk stops at the first child that has ended. It takes up to 3.5 ms with
        50,000 children, but little time when many of them have ended.
        """
        if self._loop.clock() < self._next_walk:
            self._loop.set_timer(self, self._next_walk)
            return
        has_ended, duration, count, now = True, 0.0, 0, process_time()
        while has_ended and duration < SLOW_WALK and count < BATCH:
            start, count = now, count + 1
            has_ended = self.reap_one()
            now = process_time()
            duration = now - start
        self._next_walk = self._loop.clock() + REST_FACTOR * duration
        if has_ended:
            self._loop.set_timer(self, self._next_walk)

    def reap_one(self, pid: int = -1) -> bool:
        """Reap this child, or any child. Returns True if one had ended."""
        ended = children.next_ended(pid)
        if ended is None:
            return False
        self._on_end(*ended)
        return True

    def _on_end(self, pid: int, status: int) -> None:
        client = self._clients.pop(pid, None)
        if client is None:
            self._on_stray_exit(pid, status)
            return
        survivors = children.has_group_survivors(pid)
        try:
            client.on_exit(status, survivors)
        except Exception as error:  # noqa: BLE001 (its own client answers)
            client.on_error(error)

    def _on_stray_exit(self, pid: int, status: int) -> None:
        """Called when a child without handler has ended: it was adopted."""
        self._sweeper.on_stray_exit()

    def on_timer(self, now: float) -> None:
        """Called when the rest is over. Reaps further children."""
        self.reap()


def session_of(pid: int, sessions: Collection[bytes]) -> bytes:
    """Return the session of a process, or nothing if it cannot be found.

    A fork of a preloaded copy has no readable environment. Its name is compared with
    `sessions` instead.
    """
    session = children.variable(pid, SESSION_VARIABLE.encode())
    if session in sessions:
        return session
    name = children.name(pid)
    return next((one for one in sessions if one[:MAX_NAME] == name), session)


class StraySweeper(FatalErrorHandler):
    """Finds and kills the strays of ended sessions.

    Args:
        loop: event loop of this process.
        known: children that are never strays.
    """

    __slots__ = (
        "_ended",
        "_groups",
        "_known",
        "_loop",
        "_next_sweep",
        "armed",
        "deadline",
    )

    def __init__(self, loop: EventLoop, known: Container[int]) -> None:
        self._loop = loop
        self._known = known
        self._ended: dict[bytes, float] = {}  # sessions, and when to forget them
        self._groups: set[int] = set()  # process groups that outlived their leader
        self._next_sweep = 0.0  # no search before this time
        self.armed = 0
        self.deadline = NEVER
        become_subreaper()

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """End all processes that an application has left behind.

        Args:
            pid: the application, already reaped, and its group if `survivors`.
            session: the CHIMIRROR_SESSION that strays carry.
            survivors: True if its process group outlived it.
        """
        if survivors:
            self._groups.add(pid)
        self._ended[session.encode(errors="surrogateescape")] = (
            self._loop.now + SWEEP_DURATION
        )
        self._loop.set_timer(self, max(self._next_sweep, self._loop.now))

    def on_stray_exit(self) -> None:
        """Called when a stray has ended. This process adopts its children."""
        if self._ended:
            self._loop.set_timer(self, max(self._next_sweep, self._loop.now))

    def on_timer(self, now: float) -> None:
        """Kill the strays of ended sessions, at most once per tick.

        One search is not enough. The children of a stray are adopted when it dies, and
        a process has no readable environment during execve(2).
        """
        start = self._loop.clock()
        try:
            strays = [pid for pid in self._candidates() if pid not in self._known]
        except OSError:  # no descriptor left: try later
            self._loop.set_timer(self, now + SWEEP_INTERVAL)
            return
        for pid in strays:
            self._kill(pid, now)
        duration = self._loop.clock() - start
        self._next_sweep = now + REST_FACTOR * duration
        self._groups.clear()
        self._ended = {
            session: until
            for session, until in self._ended.items()
            if strays and until > now
        }
        if self._ended:
            self._loop.set_timer(self, max(self._next_sweep, now + SWEEP_INTERVAL))

    def _candidates(self) -> list[int]:
        """List the processes that can be strays."""
        return children.list_children()

    def _kill(self, pid: int, now: float) -> None:
        """Kill a stray of an ended session, and its process group."""
        session = session_of(pid, self._ended)
        group = children.group_of(pid)
        # A group number is not reused while a child of this process is in the group.
        # But before, it may have belonged to an application, or to strays of another
        # session.
        left = group in self._groups and group not in self._known
        if left and (not session or session in self._ended):
            self._groups.discard(group)
            children.kill_group(group)
        if session in self._ended:
            children.kill(pid)
            self._ended[session] = now + SWEEP_DURATION


class SystemSweeper(StraySweeper):
    """Sweeper that also finds strays which another process has adopted.

    A subreaper that dies leaves its children to the next one, or to process 1. Each
    search reads the environment of every process, so it takes long.
    """

    __slots__ = ()

    def _candidates(self) -> list[int]:
        return children.list_processes()

    def _kill(self, pid: int, now: float) -> None:
        if children.is_child(pid):
            super()._kill(pid, now)
            return
        try:
            handle = os.pidfd_open(pid)
        except OSError:  # it has ended
            return
        try:
            # the handle is of the process whose environment is read now
            if children.variable(pid, SESSION_VARIABLE.encode()) in self._ended:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:  # it has ended, or is of another user
            pass
        finally:
            os.close(handle)
