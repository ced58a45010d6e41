"""Runs flows for the blocking API, in the threads of the caller.

The logic runs under one lock, which is not held during a wait or a call. Each thread
polls the descriptors of its own flow. Follows poll(2), eventfd(2).
"""

from __future__ import annotations

import os
import select
import threading
import time

from chimirror.services.flow import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from chimirror.services.flow import Flow, Wait

    T = TypeVar("T")


class PollDriver:
    """The waits of all threads of one server or one connection."""

    def __init__(self) -> None:
        # A handler of a signal may call `kill` while its thread holds the lock.
        self.lock = threading.RLock()
        self._waiting: set[int] = set()  # an eventfd of each thread in a wait
        self._spare: list[int] = []

    def run(self, flow: Flow[T], timeout: float | None = None) -> T:
        """Run a flow to its end.

        Raises:
            TimeoutError: The flow has not finished within `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        is_late = False  # a flow that always finds something ends in time as well
        result: object = None
        with self.lock:
            try:
                while True:
                    try:
                        step = flow.send(result)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    if isinstance(step, Call):
                        result = self._call(step)
                        continue
                    if is_late:
                        raise TimeoutError("not finished within the timeout")
                    result = ready = self._wait(step, end)
                    is_late = end is not None and time.monotonic() >= end
                    if is_late and not ready:
                        raise TimeoutError("not finished within the timeout")
            finally:
                flow.close()

    def _call(self, step: Call) -> object:
        self.lock.release()
        try:
            return step.function(step.argument)
        finally:
            self.lock.acquire()

    def _wait(self, step: Wait, end: float | None) -> Mapping[int, int]:
        deadlines = [each for each in (step.deadline, end) if each is not None]
        left = min(deadlines) - time.monotonic() if deadlines else None
        wake = self._spare.pop() if self._spare else _eventfd()
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        for fd, events in step.events.items():
            poll.register(fd, events)
        self._waiting.add(wake)
        self.lock.release()
        try:
            ready = dict(poll.poll(_milliseconds(left)))
        finally:
            self.lock.acquire()
            self._waiting.remove(wake)
            self._spare.append(wake)
        if ready.pop(wake, 0):
            os.eventfd_read(wake)
        return ready

    def wake(self) -> None:
        """Let all waiting flows look again. The caller holds the lock."""
        for each in self._waiting:
            os.eventfd_write(each, 1)

    def close(self) -> None:
        """Release the descriptors that no thread uses."""
        while self._spare:
            os.close(self._spare.pop())

    def __del__(self) -> None:
        self.close()


def _eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def _milliseconds(seconds: float | None) -> int | None:
    return (
        None
        if seconds is None
        else int(min(max(seconds, 0), 3600) * 1000) + (seconds > 0)
    )
