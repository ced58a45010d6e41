"""Tests a server of chimirror.services at a terminal, which its target reads.

The terminals are those of tmux, with and without a shell in front of the server.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import PATIENCE, ended, until
from tmux import Window, window

TARGET = 'echo "target $$"; while read -r line; do echo "got $line"; done'
SERVER = f"""
import sys
from pathlib import Path
from chimirror.services import Server
result = Server(["sh", "-c", {TARGET!r}]).run()
Path(sys.argv[1]).write_text(str(result))
"""
SHELL = ["bash", "--norc", "--noprofile", "-i"]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """Return the file to which the server writes the exit of its target."""
    return tmp_path / "result"


@pytest.fixture
def command(tmp_path: Path, result: Path) -> list[str]:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    return [sys.executable, str(script), str(result)]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("HISTFILE", os.devnull)
    with window(tmp_path, "shell", SHELL) as found:
        yield found


def enter(where: Window, line: str) -> None:
    where.type("-l", line)
    where.type("Enter")


def entered(where: Window, line: str, answer: str) -> None:
    """Enter a line until its answer is shown.

    A line that arrives while a shell changes the modes of the terminal can be lost.
    """

    def ask() -> bool:
        enter(where, line)
        return answer in where.shown()

    where.until(ask, repr(answer))


def answers(where: Window, line: str) -> None:
    """The target has the terminal: it reads a line."""
    entered(where, line, f"got {line}")


def is_usable(where: Window) -> None:
    """The shell has the terminal again."""
    entered(where, "echo $((40 + 2))", "\n42")


def ended_with(result: Path, text: str) -> None:
    until(lambda: result.exists() and result.read_text() == text, text)


def test_interrupt_reaches_the_target(
    shell: Window, command: list[str], result: Path
) -> None:
    enter(shell, shlex.join(command))
    shell.shows("target ")
    answers(shell, "one")
    shell.type("C-c")
    ended_with(result, "signal INT")
    is_usable(shell)


def test_end_of_input(shell: Window, command: list[str], result: Path) -> None:
    enter(shell, shlex.join(command))
    answers(shell, "one")
    shell.type("C-d")
    ended_with(result, "exit 0")
    is_usable(shell)


def test_stop_and_continue(shell: Window, command: list[str], result: Path) -> None:
    """Again and again, and beside another process of the same job."""
    enter(shell, f"{shlex.join(command)} | cat")
    answers(shell, "one")
    for number in ("two", "three"):
        shell.type("C-z")
        is_usable(shell)
        enter(shell, "clear; fg")
        answers(shell, number)
    shell.type("C-d")
    ended_with(result, "exit 0")
    is_usable(shell)


def test_background(shell: Window, command: list[str], result: Path) -> None:
    """A target that reads in the background stops the job."""
    enter(shell, f"{shlex.join(command)} &")
    shell.shows("target ")
    is_usable(shell)
    entered(shell, "jobs", "Stopped")
    enter(shell, "fg")
    answers(shell, "one")
    shell.type("C-d")
    ended_with(result, "exit 0")
    is_usable(shell)


def test_without_shell(tmp_path: Path, command: list[str], result: Path) -> None:
    """No shell could continue the server, so that Ctrl-Z stops nothing."""
    with window(tmp_path, "alone", command) as alone:
        answers(alone, "one")
        alone.type("C-z")
        answers(alone, "two")
        alone.type("C-d")
        ended_with(result, "exit 0")


def test_ignored_stop_by_reading(
    tmp_path: Path, command: list[str], result: Path
) -> None:
    """The target has the terminal before it reads: otherwise it would get EIO."""
    program = (
        "import os, signal, sys;"
        "signal.signal(signal.SIGTTIN, signal.SIG_IGN);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    ignoring = [sys.executable, "-c", program, *command]
    with window(tmp_path, "ignoring", ignoring) as found:
        answers(found, "one")
        found.type("C-d")
        ended_with(result, "exit 0")


def test_target_that_cannot_start(shell: Window, tmp_path: Path) -> None:
    script = tmp_path / "nothing.py"
    server = 'Server(["/nowhere"]).run()'
    script.write_text(f"from chimirror.services import Server\n{server}\n")
    enter(shell, shlex.join([sys.executable, str(script)]))
    shell.shows("No such file or directory: '/nowhere'")
    is_usable(shell)


def test_killed_server(shell: Window, command: list[str]) -> None:
    enter(shell, shlex.join(command))
    shell.shows("target ")
    answers(shell, "one")
    (target,) = re.findall(r"target (\d+)", shell.shown())
    shell.type("C-z")
    is_usable(shell)
    enter(shell, "clear; kill -KILL %1")
    assert ended(int(target), PATIENCE)
    is_usable(shell)
