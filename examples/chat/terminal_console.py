"""The user of the client on a terminal: a prompt, a line editor, output above them.

The last row of the output is the prompt with the typed line. It is erased before other
output, and drawn again below. Modes are those of termios(3), sequences those of xterm.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
from typing import Any

from chat.console import Console, InputHandler
from chat.display_text import escaped, wrapped_end
from chat.keys import CursorColumn, Key, KeyDecoder
from chat.line_editor import LineEditor

ERASE = "\r\x1b[J"
PASTES, NO_PASTES = "\x1b[?2004h", "\x1b[?2004l"
DEFAULT_COLUMNS = 80
ASK_CURSOR = "\x1b[6n"


class TerminalConsole(Console):
    """A terminal: the typed line is edited here, and drawn below all output."""

    def __init__(self, handler: InputHandler) -> None:
        super().__init__(handler)
        self._modes = termios.tcgetattr(self._input)
        self._decoder = KeyDecoder()
        self._editor = LineEditor()
        self._drawn = ""  # the last row, empty if it has to be drawn
        self._before = ""  # its text before the cursor
        # The column of the cursor, and the rows above it that the line also occupies,
        # if the terminal has wrapped the line to a smaller width.
        self._wrapped = (0, 0)

    def open(self) -> None:
        self._enter()
        handlers = {
            signal.SIGTSTP: self._on_suspend,
            signal.SIGWINCH: self._on_resize,
        }
        for number, handler in handlers.items():
            self._loop.add_signal_handler(number, handler)
        super().open()

    async def close(self) -> None:
        self.output.write(ERASE + NO_PASTES)
        await super().close()
        # Keys for a client that has ended are dropped.
        self._set_modes(self._modes)
        try:
            termios.tcflush(self._input, termios.TCIFLUSH)
        except termios.error:
            pass  # the terminal has gone

    def show(self, line: str) -> None:
        self._drawn = ""
        self._wrapped = (0, 0)
        self.output.write(ERASE)
        super().show(line)
        self._draw()

    def set_prompt(self, prompt: str) -> None:
        self._editor.prompt = escaped(prompt)
        self._draw()

    def receive(self, data: bytes) -> None:
        for key in self._decoder.decode(data):
            if isinstance(key, str):
                self._editor.insert(key)
            elif isinstance(key, CursorColumn):
                self._on_cursor_column(key.column)
            else:
                self._press(key)
        self._draw()

    def _press(self, key: Key) -> None:
        if key is Key.ENTER:
            self._submit()
        elif key is Key.DELETE_OR_END and not self._editor.text:
            self.end()
        elif key is Key.INTERRUPT:
            self._interrupt()
        elif key is Key.CLEAR_SCREEN:
            self.output.write("\x1b[H\x1b[2J")
            self._drawn = ""
        else:
            self._editor.press(key)

    def _submit(self) -> None:
        """Leave the line on the screen, as a terminal does, and report it."""
        line = self._editor.prompt + self._editor.text
        self._drawn = ""
        self._wrapped = (0, 0)
        self.output.write(f"{ERASE}{escaped(line)}\n")
        self.handler.on_line(self._editor.submit())

    def _interrupt(self) -> None:
        """Drop the typed line, or end the client on an empty one."""
        if self._editor.text:
            self._editor.clear()
        else:
            self.handler.on_interrupt()

    def _on_suspend(self) -> None:
        """Called for Ctrl-Z: stops this process with the modes of the shell.

        The default action of the signal does nothing if no shell could continue this
        process, for example behind a server.
        """
        self._set_modes(self._modes)
        self._loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        self._loop.add_signal_handler(signal.SIGTSTP, self._on_suspend)
        self._enter()
        self._redraw()

    def _on_resize(self) -> None:
        """Called for a new size: draws the row again.

        Most terminals wrap a row that has become too wide, others cut it. The column
        of the cursor tells which, before the new picture moves it.
        """
        rows, column = wrapped_end(self._before, self._columns())
        self._wrapped = (column, rows)
        if rows:
            self.output.write(ASK_CURSOR)
        self._redraw()

    def _on_cursor_column(self, column: int) -> None:
        """Called for the answer: erases the rows above that the line was wrapped to."""
        wrapped, rows = self._wrapped
        self._wrapped = (0, 0)
        # A terminal that cuts the row leaves the cursor in the last column.
        if rows and column == wrapped < self._columns() - 1:
            self.output.write(f"\x1b[{rows}A")
            self._redraw()

    def _redraw(self) -> None:
        self._drawn = ""
        self._draw()

    def _draw(self) -> None:
        """Draw the prompt and the line in the last row.

        The text before the cursor is written twice. So the cursor is right even if
        the terminal has another opinion about the width of a character.
        """
        before, after = self._editor.picture(self._columns())
        drawn = f"{ERASE}{before}{after}" + (f"\r{before}" if after else "")
        if drawn != self._drawn:
            self._drawn = drawn
            self._before = before
            self.output.write(drawn)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns or DEFAULT_COLUMNS
        except OSError:  # the terminal has gone
            return DEFAULT_COLUMNS

    def _enter(self) -> None:
        """Get each key at once, without echo. The output modes are unchanged."""
        modes = termios.tcgetattr(self._input)
        modes[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        modes[6] = [*modes[6]]
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        # Ctrl-C is a key here: the signal would also end a script around this program.
        # That of Ctrl-\ would leave these modes behind.
        modes[6][termios.VINTR] = modes[6][termios.VQUIT] = b"\0"
        self._set_modes(modes)
        self.output.write(PASTES)

    def _set_modes(self, modes: list[Any]) -> None:
        """Set modes without waiting: the output of a terminal may be stopped."""
        try:
            termios.tcsetattr(self._input, termios.TCSANOW, modes)
        except termios.error:
            pass  # the terminal has gone


def open_console(handler: InputHandler) -> Console:
    """Return an open console. Both ends have to be a terminal for the line editor."""
    terminal = (
        os.isatty(sys.stdin.fileno())
        and os.isatty(sys.stdout.fileno())
        and os.environ.get("TERM", "dumb") != "dumb"
    )
    console = (TerminalConsole if terminal else Console)(handler)
    console.open()
    return console
