"""Makes the pictures of README.md: the game of the demo in the console.

The pictures in the tree have the size of those that a test makes. Their pixels depend
on the fonts of the machine: `make pictures` writes the new ones into the tree.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from console_page import connect, open_console, screen
from readme import ROOT
from serve import server

WEB = ROOT / "tests" / "browser" / "web"
SIZE = {"width": 1000, "height": 840}
GAME = (
    ("", "Does it live in water?"),
    ("no\n", "Does it bark?"),
    ("no\n", "Is it a cat?"),
    ("no\n", "What animal was it?"),
    ("owl\n", "What question tells an owl from a cat?"),
    ("can it fly?\n", "For an owl, is the answer yes?"),
    ("yes\n", "Shall we play again?"),
)


def dimensions(picture: Path) -> tuple[int, int]:
    """Read width and height of a PNG file (ISO/IEC 15948, 11.2.2)."""
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack("!II", head[16:])
    return width, height


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_game_in_the_console(browser: Browser, tmp_path: Path, look: str) -> None:
    picture = tmp_path / f"console-{look}.png"
    context = {"viewport": SIZE, "color_scheme": look}
    with (
        server(tmp_path, [], "--console", "--apps", str(ROOT / "examples")) as service,
        open_console(browser, service.port, "/animals", **context) as page,
    ):
        connect(page, view="Terminal")
        for given, wanted in GAME:
            page.keyboard.type(given)
            expect(screen(page)).to_contain_text(wanted)
        expect(page.locator("#bytes-stdin")).to_have_text("29 B")  # once a second
        page.screenshot(path=picture, animations="disabled", caret="hide")
        page.get_by_role("button", name="Disconnect").click()
    kept = WEB / picture.name
    if os.environ.get("PICTURES"):
        shutil.copy(picture, kept)
    assert dimensions(kept) == dimensions(picture)


def test_readme_shows_them() -> None:
    shown = re.findall(r'(?:srcset|src)="([^"]*)"', (ROOT / "README.md").read_text())
    assert {ROOT / name for name in shown} == set(WEB.glob("*.png"))
