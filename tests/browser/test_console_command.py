"""The button of the console that copies a command: the command runs in a shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import applications, open_console, serve, service, shared
from js_runners import LONG
from page_checks import LOOKS, audit, overflow
from serve import Service

__all__ = ["service", "shared"]  # fixtures

COPIES = """
globalThis.copied = [];
Clipboard.prototype.writeText = async (text) => void copied.push(text);
"""
CALL = """async ([address, framing, framings]) => {
  const script = document.querySelector("script").src;
  const { command } = await import(script.replace("console.js", "command.js"));
  return command(address, framing, framings);
}"""


def prepare(page: Page) -> None:
    page.add_init_script(COPIES)


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port, prepare=prepare) as found:
        yield found


def copied_command(page: Page) -> str:
    button = page.get_by_role("button", name="Copy as command")
    button.click()
    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    text: str = page.evaluate("copied.pop()")
    page.get_by_label("Line to send").focus()
    expect(button).to_be_visible()
    return text


def run(command: str, said: str = "") -> str:
    """Run the command in a shell, as a user pastes it. Returns its output."""
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    argv = ["sh", "-c", command]
    done = subprocess.run(
        argv, input=said, env=environment, capture_output=True, text=True, timeout=LONG
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_preferred_framing(page: Page, service: Service) -> None:
    command = copied_command(page)
    assert command == f"chimirror-connect ws://127.0.0.1:{service.port}/hostile"
    assert run(command, "hello\n") == '"hello"\n'


def test_the_path_of_a_proxy(browser: Browser, tmp_path: Path) -> None:
    with (
        serve(applications(tmp_path), "--base-path", "/term") as service,
        open_console(browser, service.port, "/term/plain", prepare=prepare) as page,
    ):
        command = copied_command(page)
        url = f"ws://127.0.0.1:{service.port}/term/plain"
        assert command == f"chimirror-connect {url}"
        assert run(command, "hello\n") == "hello\n"


def test_another_framing(page: Page) -> None:
    page.get_by_label("Framing", exact=True).select_option("lines")
    command = copied_command(page)
    assert "--framing lines" in command
    assert run(command, "hello\nexit 0\n") == '"hello"\n'


def test_another_application(page: Page) -> None:
    page.get_by_label("Name").select_option("plain")
    command = copied_command(page)
    assert "--framing" not in command
    assert command.endswith("/plain")
    assert run(command, "[1]\n") == "[1]\n"


@pytest.mark.parametrize(
    "query", ["level=2&name=x", "a='b'&c=$(id)", "a=%22`id`%22;id", "é=ü*[1]!"]
)
def test_the_query_is_quoted(browser: Browser, service: Service, query: str) -> None:
    with open_console(
        browser, service.port, f"/asked?{query}", prepare=prepare
    ) as page:
        command = copied_command(page)
        sent = page.evaluate("location.search.slice(1)")
        assert run(command) == f"asked: {sent}\n"


@pytest.mark.parametrize(
    ("address", "framing", "framings", "argv"),
    [
        ("http://h/", "stdio", "stdio json", ["ws://h/"]),
        ("https://h:1/a?b#c", "json", "json lines", ["wss://h:1/a?b"]),
        ("wss://[::1]/a%20b", "lsp", "lsp", ["wss://[::1]/a%20b"]),
        ("ws://h/", "lsp", "stdio lsp", ["--framing", "lsp", "ws://h/"]),
        ("ws://h/", "json", "lsp json stdio", ["--framing", "json", "ws://h/"]),
        ("ws://h/", "it's; id", "stdio", ["--framing", "it's; id", "ws://h/"]),
    ],
)
def test_the_words(
    page: Page, address: str, framing: str, framings: str, argv: list[str]
) -> None:
    command = page.evaluate(CALL, [address, framing, framings.split()])
    assert shlex.split(command) == ["chimirror-connect", *argv]


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_finds_nothing(browser: Browser, service: Service, look: str) -> None:
    with open_console(browser, service.port, prepare=prepare, **LOOKS[look]) as page:
        page.get_by_role("button", name=re.compile("Copy as command")).click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert audit(page) == []
        assert not overflow(page)
