"""Somebody who has the console open in Debian's Chromium, and what is served there.

Law: that of watch.py holds for it. Ignorance: what is to be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from launch import server
from pages import CASES
from watch import watched

APPLICATION = f"""
command = [{sys.executable!r}, {str(CASES / "voices.py")!r}]
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
# What stty prints is known by its colon.
SIZED = """
command = ["sh", "-c", "read go; stty size | tr ' ' :; cat"]
framing = ["stdio"]
pty = true
"""
# It asks for reports of the mouse in the middle of much else.
MOUSE = r"""
command = ["sh", "-c", "read go; seq 99999; printf '\\033[?1003h'; seq 99999; cat"]
framing = ["stdio"]
pty = true
"""


def applications(directory: Path) -> Path:
    """Writes the applications: the directory that they are in."""
    path = directory / "apps"
    path.mkdir()
    (path / "voices.toml").write_text(APPLICATION)
    (path / "telling.toml").write_text(TELLING)
    (path / "sized.toml").write_text(SIZED)
    (path / "mouse.toml").write_text(MOUSE)
    return path


def serve(directory: Path, **more: str) -> Any:
    options = ("--console", "--apps", str(directory))
    return server(directory.parent, [], *options, **more)


@contextmanager
def visiting(
    browser: Browser, port: int, path: str = "/voices", **more: Any
) -> Iterator[Page]:
    """A page that has loaded; more is for watch.py."""
    with watched(browser, f"http://127.0.0.1:{port}{path}", **more) as page:
        expect(page.locator("#connect")).to_be_enabled()
        yield page


def state(page: Page, text: str) -> None:
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
