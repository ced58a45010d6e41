"""Windows of tmux(1): terminals in which tests type, and whose screen they read.

At the end of the context, the tmux server and all its processes must have ended.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import ended, until


class Window:
    """A window of 80 columns and 24 rows that runs a command, with TERM of an xterm."""

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
        # os.environ lacks LINES and COLUMNS, which readline puts into the environment
        # of this process below Python.
        env = dict(os.environ)
        done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
        return done.stdout

    def type(self, *keys: str) -> None:
        """Send keys by the names of tmux, for example C-c, or texts."""
        self.do("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self.do("resize-window", "-x", str(columns), "-y", str(rows))

    def shown(self) -> str:
        """Return the text of the screen and the position of the cursor."""
        where = ("display-message", "-p", "#{cursor_x} #{cursor_y}")
        return self.do("capture-pane", "-p", ";", *where)

    def shows(self, text: str) -> None:
        self.until(lambda: text in self.shown(), repr(text))

    def hides(self, text: str) -> None:
        self.until(lambda: text not in self.shown(), f"no {text!r}")

    def until(self, ask: Callable[[], bool], what: str) -> None:
        """Wait. The error of a failed wait shows the screen."""
        try:
            until(ask, what)
        except AssertionError as error:
            error.add_note(self.shown())
            raise

    def pid(self) -> int:
        """Return the process id of the command."""
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
