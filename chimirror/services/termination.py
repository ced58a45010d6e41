"""SIGTERM while a server runs: it stops its target first, then ends by the signal.

Only where nothing else handles the signal, and in the main thread, which is the one
that Python interrupts. SIGINT needs nothing: Python makes it a KeyboardInterrupt.
"""

from __future__ import annotations

import os
import signal
import threading


class Terminated(BaseException):
    """SIGTERM has arrived."""


class Termination:
    """Context in which SIGTERM raises Terminated. It then ends the process."""

    def __init__(self) -> None:
        self._is_installed = False

    def __enter__(self) -> None:
        if is_unhandled():
            signal.signal(signal.SIGTERM, _on_signal)
            self._is_installed = True

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if isinstance(error, Terminated):
            end_by_signal()


def is_unhandled() -> bool:
    """Return whether this thread may handle SIGTERM, and nothing else does."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def end_by_signal() -> None:
    """End this process as SIGTERM does without a handler."""
    os.kill(os.getpid(), signal.SIGTERM)


def _on_signal(*_: object) -> None:
    # the target is being stopped: a second signal must not interrupt that
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
