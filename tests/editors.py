"""The editor of examples/editor, opened in a browser in front of a server.

Law: the page is served as `make editor` serves it, at a free port, and to that the
application files say so. Ignorance: what becomes of the page; see watch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from launch import Service, server
from pages import CASES, MODULE
from watch import watched

EDITOR = Path(__file__).parent.parent / "examples" / "editor"
APPLICATION = EDITOR / "pylsp.toml"
(ORIGIN,) = tomllib.loads(APPLICATION.read_text())["origin"]
OTHER = f"""
framing = ["lsp"]
origin = ["{ORIGIN}"]
command = """
APPLICATIONS = {
    "pylsp": APPLICATION.read_text(),
    "liar": f"{OTHER}[{sys.executable!r}, {str(CASES / 'liar.py')!r}]",
    "silent": f"{OTHER}['sleep', '1000']",
    "echo": f"{OTHER}['cat']",
}
OURS = ("chimirror.js", "icon.svg")  # that the page has from the package


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's."""
    build = tmp_path_factory.mktemp("build")
    files = [*EDITOR.glob("[!.]*.*"), *(MODULE.with_name(name) for name in OURS)]
    for file in files:
        shutil.copy(file, build)
    serving = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1"]
    argv = [*serving, "--directory", str(build), "0"]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdout=pipe, stderr=none, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split("(")[1].split("/)")[0]
        process.terminate()


@pytest.fixture
def directory(origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    found = tmp_path / "apps"
    found.mkdir()
    for name, text in APPLICATIONS.items():
        (found / f"{name}.toml").write_text(text.replace(ORIGIN, origin))
    return found


def serve(directory: Path, **more: str) -> Any:
    cache = f"XDG_CACHE_HOME={directory.parent}"
    options = ("--console", "--apps", str(directory), "--env", cache)
    return server(directory.parent, [], *options, **more)


@pytest.fixture
def service(directory: Path) -> Iterator[Service]:
    with serve(directory) as found:
        yield found


class Editors:
    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin

    @contextmanager
    def open(
        self, port: int, name: str = "pylsp", begins: str = "Connected to ", **more: Any
    ) -> Iterator[Page]:
        """An editor whose state begins so."""
        address = f"{self.origin}/#ws://127.0.0.1:{port}/{name}"
        with watched(self.browser, address, **more) as page:
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
    """By keyboard, at the end."""
    area(page).press("Control+End")
    page.keyboard.type(text)


def mend(page: Page) -> str:
    text = area(page).input_value().replace("spread_of(", "spread(")
    area(page).fill(text)
    expect(page.locator("#count")).to_have_text("No problems found")
    return text
