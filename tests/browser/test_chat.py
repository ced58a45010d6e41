"""The chat of examples/chat as it is served: browsers, terminals and pipes together.

Two consoles in Chromium and chimirror-connect are three users of one chat server, by
real programs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest
from playwright.sync_api import Browser, Page, expect

from chat_peer import CHAT, ChatServer, server
from connect_process import running_client
from connect_terminal import status, wrapped
from console_page import connect, entries, open_console, say, screen, state
from serve import Service
from serve import server as chimirror_server
from tmux import window

__all__ = ["server"]  # fixtures

pytestmark = pytest.mark.timeout(300)  # slow on a busy machine


@pytest.fixture
def service(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """The applications of `make chat`, in front of the chat server of this test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    port = ("--env", f"CHAT_PORT={server.port}")
    options = ("--console", "--apps", str(CHAT), *port)
    with chimirror_server(tmp_path, [], *options) as running:
        yield running


@contextmanager
def user(browser: Browser, service: Service, name: str) -> Iterator[Page]:
    """Open a console in which a user is logged in."""
    with open_console(browser, service.port, "/chat") as page:
        connect(page)
        shows(page, "Write the name that other users shall see.")
        say(page, name)
        shows(page, "help lists the commands.")
        yield page
        page.get_by_role("button", name="Disconnect", exact=True).click()


def shows(page: Page, line: str) -> None:
    """Wait for a line of output. Lines that arrive together are one entry."""
    expect(entries(page, "stdout").filter(has_text=line).first).to_be_visible()


def test_two_browsers_and_a_terminal(
    browser: Browser, service: Service, server: ChatServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        ada = stack.enter_context(user(browser, service, "ada"))
        bob = stack.enter_context(user(browser, service, "bob"))
        say(ada, "start_chat bob")
        shows(bob, "ada asks to chat with you: answer yes or no within 30 s.")
        say(bob, "yes")
        for page, partner in ((ada, "bob"), (bob, "ada")):
            shows(page, f"You are in a chat with {partner}.")
            shows(page, f"Key of {partner}: ")
        say(ada, "message hello from a page: ä 漢字 🎉")
        shows(bob, "<ada> hello from a page: ä 漢字 🎉")
        say(bob, "message <b>hello</b>, too")
        shows(ada, "<bob> <b>hello</b>, too")

        # A third user joins from a terminal, and is told that both are occupied.
        url = f"ws://127.0.0.1:{service.port}/chat_terminal"
        eve = stack.enter_context(window(tmp_path, "eve", wrapped(tmp_path, url)))
        eve.shows("name:")
        eve.type("eve", "Enter")
        eve.shows("\neve>")
        eve.type("start_chat bob", "Enter")
        eve.shows("bob is not available.")
        say(ada, "exit_chat")
        shows(bob, "ada has left the chat.")
        eve.type("start_chat bob", "Enter")
        shows(bob, "eve asks to chat with you")
        say(bob, "yes")
        eve.shows("\neve to bob>")
        eve.type("message half a line")
        say(bob, "message to the terminal")
        eve.shows("\n<bob> to the terminal\neve to bob> message half a line")
        eve.type("Enter")
        shows(bob, "<eve> half a line")
        eve.type("C-d")
        shows(bob, "eve has disconnected: the chat has ended.")
        assert status(tmp_path) == "0"


def test_a_browser_and_pipes(browser: Browser, service: Service) -> None:
    """chimirror-connect on pipes is a user as well. A closed page leaves the chat."""
    with ExitStack() as stack:
        url = f"ws://127.0.0.1:{service.port}/chat"
        pipes = stack.enter_context(running_client(url))
        assert pipes.stdin
        assert pipes.stdout
        with user(browser, service, "ada") as ada:
            pipes.stdin.write(b"bob\nstart_chat ada\nmessage hello\n")
            pipes.stdin.flush()
            shows(ada, "bob asks to chat with you")
            say(ada, "yes")
            shows(ada, "<bob> hello")
            say(ada, "message and back")
            await_line(pipes.stdout, b"<ada> and back\n")
        await_line(pipes.stdout, b"ada has disconnected: the chat has ended.\n")
        assert pipes.communicate() == (b"", b"")
    assert pipes.returncode == 0


def await_line(stream: IO[bytes], line: bytes) -> None:
    while (said := stream.readline()) != line:
        assert said


def test_the_terminal_of_a_browser(browser: Browser, service: Service) -> None:
    """The line editor runs in the terminal of the console."""
    with (
        user(browser, service, "bob") as bob,
        open_console(browser, service.port, "/chat_terminal") as page,
    ):
        page.get_by_role("button", name="Connect", exact=True).click()
        expect(page.get_by_role("radio", name="Terminal")).to_be_checked()
        expect(screen(page)).to_contain_text("name:")
        page.keyboard.type("ada\n")
        expect(screen(page)).to_contain_text("ada>")
        page.keyboard.type("start_chat bob\n")
        shows(bob, "ada asks to chat with you")
        say(bob, "yes")
        expect(screen(page)).to_contain_text("ada to bob>")
        page.keyboard.type("message wird")
        say(bob, "message in between")
        expect(screen(page)).to_contain_text("<bob> in between")
        for key in ("ArrowLeft", "ArrowLeft", "Backspace"):
            page.keyboard.press(key)
        page.keyboard.type("o\n")
        shows(bob, "<ada> word")
        page.keyboard.press("Control+D")
        state(page, "Ended: exit 0")


def test_the_chat_server_is_missing(
    browser: Browser, service: Service, server: ChatServer
) -> None:
    server.process.terminate()
    server.process.wait()
    with open_console(browser, service.port, "/chat") as page:
        connect(page)
        say(page, "ada")
        reason = f"chat: cannot connect to 127.0.0.1:{server.port}: Connection refused"
        expect(entries(page, "stderr")).to_have_text(reason)
        state(page, "Ended: exit 69")
