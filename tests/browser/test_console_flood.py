"""Ctrl-C under a flood in the console: little output follows it, and all is drawn.

A shell on a terminal, in Chromium. Bytes are counted in the page, and no time is
measured. Other clients are in tests/programs/test_windows.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import open_console, screen, state
from processes import until
from serve import server

SHELL = ["env", "PS1=ready> ", "bash", "--norc", "-i"]
FLOOD = 2 << 20  # bytes of output before Ctrl-C
MAX_FOLLOWING = 256 << 10  # bytes of output after it, up to the prompt
# Counts the output in the messages of the server, also up to the key Ctrl-C.
PAGE_HOOKS = """
globalThis.received = globalThis.before = 0;
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => {
      const { type, payload } = JSON.parse(data);
      if (type === "stdout") received += atob(payload).length;
    });
  }
};
addEventListener("keydown", ({ key }) => {
  if (key === "c") before = received;
}, true);
"""

# Hides the secret of the session, as of a server without control connections.
NO_CONTROL = """
globalThis.WebSocket = class extends WebSocket {
  set onmessage(listener) {
    const strip = (text) => text.replace(/,"secret":"[^"]+"/, "");
    super.onmessage = listener && (({ data }) => listener({ data: strip(data) }));
  }
};
"""


@pytest.fixture
def page(
    request: pytest.FixtureRequest, browser: Browser, tmp_path: Path
) -> Iterator[Page]:
    """A page with a shell, at its first prompt. The parameter is one more script."""

    def prepare(page: Page) -> None:
        page.add_init_script(PAGE_HOOKS + getattr(request, "param", ""))

    with (
        server(tmp_path, SHELL, "--pty", "--console") as service,
        open_console(browser, service.port, "/", prepare=prepare) as found,
    ):
        found.get_by_role("button", name="Connect", exact=True).click()
        expect(screen(found)).to_contain_text("ready>")
        yield found


def await_output(page: Page, size: int) -> None:
    """Wait until the page has received more output in all."""
    until(lambda: page.evaluate("received") > size, "the flood")


@pytest.mark.parametrize(
    "page", ["", NO_CONTROL], indirect=True, ids=["control", "no control"]
)
def test_ctrl_c_has_an_effect_soon(page: Page, request: pytest.FixtureRequest) -> None:
    has_control = "no control" not in request.node.name
    assert page.locator("#pause").is_enabled() is has_control
    for _ in range(2):
        start = page.evaluate("received")
        page.keyboard.type("yes\n")
        await_output(page, start + FLOOD)
        page.keyboard.press("Control+c")
        expect(screen(page)).to_contain_text(re.compile(r"\^C\s*ready>"))
        following = page.evaluate("received - before")
        assert 0 < following <= MAX_FOLLOWING
    page.keyboard.type("exit 3\n")
    state(page, "Ended: exit 3")


def test_a_pause_under_a_flood(page: Page) -> None:
    """The shell is interrupted meanwhile, and shows that once the user resumes."""
    page.keyboard.type("yes\n")
    await_output(page, FLOOD)
    page.get_by_role("button", name="Pause", exact=True).click()
    state(page, "Connected, output paused")
    page.get_by_label("Terminal input").focus()
    page.keyboard.press("Control+c")
    page.get_by_role("button", name="Resume", exact=True).click()
    state(page, "Connected")
    expect(screen(page)).to_contain_text(re.compile(r"\^C\s*ready>"))
    assert page.evaluate("received - before") <= MAX_FOLLOWING
    page.get_by_label("Terminal input").focus()
    page.keyboard.type("exit 0\n")
    state(page, "Ended: exit 0")


def test_the_end_of_a_flood_is_shown(page: Page) -> None:
    """The size of the view changes meanwhile."""
    page.keyboard.type("seq 100000; echo done\n")
    await_output(page, 100_000)
    page.set_viewport_size({"width": 800, "height": 700})
    expect(screen(page)).to_contain_text("99999100000doneready>")
    page.keyboard.type("exit 0\n")
    state(page, "Ended: exit 0")
    assert page.evaluate("received") > 688_895
