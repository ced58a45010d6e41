"""The local terminal while the remote one stands in for it: raw, and put back.

Law: what it was before it is again afterwards, whatever happens in between; a shell
that stops us finds it so, too. termios(3). Knows no session.
"""

from __future__ import annotations

import os
import signal
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WATCHED = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


class Terminal:
    """To be used as a context.

    Args:
        fd: of a terminal.

    Raises:
        OSError: it is none.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            self._modes: list[Any] = termios.tcgetattr(fd)
        except termios.error as error:
            raise OSError(*error.args) from None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows; a terminal that knows neither is as most are."""
        columns, rows = os.get_terminal_size(self._fd)
        return columns or 80, rows or 24

    def __enter__(self) -> Terminal:
        """Every byte passes; what was typed ahead is kept."""
        tty.setraw(self._fd, termios.TCSANOW)
        return self

    def __exit__(self, *error: object) -> None:
        """As it was, from the background too; nothing helps where it has gone."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        except termios.error:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def drop_input(self) -> None:
        """What was typed for a lost session is no command for the shell after us."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error:
            pass

    def stop(self) -> None:
        """Stop as SIGTSTP does, until SIGCONT."""
        self.__exit__()
        os.kill(os.getpid(), signal.SIGSTOP)

    def resume(self) -> None:
        """Somebody has us go on, and may have set modes meanwhile."""
        self.__enter__()
