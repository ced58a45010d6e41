"""The terminal of a server, which its target uses instead.

The target leads its own process group. A terminal stops a process that reads from it
outside of the foreground group. So the target's group becomes the foreground group, as
that of a program in a shell. Ctrl-C then reaches the target alone. Ctrl-Z stops the
target, and the server stops with it, so that a shell notices. Knows no services.
Follows tcsetpgrp(3), waitid(2), and setpgid(2) for orphaned groups.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

STDIN = 0
_ENDS = os.WSTOPPED | os.WEXITED | os.WNOWAIT


class Terminal:
    """The terminal at standard input, which a target gets."""

    def __init__(self) -> None:
        self._own = os.getpgrp()
        self._had = _foreground_group() == self._own
        self._target = 0
        self._watcher: threading.Thread | None = None

    @classmethod
    def of_stdin(cls) -> Terminal | None:
        """Return the terminal, or None if this process has none there."""
        return cls() if _foreground_group() >= 0 else None

    def claim(self) -> None:
        """Called in the new process, which leads its group, before its program.

        Its program may read at once. In the background it would be stopped, or would
        get an error where SIGTTIN is ignored. If this process is in the background, the
        target gets the terminal once a shell continues this process in the foreground.
        """
        _move(self._own, os.getpid())

    def watch(self, target: int) -> None:
        """Stop with the target.

        Args:
            target: Process id of the target, which leads its process group.
        """
        self._target = target
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def take_back(self) -> None:
        """Use the terminal again. The target has ended, and is not reaped yet."""
        if self._watcher is not None:
            self._watcher.join()
            _move(self._target, self._own)
        elif self._had:
            _move(_foreground_group(), self._own)  # from a failed start

    def _give(self) -> None:
        _move(self._own, self._target)
        # It stops if it reads before it has the terminal.
        with suppress(OSError):
            os.killpg(self._target, signal.SIGCONT)

    def _watch(self) -> None:
        """Stop with the target, again and again, until the target ends."""
        while True:
            try:
                found = os.waitid(os.P_PID, self._target, _ENDS)
            except ChildProcessError:
                return  # reaped by other code of this process
            if found is None or found.si_code != os.CLD_STOPPED:
                return
            os.waitid(os.P_PID, self._target, os.WSTOPPED | os.WNOHANG)
            if found.si_status == signal.SIGSTOP:
                continue  # sent by a process, not by the terminal
            _move(self._target, self._own)
            self._stop()
            self._give()

    def _stop(self) -> None:
        """Stop this process and its group. Returns once a shell has continued them.

        Returns at once if no shell could: the kernel stops no orphaned group.
        """
        for pid in _members(self._own):
            if pid != os.getpid():
                with suppress(OSError):
                    os.kill(pid, signal.SIGTSTP)
        # A signal to this thread stops all threads before this call returns.
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)


def _foreground_group() -> int:
    """Return the foreground group of the terminal, -1 without a terminal."""
    try:
        return os.tcgetpgrp(STDIN)
    except OSError:
        return -1


def _move(giver: int, taker: int) -> None:
    """Make another group the foreground group, if `giver` is that."""
    if _foreground_group() != giver:
        return
    # Otherwise the kernel stops a process of the background that does this.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with suppress(OSError):  # the terminal or the group has gone
            os.tcsetpgrp(STDIN, taker)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _members(group: int) -> list[int]:
    """Return the processes of a group."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getpgid(int(entry)) == group:
                    found.append(int(entry))
            except ProcessLookupError:
                pass  # it has ended
    return found
