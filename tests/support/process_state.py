"""Reads which children, descriptors and signal handlers this test process has.

The fixture `no_leftovers` (conftest.py) compares these before and after each test.
"""

from __future__ import annotations

import os
import signal

from processes import descendants, name_of

Descriptors = dict[int, str]


def children() -> dict[int, str]:
    """Return all descendants by process id, with their state and command line."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # most tests: no need to read all processes of the machine
    found = descendants(os.getpid())
    return {child.pid: f"{child.state} {name_of(child.pid)}" for child in found}


def descriptors() -> Descriptors:
    """Return the target of each open descriptor of this process."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            pass  # the descriptor with which the directory was listed
    return found


def dispositions() -> dict[str, object]:
    """Return the handler of each signal, the blocked signals and the wake-up fd."""
    found: dict[str, object] = {
        signal.strsignal(number) or str(number): signal.getsignal(number)
        # used by pytest-timeout
        for number in signal.valid_signals() - {signal.SIGALRM}
    }
    found["blocked"] = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    found["wake-up"] = wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return found
