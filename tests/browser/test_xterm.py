"""examples/xterm: a shell in a terminal of a page, as the user of the example."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from npm import packaged
from page_checks import PATIENCE
from serve import server
from static_site import static_site

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "xterm" / "index.html"
PACKAGES = {"xterm": "xterm-xterm", "addon-fit": "xterm-addon-fit"}
SHELL = ["sh", "-c", "stty size; exec bash --norc --noprofile"]
OPTIONS = ("--pty", "--web-client", "--env", "PS1=> ", "--env", "TERM=xterm-256color")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the packages that the page tells to install."""
    modules = tmp_path / "site" / "node_modules" / "@xterm"
    modules.mkdir(parents=True)
    for name, package in PACKAGES.items():
        modules.joinpath(name).symlink_to(packaged(package))
    return tmp_path / "site"


@contextmanager
def opened(
    browser: Browser, site: Path, directory: Path, *options: str
) -> Iterator[Page]:
    """Open the page in front of a server with a shell."""
    with (
        static_site(site) as origin,
        server(directory, SHELL, *options, "--origin", origin) as service,
        browser.new_context(viewport={"width": 900, "height": 500}) as context,
    ):
        text = SOURCE.read_text().replace(
            "127.0.0.1:30747", f"127.0.0.1:{service.port}"
        )
        (site / "index.html").write_text(text)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(origin)
        yield page
    assert not faults


def rows(page: Page) -> Locator:
    return page.locator(".xterm-rows > div")


def shows(page: Page, pattern: str) -> None:
    """Wait for a row that matches."""
    expect(rows(page).filter(has_text=re.compile(pattern)).first).to_be_visible()


def enter(page: Page, line: str) -> None:
    page.keyboard.type(line)
    page.keyboard.press("Enter")


def size(page: Page) -> str:
    """Return what the first row shows: the size at the start of the program."""
    first = rows(page).first
    expect(first).to_have_text(re.compile(r"^\d+ \d+"))
    return first.inner_text().strip()


def test_a_shell(browser: Browser, site: Path, tmp_path: Path) -> None:
    with opened(browser, site, tmp_path, *OPTIONS) as page:
        lines, columns = size(page).split()
        assert int(lines) == rows(page).count()
        page.locator(".xterm").click()
        enter(page, "stty size | tr ' ' x")
        shows(page, f"^{lines}x{columns} *$")

        page.set_viewport_size({"width": 700, "height": 400})
        expect(rows(page)).not_to_have_count(int(lines))
        enter(page, "stty size | tr ' ' y")
        shows(page, rf"^{rows(page).count()}y\d+ *$")

        enter(page, "sh -c 'echo begun; exec sleep 1000'")
        shows(page, "^begun")
        page.keyboard.press("Control+c")
        shows(page, r"\^C")
        enter(page, "echo status=$?")
        shows(page, "^status=130")

        # A character of two bytes, which arrive apart.
        enter(page, r"printf '<\303'; read -s; printf '\251>\n'")
        shows(page, "^<")
        page.keyboard.press("Enter")
        shows(page, "^<é>")

        enter(page, "exit 3")
        shows(page, r"^\[exit 3\]")
        page.keyboard.type("x")  # has no effect
        page.set_viewport_size({"width": 900, "height": 500})
        expect(rows(page)).to_have_count(int(lines))


def test_a_refusal_is_shown(browser: Browser, site: Path, tmp_path: Path) -> None:
    with opened(browser, site, tmp_path, "--web-client", "--framing=json") as page:
        shows(page, "^no connection to 127.0.0.1:")


def test_the_manual_has_the_same_lines() -> None:
    page = SOURCE.read_text().partition("// These six lines")[2]
    code = [line.strip() for line in page.splitlines()[1:7]]
    manual = (ROOT / "man" / "chimirror.js.3").read_text()
    assert "\n".join(code) in manual.replace("\n    ", " ")


def test_the_page_tells_how_to_start(site: Path) -> None:
    text = SOURCE.read_text()
    for package in PACKAGES:
        assert f"@xterm/{package}" in text.partition("-->")[0]
    assert shutil.which("bash")
