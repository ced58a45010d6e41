"""Child processes, adopted ones included: list, signal, reap and describe them.

Knows only processes (proc(5), waitpid(2), kill(2), prctl(2)). The pid of an unreaped
child cannot be reused, so only such pids are signalled.
"""

from __future__ import annotations

import sys
from time import monotonic, sleep

from chimirror.builtin_modules import os, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

# Options of prctl(2).
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

PF_EXITING = 4  # flag of a process that is ending (linux/sched.h)

END_TIMEOUT = 5.0  # seconds for killed children to end

# Real-time signals have none: the C library defines the number of SIGRTMIN (signal(7)).
SIGNAL_NAMES: dict[int, str] = {
    int(getattr(signal, name)): name[3:]
    for name in sorted(dir(signal), reverse=True)
    if name.startswith("SIG") and name[3:].isalnum() and name[3:5] != "RT"
}
SIGNALS = {name: number for number, name in SIGNAL_NAMES.items()}


def describe(status: int) -> str:
    """Describe the end of a process: `exit 3`, `signal KILL`."""
    if status >= 0:
        return f"exit {status}"
    return f"signal {signal_name(-status)}"


def signal_name(number: int) -> str:
    """Return `KILL` for 9, and `40` for 40: signals from 32 on have no name."""
    return SIGNAL_NAMES.get(number, str(number))


def list_children() -> list[int]:
    """Return the pids of all children (/proc/PID/task/TID/children), zombies included.

    Raises:
        OSError: No descriptor is left to read the list.
    """
    pid = os.getpid()
    try:
        return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _list_by_parent(pid)


def _list_by_parent(parent: int) -> list[int]:
    """Return the same by reading every process, or nothing without proc(5)."""
    return [pid for pid in list_processes() if _parent_of(pid) == parent]


def list_processes() -> list[int]:
    """Return the pids of all processes, or nothing without proc(5).

    Raises:
        OSError: No descriptor is left to read the list.
    """
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def _parent_of(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat, from the state on (proc_pid_stat(5))."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def next_ended(pid: int = -1) -> tuple[int, int] | None:
    """Reap this child, or any child, if it has ended.

    Returns:
        Its pid and exit status (negative for a signal), or None.
    """
    try:
        pid, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def reap_killed(pid: int) -> bool:
    """Reap a child if it was killed. Returns False if it runs or has exited.

    A child that is ending is waited for. vfork(2) returns some time before waitid(2)
    finds that its child was killed.
    """
    try:
        fields = _stat(pid)
    except OSError:  # no proc(5), another user's program, or no descriptor left
        return False
    if not int(fields[6]) & PF_EXITING or int(fields[17]) > 1:
        return False  # a main thread may end before the others
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if end is None or (end.si_code, end.si_status) != (os.CLD_KILLED, signal.SIGKILL):
        return False
    os.waitpid(pid, 0)
    return True


def is_child(pid: int) -> bool:
    """Return True if a process is a child that has not been reaped."""
    if pid <= 0:
        return False
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_all(exclude: Container[int] = ()) -> list[int]:
    """Kill and reap all children but the excluded ones, with their process groups.

    Processes that this one may not signal are left to the cgroup. So are all processes
    if no descriptor is left.

    Returns:
        Children that have not ended within END_TIMEOUT. The kernel kills no process
        that waits for a device or a file system which does not answer (D in ps(1)).
    """
    until = monotonic() + END_TIMEOUT
    left: list[int] = []
    while True:
        try:
            killed = [
                pid
                for pid in list_children()
                if pid not in exclude and pid not in left and kill_with_group(pid)
            ]
        except OSError:
            return left
        if not killed:
            return left
        left += [pid for pid in killed if not _await_end(pid, until)]


def _await_end(pid: int, until: float) -> bool:
    """Reap a killed child. Returns False if it does not end in time."""
    pause = 0.0001
    while next_ended(pid) is None and group_of(pid) >= 0:
        if monotonic() > until:
            return False
        sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


def variable(pid: int, name: bytes) -> bytes:
    """Return a variable of a process's environment, or nothing.

    Nothing is returned if the variable is missing or the environment is not readable. A
    zombie has no environment, nor has a process during execve(2).
    """
    try:
        environment = _read(f"/proc/{pid}/environ")
    except OSError:
        return b""
    _, _, rest = (b"\0" + environment).partition(b"\0" + name + b"=")
    return rest.partition(b"\0")[0]


def name(pid: int) -> bytes:
    """Return the name of a process (comm), or nothing if it does not exist."""
    try:
        return _read(f"/proc/{pid}/comm").rstrip(b"\n")
    except OSError:
        return b""


def group_of(pid: int) -> int:
    """Return the process group, or -1 if there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def group_exists(group: int) -> bool:
    """Return True if a process group has any member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def has_group_survivors(pid: int) -> bool:
    """Return True if a process that was just reaped has left others in its group.

    A pid is reused only when no group has that number. If the pid exists again, it and
    its group belong to another process.
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


def prefer_for_oom_kill(pid: int | str) -> bool:
    """Make the kernel end this process before its parent when memory runs out.

    Costs 4 µs. Processes that it starts inherit the value. Only root can lower it below
    that of the parent.

    Returns:
        False if the value cannot be set yet. In the first part of its execve(2) a
        process is as little dumpable as this one (proc(5)). Opening the file then fails
        with EACCES, or with ENOENT where ProtectProc=invisible hides the process. A
        process that has ended gives ENOENT too: the caller learns of the exit.
    """
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, b"1000")
    except OSError:
        pass
    finally:
        os.close(fd)
    return True


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process. Returns True if it existed and could be signalled."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_group(group: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process group. Returns True if it existed and could be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_with_group(pid: int) -> bool:
    """Kill a child, and its group if it leads one. Returns True if it was killed."""
    if group_of(pid) == pid:
        kill_group(pid)
    return kill(pid)


def signal_with_group(pid: int, number: int) -> None:
    """Signal a child once, with its group if it leads one."""
    if group_of(pid) != pid or not kill_group(pid, number):
        kill(pid, number)


def explain(error: OSError | ValueError, subject: str) -> str:
    """Describe why a program could not be started, in one line for the log."""
    if isinstance(error, OSError) and error.errno is not None:
        from errno import errorcode

        return f"{subject}: {error.strerror} ({errorcode.get(error.errno, '?')})"
    return f"{subject}: {error}"


def is_shortage(error: OSError | ValueError) -> bool:
    """Return True for a lack of processes, descriptors or memory, which may pass."""
    from errno import EAGAIN, EMFILE, ENFILE, ENOMEM

    passing = (EAGAIN, EMFILE, ENFILE, ENOMEM)
    return isinstance(error, OSError) and error.errno in passing


def become_subreaper() -> bool:
    """Adopt orphaned descendants (Linux). Returns False if not supported."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Get SIGTERM when the parent dies. Does nothing if there is none (0).

    Called after the last change of ids, which clears the setting. It concerns the
    thread that has forked this process: it must be the main one.

    Args:
        parent: the pid that the parent has, or had if it is dead already.
    """
    if parent and _prctl(PR_SET_PDEATHSIG, signal.SIGTERM) and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def set_dumpable(dumpable: bool) -> bool:
    """Set if processes with the same uid may inspect this one. Returns False if not."""
    return _prctl(PR_SET_DUMPABLE, int(dumpable))


def is_dumpable() -> bool:
    """Return True if processes with the same uid may inspect this one."""
    return not _prctl(PR_GET_DUMPABLE, 0)


def set_name(name: bytes) -> bool:
    """Set the name that ps(1) shows, up to 15 bytes. Returns False if not set."""
    return _prctl(PR_SET_NAME, name)


def _prctl(option: int, argument: int | bytes) -> bool:
    if sys.platform != "linux":
        return False
    try:
        import _ctypes
    except ImportError:  # a Python built without libffi
        return False
    ourselves = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # dlopen(3): NULL
    function = _ctypes.dlsym(ourselves, "prctl")
    status = _ctypes.call_function(function, (option, argument, 0, 0, 0))
    return bool(status == 0)
