"""Console in Debian's Chromium, and the applications that its server offers.

Each page has the guarantees of page_checks. The tests of a module share a server. Each
test begins and ends without an application process.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from page_checks import checked_page
from page_server import CASES
from processes import descendants, until
from serve import Service, server

HOSTILE = f"""
command = [{sys.executable!r}, {str(CASES / "hostile_application.py")!r}]
framing = ["stdio", "json", "lines"]
[interface]
title = "Voices <b>"
purpose = "Does what it is <i>told</i>."
[interface.send]
schema = {{ type = "string" }}
examples = ["hello", "nested", "<img src=x onerror=print()>"]
"""
TELLING = """
command = ["sh", "-c", "echo first; cat"]
framing = ["lines"]
direction = "receive"
"""
# The output of stty is recognized by its mark: a dot before the first input.
SIZED = """
command = ["sh", "-c", "stty size | tr ' ' .; read go; stty size | tr ' ' :; cat"]
framing = ["stdio"]
pty = true
"""
# The program asks for mouse reports in the middle of other output.
MOUSE = r"""
command = ["sh", "-c", "read go; seq 40000; printf '\\033[?1003h'; seq 40000; cat"]
framing = ["stdio"]
pty = true
"""
PLAIN = """
command = ["cat"]
framing = ["json", "stdio"]
"""
# It never ends by itself.
WATCHING = """
command = ["sh", "-c", "echo first; exec tail -f /dev/null"]
framing = ["stdio"]
direction = "receive"
"""
ASKED = """
command = ["sh", "-c", "echo asked: $QUERY_STRING; cat"]
framing = ["stdio"]
"""
APPLICATIONS = {
    "hostile": HOSTILE,
    "telling": TELLING,
    "sized": SIZED,
    "mouse": MOUSE,
    "plain": PLAIN,
    "watching": WATCHING,
    "asked": ASKED,
}


def applications(directory: Path) -> Path:
    """Write the application files. Returns their directory."""
    path = directory / "apps"
    path.mkdir()
    for name, text in APPLICATIONS.items():
        (path / f"{name}.toml").write_text(text)
    return path


def serve(directory: Path, *options: str, **more: str) -> Any:
    options = ("--console", "--apps", str(directory), *options)
    return server(directory.parent, [], *options, **more)


@contextmanager
def without_sessions(service: Service) -> Iterator[None]:
    """Wait, at the end, for all processes that were started in the block."""
    before = {process.pid for process in descendants(service.pid)}
    yield
    until(
        lambda: {process.pid for process in descendants(service.pid)} <= before,
        "no application is left",
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server for all tests of a module."""
    with serve(applications(tmp_path_factory.mktemp("console"))) as found:
        yield found


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    """The shared server, without applications before and after the test."""
    with without_sessions(shared):
        yield shared


@contextmanager
def open_console(
    browser: Browser, port: int, path: str = "/hostile", **more: Any
) -> Iterator[Page]:
    """Open a loaded page. `more` is passed to page_checks."""
    with checked_page(browser, f"http://127.0.0.1:{port}{path}", **more) as page:
        expect(page.locator("#connect")).to_be_enabled()
        yield page


def state(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.locator("#state")).to_have_text(text)


def connect(page: Page, framing: str = "stdio", view: str = "Lines") -> None:
    page.get_by_label("Framing", exact=True).select_option(framing)
    show(page, view)
    page.get_by_role("button", name="Connect", exact=True).click()
    state(page, "Connected")


def show(page: Page, view: str) -> None:
    page.get_by_role("radio", name=view).check()


def say(page: Page, text: str) -> None:
    page.get_by_label("Line to send").fill(text)
    page.get_by_role("button", name="Send").click()


def entries(page: Page, name: str) -> Any:
    return page.locator(f"#transcript .{name} .text")


def screen(page: Page) -> Any:
    return page.locator("#terminal .xterm-rows")
