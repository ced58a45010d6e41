"""Children, adopted ones too: who they are, that they end, how they ended.

Knows processes only (proc(5), waitpid(2), kill(2)). While a process is our unreaped
child its number cannot be reused, so only such numbers are signalled.
"""

from __future__ import annotations

from chimirror.system.lean import os, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

SIGNAL_NAMES: dict[int, str] = {
    int(getattr(signal, name)): name[3:]
    for name in sorted(dir(signal), reverse=True)
    if name.startswith("SIG") and name[3:].isalnum()
}
SIGNALS = {name: number for number, name in SIGNAL_NAMES.items()}


def describe(status: int) -> str:
    """How a process ended: `exit 3`, `signal KILL`."""
    if status >= 0:
        return f"exit {status}"
    return f"signal {signal_name(-status)}"


def signal_name(number: int) -> str:
    """`KILL` for 9; the number itself where it has no name (real-time signals)."""
    return SIGNAL_NAMES.get(number, str(number))


def listing() -> list[int]:
    """Our children (proc(5), /proc/PID/task/TID/children), zombies too.

    Raises:
        OSError: there is no descriptor left to look with.
    """
    me = os.getpid()
    try:
        return [int(word) for word in _read(f"/proc/{me}/task/{me}/children").split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _listing_by_parent(me)


def _listing_by_parent(parent: int) -> list[int]:
    """The same by a look at every process; none where there is no proc(5)."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []
    return [pid for pid in pids if _parent_of(pid) == parent]


def _parent_of(pid: int) -> int:
    try:
        state_and_on = _read(f"/proc/{pid}/stat").rpartition(b")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(state_and_on.split()[1])


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def next_ended(pid: int = -1) -> tuple[int, int] | None:
    """Reap this child if it has ended, or any; its pid and status (<0: a signal)."""
    try:
        pid, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def end_all(keep: Container[int] = ()) -> None:
    """Kill and reap every child but those to `keep`, with their process groups.

    What we may not signal is the cgroup's to end; so is all without a descriptor left.
    """
    while True:
        try:
            ended = [
                pid for pid in listing() if pid not in keep and kill_with_group(pid)
            ]
        except OSError:
            return
        if not ended:
            return
        for pid in ended:
            os.waitpid(pid, 0)


def variable(pid: int, name: bytes) -> bytes:
    """A variable of a process's environment.

    Empty: there is none, or it is not ours to read, or nobody's in this moment (a
    zombie has no environment, nor has a process in the midst of execve(2)).
    """
    try:
        environment = _read(f"/proc/{pid}/environ")
    except OSError:
        return b""
    _, _, rest = (b"\0" + environment).partition(b"\0" + name + b"=")
    return rest.partition(b"\0")[0]


def name(pid: int) -> bytes:
    """What a process calls itself; empty: there is none."""
    try:
        return _read(f"/proc/{pid}/comm").rstrip(b"\n")
    except OSError:
        return b""


def group_of(pid: int) -> int:
    """The process group; -1 if there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def group_exists(group: int) -> bool:
    """Whether a process group has any member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_outlived(pid: int) -> bool:
    """Whether a process that was just reaped has left others in its group.

    Its number is given away as soon as no group has it. Where there is such a process
    again, it and its group are somebody else's.
    """
    if not group_exists(pid):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def sacrifice(pid: int | str) -> bool:
    """Where memory runs out, let the kernel end this process, and never us, its parent.

    Costs 4 µs. What it starts inherits that; nobody but root could take it back.

    Returns:
        False where it is not ours to say so, which may be different in a moment: for
        the first part of its exec(2) it is as little dumpable as we are (proc(5)).
    """
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError:
        return False
    except OSError:
        return True  # it has gone already, or there is no such file here
    try:
        os.write(fd, b"1000")
    except OSError:
        pass
    finally:
        os.close(fd)
    return True


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process; whether it was there and ours to signal."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_group(group: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process group; whether it was there and ours to signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_with_group(pid: int) -> bool:
    """Kill a child, and its group if it leads one; whether it was ours to kill."""
    if group_of(pid) == pid:
        kill_group(pid)
    return kill(pid)


def explain(error: OSError | ValueError, what: str) -> str:
    """Why something could not be started: one line for the log."""
    if isinstance(error, OSError) and error.errno is not None:
        from errno import errorcode

        return f"{what}: {error.strerror} ({errorcode.get(error.errno, '?')})"
    return f"{what}: {error}"


def is_shortage(error: OSError | ValueError) -> bool:
    """Whether it was for want of processes, descriptors or memory, and may pass."""
    from errno import EAGAIN, EMFILE, ENFILE, ENOMEM

    passing = (EAGAIN, EMFILE, ENFILE, ENOMEM)
    return isinstance(error, OSError) and error.errno in passing
