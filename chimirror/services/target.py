"""The target: the process that a server starts, and its process group.

The stop ladder is that of sessions: TERM and CONT to the group, then KILL after a grace
time. Knows no services. Follows kill(2), pidfd_open(2), setpgid(2).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

from chimirror.services.results import Exit, exit_from_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

    from chimirror.services.terminal import Terminal

    Path = str | os.PathLike[str]
    File = int | IO[bytes] | IO[str] | None

CHECK_INTERVAL = 0.02  # seconds between two looks at a group without its leader


class Target:
    """A started process, which leads its own process group.

    Attributes:
        pidfd: Readable once the process has ended. -1 after `reap`.
        exit: Its exit, after `reap`.
    """

    def __init__(
        self,
        command: Sequence[Path],
        environment: Mapping[str, str],
        directory: Path | None,
        files: tuple[File, File, File],
        terminal: Terminal | None,
    ) -> None:
        stdin, stdout, stderr = files
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
            # At a terminal only: it calls a few functions of os and signal.
            preexec_fn=terminal.claim if terminal else None,  # noqa: PLW1509
        )
        self.pid = self._process.pid
        self.exit: Exit | None = None
        self.kill_deadline: float | None = None  # the time of KILL, on time.monotonic
        self._is_killed = False
        self._is_empty = False  # the group
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:  # no free descriptor
            self.kill()
            self._process.wait()
            raise

    def terminate(self, grace: float) -> None:
        """Begin to stop the group. `advance` continues after the grace time."""
        if self.kill_deadline is None and not self._is_killed:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            self.kill_deadline = time.monotonic() + grace

    def advance(self) -> None:
        """Kill the group once the grace time is over."""
        if self.kill_deadline is not None and time.monotonic() >= self.kill_deadline:
            self.kill()

    def kill(self) -> None:
        """Kill the group at once."""
        self.kill_deadline = None
        self._is_killed = True
        self._signal(signal.SIGKILL)

    def reap(self) -> Exit:
        """Take the exit status of the process, which has ended."""
        if self.exit is None:
            self.exit = exit_from_status(self._process.wait())
            fd, self.pidfd = self.pidfd, -1
            os.close(fd)
        return self.exit

    def has_group(self) -> bool:
        """Return whether a process of the group still runs, after `reap`.

        As long as one exists, its group's number is given to no other process.
        """
        if not self._is_empty and not (self._signal(0) and _is_running(self.pid)):
            self._is_empty = True
            self.kill_deadline = None
        return not self._is_empty

    def _signal(self, number: int) -> bool:
        """Send a signal. Returns whether the group exists."""
        try:
            if not self._is_empty:
                os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # all of them run as another user
        return not self._is_empty


def _is_running(group: int) -> bool:
    """Return whether a process of a group is no zombie (proc(5), stat)."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[2]) == group and fields[0] not in b"ZX":
                return True
    return False
