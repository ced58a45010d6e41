"""Editor of examples/editor in a browser, in front of a server.

The page is served as by `make editor`, but on a free port, which the application
files name as allowed origin. The guarantees for the page are those of page_checks.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from console_page import without_sessions
from page_checks import checked_page
from page_server import CASES, MODULE
from serve import Service, server
from static_site import static_site

EDITOR = Path(__file__).parents[2] / "examples" / "editor"
APPLICATION = EDITOR / "pylsp.toml"
(ORIGIN,) = tomllib.loads(APPLICATION.read_text())["origin"]
HOSTILE = CASES / "hostile_language_server.py"
OTHER = f"""
framing = ["lsp"]
origin = ["{ORIGIN}"]
command = """
APPLICATIONS = {
    "pylsp": APPLICATION.read_text(),
    "hostile": f"{OTHER}[{sys.executable!r}, {str(HOSTILE)!r}]",
    "silent": f"{OTHER}['sleep', '1000']",
    "echo": f"{OTHER}['cat']",
}
PACKAGE_FILES = (
    "chimirror.js",
    "icon.svg",
)  # files that the page takes from the package


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Origin of the page."""
    build = tmp_path_factory.mktemp("build")
    files = [
        *EDITOR.glob("[!.]*.*"),
        *(MODULE.with_name(name) for name in PACKAGE_FILES),
    ]
    for file in files:
        shutil.copy(file, build)
    with static_site(build) as found:
        yield found


@pytest.fixture(scope="module")
def directory(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the application files. Language servers keep caches beside them."""
    found = tmp_path_factory.mktemp("editor") / "apps"
    found.mkdir()
    for name, text in APPLICATIONS.items():
        (found / f"{name}.toml").write_text(text.replace(ORIGIN, origin))
    with pytest.MonkeyPatch.context() as patch:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        patch.setenv("PATH", path)
        yield found


def serve(directory: Path, **more: str) -> Any:
    cache = f"XDG_CACHE_HOME={directory.parent}"
    options = ("--console", "--apps", str(directory), "--env", cache)
    return server(directory.parent, [], *options, **more)


@pytest.fixture(scope="module")
def shared(directory: Path) -> Iterator[Service]:
    """A server for all tests of a module."""
    with serve(directory) as found:
        yield found


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    """The shared server, without applications before and after the test."""
    with without_sessions(shared):
        yield shared


class Editors:
    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin

    @contextmanager
    def open(
        self, port: int, name: str = "pylsp", begins: str = "Connected to ", **more: Any
    ) -> Iterator[Page]:
        """Open an editor, and wait until its state begins with this text."""
        address = f"{self.origin}/#ws://127.0.0.1:{port}/{name}"
        with checked_page(self.browser, address, **more) as page:
            expect(page.locator("#state")).to_contain_text(begins)
            yield page


@pytest.fixture
def editors(browser: Browser, origin: str) -> Editors:
    return Editors(browser, origin)


@pytest.fixture
def page(editors: Editors, service: Service) -> Iterator[Page]:
    with editors.open(service.port) as found:
        yield found


def state(page: Page, text: str) -> None:
    expect(page.locator("#state")).to_have_text(text)


def connected(page: Page) -> None:
    expect(page.locator("#state")).to_contain_text("Connected to pylsp ")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def area(page: Page) -> Locator:
    return page.get_by_role("textbox", name="example.py")


def problems(page: Page) -> Locator:
    return page.locator("#problems button")


def words(page: Page) -> Locator:
    return page.get_by_role("option")


def append(page: Page, text: str) -> None:
    """Type at the end of the text."""
    area(page).press("Control+End")
    page.keyboard.type(text)


def mend(page: Page) -> str:
    text = area(page).input_value().replace("spread_of(", "spread(")
    area(page).fill(text)
    expect(page.locator("#count")).to_have_text("No problems found")
    return text
