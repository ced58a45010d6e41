"""Guards a program that serves: ends the processes that it leaves when it is killed.

The process that was started becomes the guardian and forks the process that serves.
The guardian is the child subreaper above it, so it adopts all descendants. Some of them
may have left their session or cleared their environment. Until then a guardian only
passes signals on. It ends with the status of the process that it guards. Ctrl-Z in a
terminal stops both, and fg continues both.

A systemd unit needs none: its cgroup ends the rest. Knows processes, no session and no
loop. fork(2), prctl(2), sigwait(3).
"""

from __future__ import annotations

from time import monotonic

from chimirror.builtin_modules import os, signal
from chimirror.io import fds
from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
AWAITED = (*PASSED_ON, signal.SIGCHLD)
AWAITED_WHILE_SERVING = (*AWAITED, signal.SIGTSTP)
NAMING_DELAY = 1.0  # seconds: naming takes 0.3 ms from the start of the session


def guard(program: str, kill_grace: float, *, keeps_workers: bool = False) -> int:
    """Fork a process to serve. This function returns in that process only.

    It leads a process group of its own. So a signal to the former group, such as that
    of a terminal, arrives once: from the guardian.

    Args:
        program: name of the program, for ps(1) and the log.
        kill_grace: seconds from SIGTERM to SIGKILL for processes that are left.
        keeps_workers: True if forked processes go on when their parent is killed. The
            guardian waits for them. Each holds a descriptor that execve(2) closes.

    Returns:
        The pid of the guardian, or 0 without one: on another system than Linux, or
        because no process can be forked.
    """
    if not children.become_subreaper():
        return 0
    guardian = os.getpid()
    reader, writer = os.pipe()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored ones leave no status
    before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED_WHILE_SERVING)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reader)
        os.close(writer)
        return 0
    if pid:
        try:
            _Guardian(program, pid, reader, kill_grace).run()
        except BaseException as error:  # noqa: BLE001 (told, and the process ends)
            from chimirror.log.stderr import report_exception

            report_exception(error)
        finally:
            os._exit(os.EX_SOFTWARE)  # noqa: SLF001 (never returns)
    os.close(reader)
    if not keeps_workers:
        os.close(writer)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # writes to a terminal go through
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return guardian


class _Guardian:
    """The guardian, after the fork.

    Args:
        program: name of the program.
        pid: the process that serves.
        reader: a pipe that ends with the last process of the program.
        kill_grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, program: str, pid: int, reader: int, kill_grace: float) -> None:
        self._program = program
        self._pid = pid
        self._reader = reader
        self._kill_grace = kill_grace

    def run(self) -> NoReturn:
        """Wait for the end of the program, end the rest, and exit as it did."""
        fds.close_all(keep=self._reader)  # the connection above all
        os.set_blocking(self._reader, False)
        status = self._await_status()
        if status < 0:
            self._report(status)
        self._await_workers()
        _stop_children(self._kill_grace)
        children.end_all()
        if status >= 0:
            os._exit(status)  # noqa: SLF001 (nothing to clean up)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        os._exit(128 - status)  # noqa: SLF001 (the default action was none)

    def _await_status(self) -> int:
        """Pass signals on until the process has ended. Returns its exit status."""
        info = signal.sigtimedwait(AWAITED_WHILE_SERVING, NAMING_DELAY)
        if info is None:
            from chimirror.process import process_title

            process_title.show_as(f"{self._program}: guardian")
        number = info.si_signo if info else signal.sigwait(AWAITED_WHILE_SERVING)
        while True:
            # process 1 of a container adopts others, too
            while (end := children.next_ended()) is not None:
                if end[0] == self._pid:
                    return end[1]
            if number == signal.SIGTSTP:
                self._suspend()
            elif number != signal.SIGCHLD:
                os.kill(self._pid, number)
            number = signal.sigwait(AWAITED_WHILE_SERVING)

    def _suspend(self) -> None:
        """Stop the process group that serves and this process, until SIGCONT.

        The kernel stops neither process 1 nor a member of an orphaned process group by
        SIGTSTP, because no shell could continue it. Then all go on at once.
        """
        children.signal_with_group(self._pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTSTP,))  # stops here
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTSTP,))
        children.signal_with_group(self._pid, signal.SIGCONT)

    def _await_workers(self) -> None:
        """Wait for the processes that go on. A stop signal ends the wait."""
        while self._is_in_use() and signal.sigwait(AWAITED) == signal.SIGCHLD:
            while children.next_ended():
                pass

    def _is_in_use(self) -> bool:
        """Return True while a process holds the other end of the pipe."""
        try:
            os.read(self._reader, 1)
        except BlockingIOError:
            return True
        return False

    def _report(self, status: int) -> None:
        from chimirror.log.stderr import ERROR, report

        text = f"{self._program} (pid {self._pid}) ended: {children.describe(status)}"
        report(text, ERROR)


def _stop_children(kill_grace: float) -> None:
    """Let all children end: TERM and CONT, for as long as the kill grace lasts.

    A stop signal ends the wait.
    """
    for number in (signal.SIGTERM, signal.SIGCONT):
        for pid in children.list_children():
            children.signal_with_group(pid, number)
    until = monotonic() + kill_grace
    while _has_children():
        rest = until - monotonic()
        found = signal.sigtimedwait(AWAITED, rest) if rest > 0 else None
        if found is None or found.si_signo != signal.SIGCHLD:
            return


def _has_children() -> bool:
    """Reap children that have ended. Returns True if others are left."""
    while children.next_ended():
        pass
    return bool(children.list_children())
