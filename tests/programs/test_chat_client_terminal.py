"""Tests `chat client` of the examples on a terminal: tmux with 80 columns.

Arriving messages leave the typed line whole, for all widths of the line and of the
terminal. At each end the terminal has its original modes.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chat.display_text import width
from chat_peer import ChatServer, server
from chat_process import ChatProcess, chat_client, client_argv
from connect_terminal import AROUND, status
from processes import descendants, name_of
from tmux import Window, window

__all__ = ["server"]  # fixtures

PROMPT = "ada to bob> "


@contextmanager
def terminal(directory: Path, port: int) -> Iterator[Window]:
    """Run a client in a window, between two calls of stty(1)."""
    script = f"cd {shlex.quote(str(directory))}; {AROUND}"
    argv = ["bash", "-c", script, "bash", *client_argv(port)]
    with window(directory, "client", argv) as found:
        found.shows("name:")
        yield found


@pytest.fixture
def ada(server: ChatServer, tmp_path: Path) -> Iterator[Window]:
    with terminal(tmp_path, server.port) as found:
        found.type("ada", "Enter")
        found.shows("\nada>")
        yield found


@pytest.fixture
def bob(server: ChatServer, ada: Window) -> Iterator[ChatProcess]:
    """A user on pipes, in a chat with ada."""
    with chat_client(server.port, "bob") as client:
        ada.type("start_chat bob", "Enter")
        client.expect("asks to chat")
        client.type("yes")
        client.expect("can read this chat")
        ada.shows(f"\n{PROMPT.rstrip()}")
        yield client


def rows(found: Window) -> list[str]:
    """Return the used rows of the screen."""
    *screen, _ = found.shown().splitlines()
    return [row for row in screen if row]


def cursor(found: Window) -> tuple[int, int]:
    column, row = found.shown().splitlines()[-1].split()
    return int(column), int(row)


def last(found: Window, *wanted: str) -> None:
    """Wait for the last rows of the screen."""
    found.until(lambda: rows(found)[-len(wanted) :] == [*wanted], repr(wanted))


def client_pid(found: Window) -> int:
    (pid,) = (
        one.pid
        for one in descendants(found.server)
        if "client" in name_of(one.pid) and one.parent != found.server
    )
    return pid


def test_a_message_arrives_above_the_typed_line(ada: Window, bob: ChatProcess) -> None:
    ada.type("message hällo 漢字", "Left", "Left", "x")
    line = f"{PROMPT}message hällo x漢字"
    last(ada, line)
    column = width(f"{PROMPT}message hällo x")
    for text in ("first", "漢" * 30, "long " * 40):
        bob.type(f"message {text}")
        ada.shows(f"<bob> {text[:30]}")
        last(ada, line)
        assert cursor(ada) == (column, len(rows(ada)) - 1)
    ada.type("Enter")
    assert bob.read_line() == "<ada> hällo x漢字"
    last(ada, line, PROMPT.rstrip())


def test_a_line_that_is_wider_than_the_terminal(ada: Window, bob: ChatProcess) -> None:
    words = " ".join(f"word{n}" for n in range(40))
    ada.type(f"message {words}")
    ada.shows("word39")
    before = rows(ada)
    bob.type("message hello")
    last(ada, "<bob> hello", before[-1])
    ada.type("Home")
    ada.shows(f"{PROMPT}message word0")
    assert cursor(ada)[0] == len(PROMPT)
    assert len(rows(ada)) == len(before) + 1
    ada.type("End", "!", "Enter")
    assert bob.read_line() == f"<ada> {words}!"


@pytest.mark.parametrize("columns", [60, 40, 21, 100])
def test_the_size_changes(ada: Window, bob: ChatProcess, columns: int) -> None:
    """The row is drawn again, and nothing of the former one is left."""
    ada.type("message " + "漢字 and letters " * 8, "zz")
    ada.shows("letters zz")
    before = rows(ada)[-2]
    ada.resize(columns, 24)
    prompt = PROMPT[-(columns // 2) :]
    ada.until(
        lambda: (
            rows(ada)[-1].startswith(prompt)
            and rows(ada)[-1].endswith("zz")
            and before.endswith(rows(ada)[-2])
        ),
        f"one row of {columns} columns",
    )
    assert cursor(ada) == (width(rows(ada)[-1]), len(rows(ada)) - 1)
    bob.type("message hello")
    ada.until(lambda: rows(ada)[-2] == "<bob> hello", "the message")
    assert rows(ada)[-1].endswith("zz")


def test_keys_and_history(ada: Window, bob: ChatProcess) -> None:
    ada.type("message one two three", "C-w", "C-a", "Delete", "m", "End", "3", "Enter")
    assert bob.read_line() == "<ada> one two 3"
    ada.type("Up", "BSpace", "4", "Enter")
    assert bob.read_line() == "<ada> one two 4"
    ada.type("Up", "Up", "Down", "M-b", "x", "Enter")
    assert bob.read_line() == "<ada> one two x4"
    ada.type("dropped", "C-c")
    last(ada, f"{PROMPT}message one two x4", PROMPT.rstrip())
    ada.do("set-buffer", "message a\nb")
    ada.do("paste-buffer", "-p")
    ada.type("Enter")
    assert bob.read_line() == "<ada> a b"
    ada.type("C-l")
    ada.until(lambda: rows(ada) == [PROMPT.rstrip()], "an empty screen")


def test_a_request_while_a_line_is_typed(server: ChatServer, ada: Window) -> None:
    ada.type("use")
    with chat_client(server.port, "bob") as bob:
        bob.type("start_chat ada")
        question = "bob asks to chat with you: answer yes or no within 30 s."
        last(ada, question, "chat with bob? yes/no> use")
        ada.type("C-u", "no", "Enter")
        bob.expect("^ada has refused")
    last(ada, "You have refused to chat with bob.", "ada>")


ENDS = {
    "disconnect": ("disconnect", "Enter"),
    "Ctrl-D": ("C-d",),
    "Ctrl-C": ("C-c",),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end(ada: Window, bob: ChatProcess, tmp_path: Path, end: str) -> None:
    ada.type(*ENDS[end])
    bob.expect("^ada has disconnected")
    assert status(tmp_path) == "0"
    ada.until(lambda: not rows(ada)[-1].startswith("ada"), "the prompt has gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal(
    ada: Window, bob: ChatProcess, tmp_path: Path, number: signal.Signals
) -> None:
    ada.type("half a li")
    last(ada, f"{PROMPT}half a li")
    os.kill(client_pid(ada), number)
    bob.expect("^ada has disconnected")
    assert status(tmp_path) == str(128 + number)


def test_a_stopped_screen(ada: Window, bob: ChatProcess) -> None:
    """After Ctrl-S the client still reads keys and messages. Ctrl-Q shows the rest."""
    ada.type("C-s")
    before = rows(ada)
    bob.type("message first", "message second")
    ada.type("message unseen", "Enter")
    assert bob.read_line() == "<ada> unseen"
    assert rows(ada) == before
    ada.type("C-q")
    for row in ("<bob> first", "<bob> second", f"{PROMPT}message unseen"):
        ada.shows(f"\n{row}\n")


def test_ctrl_z(server: ChatServer, tmp_path: Path) -> None:
    """The shell has its terminal while the client is stopped."""
    shell = ["env", "PS1=here: ", "bash", "--norc", "-i"]
    with ExitStack() as stack:
        found = stack.enter_context(window(tmp_path, "shell", shell))
        found.shows("here:")
        found.type(shlex.join(client_argv(server.port)), "Enter")
        found.shows("name:")
        found.type("ada", "Enter")
        found.shows("\nada>")
        found.type("use")
        found.shows("\nada> use")
        found.type("C-z")
        found.shows("Stopped")
        found.until(lambda: rows(found)[-1] == "here:", "the shell reads keys")
        found.type("echo 12", "Left", "3", "Enter")
        found.shows("\n132")
        with chat_client(server.port, "bob") as bob:
            bob.type("start_chat ada")
            bob.expect("^ada is asked")
            found.type("fg", "Enter")
            found.shows("chat with bob? yes/no> use")
            found.type("C-u", "yes", "Enter")
            bob.expect("^You are in a chat with ada")
            found.shows("ada to bob>")
        found.shows("bob has disconnected")
        found.type("C-d")
        found.type("exit", "Enter")


def test_ctrl_z_without_a_shell(server: ChatServer, tmp_path: Path) -> None:
    """Behind a server, nothing could continue a stopped client: it runs on."""
    with window(tmp_path, "alone", client_argv(server.port)) as found:
        found.shows("name:")
        found.type("C-z", "ada", "Enter")
        found.shows("\nada>")
        found.type("users", "Enter")
        found.shows("ada (you)")


def test_other_programs_may_share_the_descriptors(
    server: ChatServer, tmp_path: Path
) -> None:
    """A program before it has left the terminal in non-blocking mode."""
    code = "import os; [os.set_blocking(fd, False) for fd in (0, 1)]"
    script = (
        f"{sys.executable} -c '{code}'; exec {shlex.join(client_argv(server.port))}"
    )
    with window(tmp_path, "shared", ["bash", "-c", script]) as found:
        found.shows("name:")
        found.type("ada", "Enter")
        found.shows("\nada>")
        found.type("help", "Enter")
        found.shows("shows this list\nada>")
