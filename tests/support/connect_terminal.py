"""Runs chimirror-connect in a window of tmux, with a real server.

Checks that the client leaves the terminal with its original modes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import until
from serve import LAUNCH, ROOT, Service, server
from tmux import Window, window

CONNECT = [*LAUNCH, "chimirror.connect.main"]

AROUND = 'stty -a >before; "$@"; echo $? >status; stty -a >after; cat -v'


def wrapped(directory: Path, *argv: str) -> list[str]:
    """Return a command that runs the client between two calls of stty(1).

    Afterwards cat(1) shows typed keys.
    """
    script = f"cd {shlex.quote(str(directory))}; PYTHONPATH={ROOT}; export PYTHONPATH; "
    return ["sh", "-c", script + AROUND, "sh", *CONNECT, *argv]


@contextmanager
def remotely(
    directory: Path, command: list[str], *options: str
) -> Iterator[tuple[Window, Service]]:
    with server(directory, command, "--pty", "--workers", "1", *options) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with window(directory, "remote", wrapped(directory, url)) as found:
            yield found, service


def status(directory: Path) -> str:
    """Wait for the end of the client. Returns its exit status, checks the modes."""
    after = directory / "after"
    until(lambda: after.exists() and after.read_text().count("\n") > 3, "its end")
    before = (directory / "before").read_text()
    assert modes(after.read_text()) == modes(before)
    return (directory / "status").read_text().strip()


def modes(said: str) -> list[str]:
    """Return the output of stty(1) without the size, which is that of the window."""
    return said.splitlines()[1:]


def alike(one: Window, other: Window) -> None:
    until(lambda: one.shown() == other.shown(), f"{one.shown()}\n{other.shown()}")


def both(windows: tuple[Window, Window], *keys: str) -> None:
    for each in windows:
        each.type(*keys)
