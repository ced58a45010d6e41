"""Processes that die at a chosen store into shared memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any


class KillingView:
    """A view that kills its process at a store.

    Args:
        view: the memory.
        budget: has one number, which several views share: the stores that succeed.
        before: whether the process dies before the store or after it.
    """

    def __init__(self, view: memoryview, budget: list[int], before: bool) -> None:
        self.view, self.budget, self.before = view, budget, before

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, key: Any) -> Any:
        return self.view[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self.view)

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self.before:
            self.view[key] = value
        if not self.budget[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        self.budget[0] -= 1
        if self.before:
            self.view[key] = value


def child(work: Callable[[], object]) -> int:
    """Run a function in a child. Returns the pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def reap(pid: int) -> int:
    """Wait for a child. Returns its exit status, negative after a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
