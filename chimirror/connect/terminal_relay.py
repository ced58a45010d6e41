"""Joins a session to the local terminal, for --pty.

The remote terminal has the size of the local one. All keys pass unchanged, including
Ctrl-C and Ctrl-Z. When another process stops the client, the terminal gets its original
modes. At the end, modes that the remote program has left set are reset, for example
after a lost connection.
"""

from __future__ import annotations

import os
import signal
import threading

from chimirror.client import SessionOver
from chimirror.connect.errors import KilledBySignal
from chimirror.connect.interrupt_policy import FORWARDED
from chimirror.connect.local_io import is_writable, read, write
from chimirror.connect.stdio_relay import STDERR, STDIN, STDOUT, StdioRelay
from chimirror.connect.terminal_modes import TerminalModes
from chimirror.connect.tty import TERMINAL_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.client.blocking import Session
    from chimirror.connect.tty import LocalTerminal


INTERRUPT = b"\x03"  # Ctrl-C
WRITE_TIMEOUT = 1.0  # seconds for a terminal that accepts no output


class TerminalRelay(StdioRelay):
    """Relay between a session and the local terminal. Runs once."""

    _watched_signals = (*FORWARDED, *TERMINAL_SIGNALS)
    _line_end = "\r\n"

    def __init__(self, session: Session[bytes | str], terminal: LocalTerminal) -> None:
        super().__init__(session)
        self._terminal = terminal
        self._modes = TerminalModes(lambda: terminal.size[1])
        self._terminal_fds = [fd for fd in (STDOUT, STDERR) if os.isatty(fd)]
        self._write_lock = threading.Lock()
        self._closed = False

    def _relay_input(self) -> None:
        """Relay the keys. Of a read-only session, only Ctrl-C has an effect: it ends.

        The server would ignore the keys, and raw mode takes Ctrl-C for a key.
        """
        if not self._session.read_only:
            super()._relay_input()
            return
        while chunk := read(STDIN):
            if INTERRUPT in chunk:
                raise KilledBySignal(signal.SIGINT)

    def _wait_for_end(self) -> None:
        with self._terminal:
            try:
                self._resize()
                super()._wait_for_end()
            finally:
                self._restore_terminal()

    def _write(self, fd: int, data: bytes) -> None:
        with self._write_lock:
            if not self._closed:
                if fd in self._terminal_fds:
                    self._modes.feed(data)
                super()._write(fd, data)

    def _restore_terminal(self) -> None:
        """Stop the output and reset the modes of the terminal.

        Gives up after WRITE_TIMEOUT if the terminal accepts no output.
        """
        self._closed = True
        if self._session.exit is None:
            self._terminal.drop_input()
        if self._write_lock.acquire(timeout=WRITE_TIMEOUT):
            sequence = self._modes.reset_sequence()
            try:
                if sequence and is_writable(self._terminal_fds[0], WRITE_TIMEOUT):
                    write(self._terminal_fds[0], sequence)
            except OSError:
                pass  # the terminal has hung up

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGTSTP:
            self._terminal.stop()
        elif number == signal.SIGCONT:
            self._terminal.resume()
        if number in TERMINAL_SIGNALS:
            self._resize()
        else:
            super()._on_signal(number)

    def _resize(self) -> None:
        try:
            self._session.resize(*self._terminal.size)
        except (OSError, SessionOver):
            pass  # the threads report the end of the session or the terminal
