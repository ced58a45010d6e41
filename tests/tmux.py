"""Terminals that people look at: windows of tmux(1), typed into and read.

Law: when it is left, its server and whatever ran in it have ended.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from settling import ended, until


class Window:
    """A window of 80 columns and 24 rows in which a command runs, as of an xterm."""

    def __init__(self, socket: Path, argv: list[str], environment: list[str]) -> None:
        self._socket = str(socket)
        set_ = [word for each in environment for word in ("-e", each)]
        size = ("-x", "80", "-y", "24")
        kind = ("set-option", "-g", "default-terminal", "xterm-256color")
        session = ("new-session", "-d", *size, *set_, "--", *argv)
        self.do("-f/dev/null", "start-server", ";", *kind, ";", *session)
        self.server = int(self.do("display-message", "-p", "#{pid}"))

    def do(self, *words: str) -> str:
        argv = ["tmux", "-S", self._socket, *words]
        # (Without what readline puts into ours beneath Python: LINES and COLUMNS.)
        env = dict(os.environ)
        done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
        return done.stdout

    def type(self, *keys: str) -> None:
        """Keys by tmux's names, such as C-c, or texts."""
        self.do("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self.do("resize-window", "-x", str(columns), "-y", str(rows))

    def shown(self) -> str:
        """What can be read, and where the cursor is."""
        where = self.do("display-message", "-p", "#{cursor_x} #{cursor_y}")
        return self.do("capture-pane", "-p") + where

    def shows(self, text: str) -> None:
        until(lambda: text in self.shown(), f"{text!r} on {self.shown()}")

    def hides(self, text: str) -> None:
        until(lambda: text not in self.shown(), f"no {text!r} on {self.shown()}")

    def pid(self) -> int:
        """Of the command."""
        return int(self.do("display-message", "-p", "#{pane_pid}"))


@contextmanager
def window(directory: Path, name: str, argv: list[str]) -> Iterator[Window]:
    place = f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"
    made = Window(directory / f"{name}.tmux", argv, [place])
    try:
        yield made
    finally:
        done = subprocess.run(
            ["tmux", "-S", str(directory / f"{name}.tmux"), "kill-server"],
            capture_output=True,
            check=False,
        )
        assert ended(made.server, 30), done.stderr
