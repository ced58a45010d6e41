"""Terminal of the console: the screen shows exactly the text that is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import screen
from console_terminal import (
    cat,
    open_terminal,
    paste,
    shared_terminals,
    shows,
    terminals,
)
from js_runners import LONG
from serve import Service

__all__ = ["shared_terminals", "terminals"]  # fixtures

FAMILY = "\U0001f469\u200d\U0001f467"
RAINBOW = "\U0001f3f3\ufe0f\u200d\U0001f308"
# Text, and how it appears while it is edited.
PASTED = {
    "a\tb": "a^Ib",
    "\x01\x1b[31mred\x7f\x9b1m": "^A^[[31mred^?‹U+009B›1m",
    "日本語 한국어": "日本語 한국어",
    "e\u0301 Zoé": "e\u0301 Zoé",
    f"{FAMILY}{RAINBOW}\U0001f44d\U0001f3fd": f"{FAMILY}{RAINBOW}\U0001f44d\U0001f3fd",
    "a\u202eb\u200bc\ufeff": "a‹U+202E›b‹U+200B›c‹U+FEFF›",
    "x\U000e0041\U000e0042": "x‹U+E0041›‹U+E0042›",
    "\x1b[200~x\x1b[201~": "^[[200~x^[[201~",
}
# Narrow, wide and joined characters of several versions of Unicode.
WIDE = ("\U0001f600", "日本", "e\u0301", FAMILY, "\u2764\ufe0f", "\U0001fae0")


@pytest.fixture
def line(browser: Browser, terminals: Service) -> Iterator[Page]:
    """A terminal that edits lines."""
    with open_terminal(browser, terminals, "bytes") as found:
        yield found


@pytest.fixture
def keys(browser: Browser, terminals: Service) -> Iterator[Page]:
    """A terminal that sends each key."""
    with open_terminal(browser, terminals, "keys") as found:
        yield found


@pytest.fixture
def shell(browser: Browser, terminals: Service) -> Iterator[Page]:
    with open_terminal(browser, terminals, "shell") as found:
        yield found


def compose(page: Page, *steps: str, final: str) -> None:
    """Enter text with an input method, which shows each step before the final text."""
    session = page.context.new_cdp_session(page)
    for text in steps:
        at = len(text)
        values = {"text": text, "selectionStart": at, "selectionEnd": at}
        session.send("Input.imeSetComposition", values)
    session.send("Input.insertText", {"text": final})


# Lines.


def test_pasted_text(line: Page) -> None:
    for text, shown in PASTED.items():
        paste(line, text)
        shows(line, shown)
        line.keyboard.press("Enter")
        shows(line, cat(f"{text}\n"))


def test_pasted_lines(line: Page) -> None:
    line.keyboard.type("0")
    paste(line, "1\n2\r\n3\r\r4")
    for text in ("01$", "2$", "3$"):
        shows(line, text)
    line.keyboard.press("Backspace")
    line.keyboard.type("5\n")
    shows(line, "$55$")


def test_the_browser_pastes(line: Page) -> None:
    line.evaluate("document.activeElement.blur()")
    source = line.locator("#setup-title")
    source.evaluate("(node) => getSelection().selectAllChildren(node)")
    line.keyboard.press("Control+C")
    line.get_by_label("Terminal input").focus()
    for key in ("Control+V", "Control+Shift+V", "Shift+Insert"):
        line.keyboard.press(key)
    line.keyboard.press("Enter")
    shows(line, f"{'Application' * 3}$")


def test_text_without_a_key(line: Page) -> None:
    for text in ("Zoé", "\U0001f642", "日本", FAMILY):
        line.keyboard.insert_text(text)
        line.keyboard.down("a")
        line.keyboard.up("a")
        line.keyboard.insert_text(text)
        shows(line, f"{text}a{text}")
        line.keyboard.press("Enter")
        shows(line, cat(f"{text}a{text}\n"))


def test_an_input_method(line: Page) -> None:
    line.keyboard.type("a")
    compose(line, "n", "に", "にほん", final="日本")
    shows(line, "a日本")
    line.keyboard.type("b")
    compose(line, "ご", final="語")
    shows(line, "a日本b語")
    line.keyboard.press("Enter")
    shows(line, cat("a日本b語\n"))


def test_backspace_deletes_a_character(line: Page) -> None:
    rows = screen(line).locator("> div")
    for at, (left, last) in enumerate(
        [("日本", "語"), ("a", "e\u0301"), ("x", FAMILY), ("y", "\t"), ("z", "\u200b")]
    ):
        paste(line, left + last)
        line.keyboard.press("Backspace")
        line.keyboard.type("|")
        expect(rows.nth(2 * at)).to_have_text(f"{left}|")
        line.keyboard.press("Enter")
        expect(rows.nth(2 * at + 1)).to_have_text(cat(f"{left}|\n"))


def test_words_and_lines_are_deleted(line: Page) -> None:
    first = screen(line).locator("> div").first
    paste(line, "one two\tthree 日本語  ")
    for left in ("one two^Ithree ", "one two^I", "one "):
        line.keyboard.press("Control+W")
        line.keyboard.type("|")
        expect(first).to_have_text(f"{left}|")
        line.keyboard.press("Backspace")
    line.keyboard.press("Control+U")
    line.keyboard.type("new\n")
    expect(first).to_have_text("new")
    shows(line, "new$")


def test_a_line_of_several_rows_is_deleted(line: Page) -> None:
    paste(line, "日本語 " * 40)
    rows = screen(line).locator("> div")
    expect(rows.nth(1)).to_contain_text("日")
    line.keyboard.press("Control+U")
    line.keyboard.type("|")
    expect(rows.nth(0)).to_have_text("|")
    expect(rows.nth(1)).to_have_text("")


def test_markers_of_a_paste_stay_out_of_lines(
    browser: Browser, terminals: Service
) -> None:
    with open_terminal(browser, terminals, "marks") as page:
        paste(page, "x\n")
        shows(page, "x$")
        expect(screen(page)).not_to_contain_text("00~")


def test_output_comes_before_the_edited_line(
    browser: Browser, terminals: Service
) -> None:
    with open_terminal(browser, terminals, "late") as page:
        paste(page, "go\nnext")
        rows = screen(page).locator("> div")
        expect(rows.nth(1)).to_have_text("50%")
        expect(rows.nth(2)).to_have_text("next")
        page.keyboard.type("|\n")
        red = screen(page).locator(".xterm-fg-1")
        expect(red).to_have_text("red")
        expect(rows.nth(2)).to_have_text("next|")


# Terminals of applications.


def test_text_without_a_key_is_sent(keys: Page) -> None:
    for text in ("Zoé", "\U0001f642", FAMILY, "a\tb"):
        keys.keyboard.insert_text(text)
        shows(keys, cat(text))
    compose(keys, "に", final="日本")
    shows(keys, cat("日本"))


def test_a_pasted_text_cannot_end_the_paste(shell: Page) -> None:
    """The shell has switched on bracketed paste: it executes nothing that is pasted."""
    paste(shell, "echo $((6*7))\necho \x1b[201~$((5*5))\n")
    shows(shell, "echo $((6*7))", "$((5*5))")
    expect(screen(shell)).not_to_contain_text("42")
    shell.keyboard.press("Enter")
    shows(shell, "42", "25")


def test_a_shell_edits_wide_characters(shell: Page) -> None:
    """The cursor is where the shell takes it to be."""
    first = screen(shell).locator("> div").first
    for text in WIDE:
        shell.keyboard.insert_text(f": {text}bc")
        expect(first).to_have_text(f"> : {text}bc")
        for key in ("ArrowLeft", "ArrowLeft", "Delete", "x", "End", "y"):
            shell.keyboard.press(key)
        expect(first).to_have_text(f"> : {text}xcy")
        shell.keyboard.press("Home")
        shell.keyboard.type("a")
        expect(first).to_have_text(f"> a: {text}xcy")
        shell.keyboard.press("Control+K")
        shell.keyboard.press("Backspace")
        expect(first).to_have_text(">")


# Large input.

LARGE = 110_000
# Counts the turns of the page's event loop between a paste and each message sent.
WATCH_TURNS = """
globalThis.turns = 0;
globalThis.sentAt = [];
const { port1, port2 } = new MessageChannel();
port1.onmessage = () => { turns += 1; port2.postMessage(0); };
globalThis.watch = () => port2.postMessage(0);
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (message) {
  sentAt.push(turns);
  return send.call(this, message);
};
"""


@pytest.mark.parametrize("application", ["sum", "sum_of_keys"])
@pytest.mark.parametrize("length", [100, LARGE])
def test_a_large_paste(
    browser: Browser, terminals: Service, application: str, length: int
) -> None:
    """Everything arrives, and the page reacts to other events in between."""
    text = "".join(
        [f"{at % 10}" * (length - 1) + "\n" for at in range(LARGE // length)]
    )
    sent = text.replace("\n", "\r") if application == "sum_of_keys" else text
    digest = hashlib.md5(sent.encode()).hexdigest()

    def prepare(page: Page) -> None:
        page.add_init_script(WATCH_TURNS)

    with open_terminal(browser, terminals, application, prepare=prepare) as page:
        page.evaluate("watch()")
        paste(page, text)
        page.keyboard.type("after\n")
        expect(screen(page)).to_contain_text(digest, timeout=LONG * 1000)
        shows(page, "after")
        assert len(set(page.evaluate("sentAt.filter((turn) => turn)"))) > 1
