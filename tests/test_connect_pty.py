"""chimirror-connect --pty in a real terminal: as if the program ran there.

Law: what tmux shows of a remote program is what it shows of the same one run locally,
and the terminal is afterwards what it was before.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch import LAUNCH, ROOT, Service, server
from settling import descendants, name_of, until
from tmux import Window, window

CONNECT = [*LAUNCH, "chimirror.connect.main", "--pty"]
AROUND = 'stty -a >before; "$@"; echo $? >status; stty -a >after; cat -v'


def wrapped(directory: Path, *argv: str) -> list[str]:
    """The client, between two looks at the terminal; then it shows what is typed."""
    script = f"cd {shlex.quote(str(directory))}; PYTHONPATH={ROOT}; export PYTHONPATH; "
    return ["sh", "-c", script + AROUND, "sh", *CONNECT, *argv]


@contextmanager
def remotely(directory: Path, command: list[str]) -> Iterator[tuple[Window, Service]]:
    options = ("--pty", "--workers", "1")
    with server(directory, command, *options) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with window(directory, "remote", wrapped(directory, url)) as found:
            yield found, service


def client(found: Window) -> int:
    """The process of the client in the window."""
    pids: list[int] = []

    def ask() -> bool:
        every = descendants(found.server)
        pids[:] = [one.pid for one in every if "chimirror.connect" in name_of(one.pid)]
        return len(pids) > 1 or (bool(pids) and found.pid() not in pids)

    until(ask, "a client")
    return pids[-1]


def status(directory: Path) -> str:
    """How the client ended; the terminal is as it was."""
    after = directory / "after"
    until(lambda: after.exists() and after.read_text().count("\n") > 3, "its end")
    before = (directory / "before").read_text()
    assert modes(after.read_text()) == modes(before)
    return (directory / "status").read_text().strip()


def modes(said: str) -> list[str]:
    """What stty(1) says, but for the size, which is the window's."""
    return said.splitlines()[1:]


def alike(one: Window, other: Window) -> None:
    until(lambda: one.shown() == other.shown(), f"{one.shown()}\n{other.shown()}")


def both(windows: tuple[Window, Window], *keys: str) -> None:
    for each in windows:
        each.type(*keys)


def test_a_pager(tmp_path: Path) -> None:
    """Its screens are the same to the character, in each size."""
    text = tmp_path / "text"
    text.write_text("".join(f"line {n} {'x' * (n % 150)}\n" for n in range(500)))
    command = ["less", str(text)]
    with (
        remotely(tmp_path, command) as (remote, _),
        window(tmp_path, "local", command) as local,
    ):
        windows = (remote, local)
        remote.shows("line 1 ")
        alike(*windows)
        both(windows, "Space")
        remote.shows("line 30 ")
        alike(*windows)
        for size in ((100, 30), (60, 10)):
            for each in windows:
                each.resize(*size)
            alike(*windows)
            both(windows, "/line 4[0-9]5", "Enter")
            alike(*windows)
        remote.type("q")
        assert status(tmp_path) == "0"


def test_a_shell(tmp_path: Path) -> None:
    """Editing, jobs, Ctrl-C and Ctrl-Z, and a size that it is told of."""
    command = ["env", "PS1=here: ", "bash", "--norc", "-i"]
    with (
        remotely(tmp_path, command) as (remote, _),
        window(tmp_path, "local", command) as local,
    ):
        windows = (remote, local)
        for each in windows:
            each.shows("here:")
        both(windows, "echo 124", "Left", "3", "Enter")
        remote.shows("\n1234")
        alike(*windows)
        both(windows, "sleep 1000", "Enter")
        both(windows, "C-z")
        remote.shows("Stopped")
        alike(*windows)
        both(windows, "fg", "Enter")
        remote.shows("\nsleep 1000\n")
        both(windows, "C-c")
        for each in windows:
            each.shows("^C\nhere:")
            each.resize(111, 33)
        both(windows, "stty size", "Enter")
        remote.shows("33 111")
        alike(*windows)
        remote.type("exit 7", "Enter")
        assert status(tmp_path) == "7"


def test_a_lost_connection(tmp_path: Path) -> None:
    with remotely(tmp_path, ["cat"]) as (remote, service):
        remote.type("hello", "Enter")
        remote.shows("hello\nhello")
        for pid in service.serving():
            os.kill(pid, signal.SIGKILL)
        assert status(tmp_path) == "255"


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT"])
def test_a_signal_that_ends_it(name: str, tmp_path: Path) -> None:
    """It is sent twice to a program that does not heed it."""
    with remotely(
        tmp_path, ["sh", "-c", "trap '' TERM HUP INT QUIT; cat; cat"]
    ) as both:
        remote = both[0]
        remote.type("hello", "Enter")
        remote.shows("hello\nhello")
        pid, number = client(remote), signal.Signals[f"SIG{name}"]
        os.kill(pid, number)
        os.kill(pid, number)

        def again() -> bool:
            if not (tmp_path / "after").exists():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            return (tmp_path / "after").exists()

        until(again, "its end")
        assert status(tmp_path) == str(128 + number)


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_a_stop_from_outside(number: signal.Signals, tmp_path: Path) -> None:
    """A shell finds its terminal as it was; going on, all keys pass again."""
    with server(tmp_path, ["cat", "-v"], "--pty") as service:
        url = f"ws://127.0.0.1:{service.port}/"
        before, after = tmp_path / "before", tmp_path / "after"
        shell = ["env", f"PYTHONPATH={ROOT}", "PS1=here: ", "bash", "--norc", "-i"]
        with window(tmp_path, "shell", shell) as found:
            found.shows("here:")
            found.type(f"stty -a >{before}; ", shlex.join([*CONNECT, url]), "Enter")
            found.type("hello", "Enter")
            found.shows("hello\nhello")
            os.kill(client(found), number)
            found.shows("Stopped")
            found.type(f"stty -a >{after}", "Enter")
            until(lambda: after.exists() and "extproc" in after.read_text(), "modes")
            assert modes(after.read_text()) == modes(before.read_text())
            found.type("fg", "Enter")
            found.type("again", "Enter")
            found.shows("again\nagain")
            found.type("C-d")
            until(lambda: found.shown().count("here:") == 4, "the shell again")
            found.type("echo over", "Enter")
            found.shows("\nover")


def test_input_has_to_be_a_terminal() -> None:
    argv = [*CONNECT, "ws://127.0.0.1:1/"]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == os.EX_USAGE
    assert "standard input is no terminal" in done.stderr


def test_there_has_to_be_one_at_the_other_end(tmp_path: Path) -> None:
    with server(tmp_path, ["cat"]) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with window(tmp_path, "remote", wrapped(tmp_path, url)):
            assert status(tmp_path) == "255"
