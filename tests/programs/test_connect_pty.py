"""chimirror-connect in a real terminal behaves like a local program.

tmux shows the same screen for a remote program as for a local one. Afterwards the
terminal has its original modes.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from connect_terminal import CONNECT, alike, both, modes, remotely, status, wrapped
from processes import descendants, name_of, until
from serve import ROOT, server
from tmux import Window, window


def client(found: Window) -> int:
    """Return the process id of the client in the window."""
    pids: list[int] = []

    def ask() -> bool:
        every = descendants(found.server)
        pids[:] = [one.pid for one in every if "chimirror.connect" in name_of(one.pid)]
        return len(pids) > 1 or (bool(pids) and found.pid() not in pids)

    until(ask, "a client")
    return pids[-1]


def test_a_terminal_that_is_watched(tmp_path: Path) -> None:
    """Keys have no effect, except Ctrl-C, which ends the client."""
    script = "stty size; trap '' INT; read key; echo got $key"
    with remotely(tmp_path, ["sh", "-c", script], "--read-only") as (remote, service):
        remote.shows("24 80")
        remote.type("x", "Enter", "C-c")
        assert status(tmp_path) == str(128 + signal.SIGINT)
        assert "got" not in remote.shown()
        until(lambda: not service.applications(), "the process has gone")


def test_a_pager(tmp_path: Path) -> None:
    """The screens are equal in each size."""
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
    """Editing, jobs, Ctrl-C, Ctrl-Z and a change of the size."""
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
        both(windows, "sh -c 'echo started; exec sleep 1000'", "Enter")
        for each in windows:  # a terminal discards typed text when Ctrl-Z comes
            each.shows("\nstarted\n")
        both(windows, "C-z")
        for each in windows:  # each shell reads keys again
            each.shows("sleep 1000'\nhere:")
        alike(*windows)
        both(windows, "fg", "Enter")
        remote.shows("\nsh -c 'echo started; exec sleep 1000'\n")
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
    """The signal is sent twice to a program that ignores it."""
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
    """A shell gets its terminal in the original modes. After SIGCONT all keys pass."""
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
            prompts(found, 2)
            found.type(f"stty -a >{after}", "Enter")
            prompts(found, 3)
            assert modes(after.read_text()) == modes(before.read_text())
            found.type("fg", "Enter")
            found.type("again", "Enter")
            found.shows("again\nagain")
            found.type("C-d")
            prompts(found, 4)
            found.type("echo over", "Enter")
            found.shows("\nover")


def prompts(found: Window, count: int) -> None:
    """Wait for a prompt: a shell loses keys while it changes the modes."""
    found.until(lambda: found.shown().count("here:") == count, "the shell reads keys")


def test_the_size_before_the_start(tmp_path: Path) -> None:
    """A program that asks for the size once, at its start, gets the local one."""
    command = ["sh", "-c", "stty size; exec cat"]
    with server(tmp_path, command, "--pty") as service:
        url = f"ws://127.0.0.1:{service.port}/"
        sized = ["sh", "-c", 'stty cols 111 rows 33; exec "$@"', "sh"]
        with window(tmp_path, "remote", [*sized, *wrapped(tmp_path, url)]) as remote:
            remote.shows("33 111")
            remote.type("C-d")
            assert status(tmp_path) == "0"


def test_terminals_that_are_not_joined(tmp_path: Path) -> None:
    """Lines are sent to a process without a terminal, and Ctrl-D ends the input."""
    with server(tmp_path, ["cat"]) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with window(tmp_path, "remote", wrapped(tmp_path, url)) as remote:
            remote.type("hello", "Enter")
            remote.shows("hello\nhello")
            remote.type("C-d")
            assert status(tmp_path) == "0"


def test_input_has_to_be_a_terminal() -> None:
    argv = [*CONNECT, "--pty", "ws://127.0.0.1:1/"]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == os.EX_USAGE
    assert "standard input is not a terminal" in done.stderr


def test_the_remote_process_needs_a_terminal(tmp_path: Path) -> None:
    with server(tmp_path, ["cat"]) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with window(tmp_path, "remote", wrapped(tmp_path, "--pty", url)):
            assert status(tmp_path) == "255"
