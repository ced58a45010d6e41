"""Local terminal in raw mode while a remote one replaces it.

Guarantees the original modes afterwards in all cases, also while the client is stopped.
Knows nothing of sessions. Follows termios(3).
"""

from __future__ import annotations

import os
import signal
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TERMINAL_SIGNALS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


class LocalTerminal:
    """Context manager that sets a terminal to raw mode.

    Args:
        fd: Descriptor of the terminal.

    Raises:
        OSError: The descriptor is not a terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            self._original_modes: list[Any] = termios.tcgetattr(fd)
        except termios.error as error:
            raise OSError(*error.args) from None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, 80 by 24 if the terminal does not know them."""
        columns, rows = os.get_terminal_size(self._fd)
        return columns or 80, rows or 24

    def __enter__(self) -> LocalTerminal:
        """Set raw mode. Input that was typed ahead is kept."""
        tty.setraw(self._fd, termios.TCSANOW)
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the original modes, also from a background process group."""
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._original_modes)
        except termios.error:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)

    def drop_input(self) -> None:
        """Drop unread input, so that the shell does not execute it as commands."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error:
            pass

    def stop(self) -> None:
        """Restore the terminal and stop, as SIGTSTP does, until SIGCONT."""
        self.__exit__()
        os.kill(os.getpid(), signal.SIGSTOP)

    def resume(self) -> None:
        """Set raw mode again after SIGCONT, when other modes may have been set."""
        self.__enter__()
