"""Keyboard of the console: copying, touched keys, screen readers, closing the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import connect, screen, state
from console_terminal import (
    cat,
    open_terminal,
    paste,
    shared_terminals,
    shows,
    terminals,
)
from page_checks import LOOKS, NARROW, PATIENCE, audit, overflow
from serve import Service

__all__ = ["shared_terminals", "terminals"]  # fixtures

COPIES = """
globalThis.copied = [];
Clipboard.prototype.writeText = async (text) => void copied.push(text);
"""
REFUSES = "Clipboard.prototype.writeText = () => Promise.reject(new Error());"
PHONE = {"viewport": NARROW, "has_touch": True, "is_mobile": True}
COPY_KEYS = ("Control+Shift+C", "Control+Insert", "Meta+C")


def button(page: Page, name: str) -> None:
    """Touch a key that the page shows."""
    page.get_by_role("group", name="Keys").get_by_role("button", name=name).tap()


@pytest.fixture
def phone(browser: Browser, terminals: Service) -> Iterator[Page]:
    with open_terminal(browser, terminals, "keys", **PHONE) as found:
        yield found


# Copying.


def select_all(page: Page, text: str) -> None:
    """Show a text in the terminal and select its word."""
    page.keyboard.type(text)
    shows(page, text)
    box = screen(page).locator("> div").first.bounding_box()
    assert box
    page.mouse.dblclick(box["x"] + 12, box["y"] + box["height"] / 2)


def test_the_selection_is_copied(browser: Browser, terminals: Service) -> None:
    def prepare(page: Page) -> None:
        page.add_init_script(COPIES)

    with open_terminal(browser, terminals, "bytes", prepare=prepare) as page:
        for key in COPY_KEYS:
            page.keyboard.press(key)
        select_all(page, "wanted")
        for key in COPY_KEYS:
            page.keyboard.press(key)
        page.wait_for_function("copied.length === 3")
        assert page.evaluate("copied") == ["wanted"] * 3
        page.keyboard.type("!\n")
        shows(page, "wanted!$")


def test_a_clipboard_that_the_page_may_not_use(
    browser: Browser, terminals: Service
) -> None:
    def prepare(page: Page) -> None:
        page.add_init_script(REFUSES)

    with open_terminal(browser, terminals, "bytes", prepare=prepare) as page:
        select_all(page, "wanted")
        page.keyboard.press("Control+Shift+C")
        expect(page.locator(".copied")).to_have_count(0)
        page.keyboard.press("Control+V")
        page.keyboard.press("Enter")
        shows(page, "wantedwanted$")


def test_interrupting_with_a_selection(browser: Browser, terminals: Service) -> None:
    with open_terminal(browser, terminals, "shell") as page:
        select_all(page, "wanted")
        page.keyboard.press("Control+C")
        shows(page, "^C")


# Keys to touch.


def test_keys_are_touched(phone: Page) -> None:
    for name, sent in (("Esc", "^["), ("Tab", "^I"), ("Up", "^[[A"), ("Left", "^[[D")):
        button(phone, name)
        shows(phone, sent)
    expect(phone.get_by_label("Terminal input")).to_be_focused()
    ctrl = phone.get_by_role("button", name="Ctrl")
    button(phone, "Ctrl")
    expect(ctrl).to_have_attribute("aria-pressed", "true")
    phone.keyboard.press("b")
    expect(ctrl).to_have_attribute("aria-pressed", "false")
    phone.keyboard.press("b")
    shows(phone, "^Bb")
    button(phone, "Ctrl")
    phone.keyboard.insert_text("e")
    button(phone, "Ctrl")
    button(phone, "Right")
    shows(phone, "^E^[[1;5C")
    button(phone, "Ctrl")
    button(phone, "Ctrl")
    phone.keyboard.insert_text("z")
    shows(phone, "5Cz")
    assert audit(phone) == []
    assert not overflow(phone)


def test_a_touched_control_key_ends_a_composition(phone: Page) -> None:
    """The keyboards of phones compose words."""
    session = phone.context.new_cdp_session(phone)
    values = {"text": "b", "selectionStart": 1, "selectionEnd": 1}
    button(phone, "Ctrl")
    session.send("Input.imeSetComposition", values)
    shows(phone, "^B")
    session.send("Input.imeSetComposition", values | {"text": "c"})
    session.send("Input.insertText", {"text": "c"})
    phone.keyboard.press("x")
    shows(phone, "^Bcx")


def test_arrows_follow_the_mode_of_the_application(
    browser: Browser, terminals: Service
) -> None:
    with open_terminal(browser, terminals, "cursor", **PHONE) as page:
        button(page, "Down")
        shows(page, "^[OB")


def test_keys_for_lines(browser: Browser, terminals: Service) -> None:
    with open_terminal(browser, terminals, "bytes", **PHONE) as page:
        keys = page.get_by_role("group", name="Keys").get_by_role("button")
        for name in ("Esc", "Left", "Up", "Down", "Right"):
            expect(keys.and_(page.get_by_role("button", name=name))).to_be_disabled()
        paste(page, "a")
        button(page, "Tab")
        shows(page, "a^I")
        page.keyboard.press("Enter")
        shows(page, cat("a\t\n"))
        button(page, "Ctrl")
        page.keyboard.press("d")
        state(page, "Ended: exit 0")
        expect(page.get_by_role("button", name="Ctrl")).to_be_disabled()
        page.get_by_role("button", name="Reconnect").click()
        state(page, "Connected")


def test_keys_are_hidden_beside_a_keyboard(
    browser: Browser, terminals: Service
) -> None:
    with open_terminal(browser, terminals, "keys") as page:
        expect(page.get_by_role("group", name="Keys")).to_be_hidden()


# Screen readers.


def test_screen_readers(browser: Browser, terminals: Service) -> None:
    """A switch, which the browser remembers. Input arrives once in both modes."""
    with open_terminal(browser, terminals, "bytes") as page:
        switch = page.get_by_label("Screen reader")
        expect(switch).not_to_be_checked()
        expect(page.locator("#terminal .xterm-accessibility")).to_have_count(0)
        switch.check()
        page.get_by_label("Terminal input").focus()
        page.keyboard.type("aB")
        page.keyboard.insert_text("é")
        page.keyboard.type("xyz")
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        shows(page, cat("aBéxy\n"))
        rows = page.locator("#terminal .xterm-accessibility-tree")
        expect(rows).to_contain_text("aBéxy")
        assert audit(page) == []
        page.get_by_role("radio", name="Lines").check()
        expect(switch).to_be_hidden()
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")
        page.reload()
        connect(page, view="Terminal")
        expect(switch).to_be_checked()
        expect(rows).to_have_count(1)


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_of_the_terminal_finds_nothing(
    browser: Browser, terminals: Service, look: str
) -> None:
    context = PHONE | LOOKS[look] if "narrow" in look else LOOKS[look]
    with open_terminal(browser, terminals, "shell", **context) as page:
        if "narrow" in look:
            button(page, "Ctrl")
        assert audit(page) == []
        assert not overflow(page)


# Closing the page.


def test_a_question_before_a_live_session_is_closed(
    browser: Browser, terminals: Service
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{terminals.port}/bytes")
        connect(page)
        with page.expect_event("dialog") as asked:
            page.close(run_before_unload=True)
        assert asked.value.type == "beforeunload"
        asked.value.dismiss()
        state(page, "Connected")
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")
        with page.expect_event("close"):
            page.close(run_before_unload=True)
