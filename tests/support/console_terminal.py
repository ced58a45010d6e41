"""Terminal of the console: applications that show what they receive, and input.

`bytes` is `cat -A` without a terminal of its own, `keys` the same with one, in raw
mode, and `shell` is bash.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import (
    connect,
    open_console,
    screen,
    serve,
    state,
    without_sessions,
)
from serve import Service

LATE = r"read a; printf '40%%\r50%%\n\033[3'; read b; printf '1mred\n'; cat"
APPLICATIONS = {
    "bytes": 'command = ["cat", "-A"]\n',
    "keys": """
command = ["sh", "-c", "stty raw -echo; printf 'ready '; exec cat -A"]
pty = true
""",
    "cursor": r"""
command = ["sh", "-c", "stty raw -echo; printf 'ready \\033[?1h'; exec cat -A"]
pty = true
""",
    "shell": """
command = ["bash", "--norc", "--noprofile"]
pty = true
[env]
LANG = "C.UTF-8"
PS1 = "> "
TERM = "xterm-256color"
""",
    # An application that has switched on bracketed paste, and is no shell.
    "marks": r"""
command = ["sh", "-c", "printf 'ready \\033[?2004h'; exec cat -A"]
""",
    # Overwrites its output, and ends an escape sequence later than it begins it.
    "late": f"""
command = ["sh", "-c", {LATE!r}]
""",
    "sum": """
command = ["sh", "-c", "head -c 110000 | md5sum; cat"]
""",
    "sum_of_keys": """
command = ["sh", "-c", "stty raw -echo; printf 'ready '; head -c 110000 | md5sum; cat"]
pty = true
""",
}
READY = {
    "cursor": "ready",
    "keys": "ready",
    "marks": "ready",
    "sum_of_keys": "ready",
    "shell": ">",
}
PASTE = """(text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  const options = { clipboardData, bubbles: true, cancelable: true };
  document.activeElement.dispatchEvent(new ClipboardEvent("paste", options));
}"""


@pytest.fixture(scope="module")
def shared_terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server of these applications for all tests of a module."""
    directory = tmp_path_factory.mktemp("terminal") / "apps"
    directory.mkdir()
    for name, text in APPLICATIONS.items():
        (directory / f"{name}.toml").write_text(f'framing = ["stdio"]\n{text}')
    with serve(directory) as found:
        yield found


@pytest.fixture
def terminals(shared_terminals: Service) -> Iterator[Service]:
    """The shared server, without applications before and after the test."""
    with without_sessions(shared_terminals):
        yield shared_terminals


@contextmanager
def open_terminal(
    browser: Browser, service: Service, name: str, **more: Any
) -> Iterator[Page]:
    """Open a page with a session in the terminal, which has the keyboard focus."""
    with open_console(browser, service.port, f"/{name}", **more) as page:
        connect(page, view="Terminal")
        expect(page.get_by_label("Terminal input")).to_be_focused()
        shows(page, READY.get(name, ""))
        yield page
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")


def paste(page: Page, text: str) -> None:
    """Paste a text, as the browser does for each way of pasting."""
    page.evaluate(PASTE, text)


def shows(page: Page, *texts: str) -> None:
    """Wait until the screen contains these texts."""
    for text in texts:
        expect(screen(page)).to_contain_text(text)


def cat(text: str) -> str:
    """Return the output of `cat -A` for a line."""
    return "".join([_shown(byte) for byte in text.encode()])


def _shown(byte: int) -> str:
    if byte >= 0x80:
        return f"M-{_shown(byte - 0x80)}"
    if byte == 0x0A:
        return "$"
    return f"^{chr(byte ^ 0x40)}" if byte < 0x20 or byte == 0x7F else chr(byte)
