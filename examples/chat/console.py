"""The user of the client on plain pipes or files: lines in, lines out.

They carry whole lines and nothing else, so that any program can be the user. Knows
nothing of chats.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Protocol

from chat.display_text import escaped
from chat.stdout_writer import StdoutWriter

READ = 4096
MAX_LINE = 1 << 16  # bytes
FLUSH_TIMEOUT = 2.0  # seconds for a reader of the last output


class InputHandler(Protocol):
    """Receives what the user does."""

    def on_line(self, line: str) -> None:
        """Called for each whole line."""

    def on_end(self) -> None:
        """Called at the end of input, once."""

    def on_interrupt(self) -> None:
        """Called for Ctrl-C on an empty line of a terminal."""


class Console:
    """Lines of standard input and standard output, which are pipes or files."""

    def __init__(self, handler: InputHandler) -> None:
        self.handler = handler
        self.output = StdoutWriter(sys.stdout.fileno())
        self._input = sys.stdin.fileno()
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._polled = True
        self._ended = False
        self._partial = b""
        self._skipping = False  # the rest of a line that is too long

    def open(self) -> None:
        self.resume_reading()

    async def close(self) -> None:
        """Write the last output, for a limited time."""
        self.pause_reading()
        try:
            await asyncio.wait_for(self.output.drain(0), FLUSH_TIMEOUT)
        except TimeoutError:
            pass
        self.output.close()

    def show(self, line: str) -> None:
        """Write one line. Control characters are escaped."""
        self.output.write(escaped(line) + "\n")

    def set_prompt(self, prompt: str) -> None:
        """Set the text before the typed line. Plain output has no prompt."""

    def resume_reading(self) -> None:
        if self._reading or self._ended:
            return
        self._reading = True
        try:
            self._loop.add_reader(self._input, self._on_readable)
        except PermissionError:  # a regular file is always readable
            self._polled = False
            self._read_file()

    def pause_reading(self) -> None:
        if self._reading and self._polled:
            self._loop.remove_reader(self._input)
        self._reading = False

    def _on_readable(self) -> None:
        if not self._reading:
            return
        try:
            data = os.read(self._input, READ)
        except BlockingIOError:  # another reader was faster
            return
        except OSError:  # the terminal has gone
            data = b""
        if data:
            self.receive(data)
        else:
            self.end()
        self._read_file()

    def _read_file(self) -> None:
        if self._reading and not self._polled:
            self._loop.call_soon(self._on_readable)

    def receive(self, data: bytes) -> None:
        """Split input into lines."""
        *lines, rest = (self._partial + data).split(b"\n")
        self._partial = b"" if self._skipping and not lines else rest
        for line in lines:
            skipped, self._skipping = self._skipping, False
            if not skipped:
                self.handler.on_line(line.decode("utf-8", "replace").removesuffix("\r"))
        if len(self._partial) > MAX_LINE:
            self._partial, self._skipping = b"", True
            self.show(f"error: a line has at most {MAX_LINE} bytes")

    def end(self) -> None:
        """Report the last line, which lacks its newline, and the end of input."""
        self.pause_reading()
        if not self._ended:
            self._ended = True
            if self._partial:
                self.handler.on_line(self._partial.decode("utf-8", "replace"))
            self.handler.on_end()
