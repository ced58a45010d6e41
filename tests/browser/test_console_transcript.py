"""Transcript of the console: it follows the output, and each session has a header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from console_page import (
    connect,
    entries,
    open_console,
    say,
    screen,
    service,
    shared,
    show,
    state,
)
from page_checks import LOOKS, audit, overflow
from serve import Service

__all__ = ["service", "shared"]  # fixtures

# Distance of the last pixel from the lower edge of the transcript.
BELOW = """() => {
  const element = document.getElementById("transcript");
  return element.scrollHeight - element.scrollTop - element.clientHeight;
}"""
TOP = "document.getElementById('transcript').scrollTop"
SHOWN = "document.getElementById('transcript').childElementCount"
AT_END = f"() => ({BELOW})() < 1"
NOTE_END_OF_SCROLLING = """() => {
  globalThis.stopped = false;
  document.getElementById("transcript")
    .addEventListener("scrollend", () => { stopped = true; }, { once: true });
}"""
COPIES = """
globalThis.copied = [];
Clipboard.prototype.writeText = async (text) => void copied.push(text);
"""
REFUSES = "Clipboard.prototype.writeText = () => Promise.reject(new Error());"


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    def prepare(page: Page) -> None:
        page.add_init_script(COPIES)

    with open_console(browser, service.port, prepare=prepare, has_touch=True) as found:
        yield found


def new_output(page: Page) -> Locator:
    return page.get_by_role("button", name="New output")


def print_lines(page: Page, count: int) -> None:
    say(page, f"flood {count}")
    expect(entries(page, "stdout").last).to_have_text(f"line {count - 1}")


def headers(page: Page) -> Locator:
    return page.locator("#transcript .session")


# Staying at the end.


def by_wheel(page: Page) -> None:
    page.locator("#transcript").hover()
    page.mouse.wheel(0, -200)


def by_key(page: Page) -> None:
    page.locator("#transcript").focus()
    page.keyboard.press("PageUp")


def by_touch(page: Page) -> None:
    box = page.locator("#transcript").bounding_box()
    assert box
    devices = page.context.new_cdp_session(page)

    def touch(kind: str, *distance: float) -> None:
        points = [{"x": box["x"] + 60, "y": box["y"] + 60 + each} for each in distance]
        event = {"type": kind, "touchPoints": points}
        devices.send("Input.dispatchTouchEvent", event)

    touch("touchStart", 0)
    for distance in range(20, 201, 20):
        touch("touchMove", distance)
    touch("touchEnd")


def by_position(page: Page) -> None:
    """Scroll as a scroll bar does. The event of it comes with the next frame."""
    frames = "requestAnimationFrame(() => requestAnimationFrame(done))"
    page.evaluate(f"() => {{ {TOP} -= 200; return new Promise((done) => {frames}); }}")


WAYS = {
    "wheel": by_wheel,
    "key": by_key,
    "touch": by_touch,
    "scroll bar": by_position,
}


@pytest.mark.parametrize("way", WAYS)
def test_scrolling_up_stops_following(page: Page, way: str) -> None:
    connect(page)
    print_lines(page, 300)
    page.wait_for_function(AT_END)
    page.evaluate(NOTE_END_OF_SCROLLING)
    WAYS[way](page)
    page.wait_for_function("() => stopped")
    page.wait_for_function(f"() => ({BELOW})() > 50")
    expect(new_output(page)).to_be_hidden()
    say(page, "hello")
    expect(new_output(page)).to_be_visible()
    expect(entries(page, "stdout").last).to_have_text('"hello"')
    assert page.evaluate(BELOW) > 50
    new_output(page).click()
    page.wait_for_function(AT_END)
    expect(new_output(page)).to_be_hidden()
    print_lines(page, 300)
    page.wait_for_function(AT_END)


def test_back_to_the_end_by_keyboard(page: Page) -> None:
    connect(page)
    print_lines(page, 300)
    by_key(page)
    page.wait_for_function(f"() => ({BELOW})() > 50")
    say(page, "hello")
    page.get_by_label("Line to send").focus()
    expect(new_output(page)).to_be_visible()
    page.keyboard.press("Shift+Tab")
    expect(new_output(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#transcript")).to_be_focused()
    page.wait_for_function(AT_END)
    by_key(page)
    page.wait_for_function(f"() => ({BELOW})() > 50")
    page.keyboard.press("End")
    say(page, "hello")
    page.wait_for_function(AT_END)
    expect(new_output(page)).to_be_hidden()


def test_lines_stay_while_they_are_read(page: Page) -> None:
    """Later lines wait. At the end, the oldest lines are removed again."""
    connect(page)
    print_lines(page, 300)
    by_position(page)
    page.wait_for_function(f"() => ({BELOW})() > 50")
    before = page.evaluate(TOP)
    for _ in range(3):
        say(page, "flood 5000")
    say(page, "hello")
    expect(page.locator("#bytes-stdout")).to_have_text("149 kB")
    page.wait_for_function(f"() => {SHOWN} >= 1200")
    assert page.evaluate(SHOWN) <= 1201
    assert page.evaluate(TOP) == before
    expect(entries(page, "stdout").first).to_have_text("line 0")
    new_output(page).click()
    expect(entries(page, "stdout").last).to_have_text('"hello"')
    page.wait_for_function(AT_END)
    assert page.locator("#transcript .entry").count() <= 600


def test_the_end_stays_in_view_where_the_page_changes(page: Page) -> None:
    """The transcript is smaller while there are example buttons or a small window."""
    page.get_by_label("Name").select_option("plain")
    connect(page, "json")
    say(page, "[1" + ",1" * 900 + "]")
    page.wait_for_function(AT_END)
    page.get_by_role("button", name="Disconnect").click()
    state(page, "Ended: closed by this page")
    page.get_by_label("Name").select_option("hostile")
    expect(page.locator("#examples")).to_be_visible()
    page.get_by_role("button", name="Reconnect").click()
    state(page, "Connected")
    say(page, "hello")
    expect(entries(page, "stdout").last).to_be_in_viewport()
    page.wait_for_function(AT_END)
    page.set_viewport_size({"width": 700, "height": 500})
    page.wait_for_function(AT_END)


def test_the_end_is_shown_after_the_terminal_view(page: Page) -> None:
    connect(page)
    print_lines(page, 300)
    show(page, "Terminal")
    page.get_by_label("Terminal input").focus()
    page.keyboard.type("flood 20\nhello\n")
    expect(screen(page)).to_contain_text('"hello"')
    show(page, "Lines")
    expect(entries(page, "stdout").last).to_be_in_viewport()
    page.wait_for_function(AT_END)


def test_a_new_session_is_shown(page: Page) -> None:
    connect(page)
    print_lines(page, 300)
    by_position(page)
    page.wait_for_function(f"() => ({BELOW})() > 50")
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_role("button", name="Reconnect").click()
    state(page, "Connected")
    say(page, "hello")
    expect(entries(page, "stdout").last).to_be_in_viewport()
    expect(new_output(page)).to_be_hidden()


# Headers.


def test_the_header_of_a_session(page: Page, service: Service) -> None:
    connect(page)
    header = headers(page)
    expect(header.get_by_role("heading")).to_have_text("Voices <b> (hostile)")
    expect(header.locator(".result")).to_have_text("running")
    expect(header.locator("time")).to_have_text(
        re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$")
    )
    (application,) = service.applications()
    environment = Path(f"/proc/{application}/environ").read_bytes().decode()
    wanted = re.search(r"CHIMIRROR_SESSION=([^\0]+)", environment)
    assert wanted
    expect(header.locator("code")).to_have_text(wanted[1])
    header.get_by_role("button", name="Copy id").click()
    expect(header.get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("copied") == [wanted[1]]
    say(page, "exit 3")
    expect(header.locator(".result")).to_have_text("Ended: exit 3")
    expect(header.get_by_role("button")).to_have_text("Copy id")
    page.get_by_role("button", name="Reconnect").click()
    expect(headers(page)).to_have_count(2)
    results = page.locator("#transcript .result")
    expect(results).to_have_text(["Ended: exit 3", "running"])
    assert audit(page) == []


def test_a_clipboard_that_the_page_may_not_use(
    browser: Browser, service: Service
) -> None:
    """The text is copied all the same, and the keyboard stays at the button."""

    def prepare(page: Page) -> None:
        page.add_init_script(REFUSES)

    with open_console(browser, service.port, prepare=prepare) as page:
        connect(page)
        button = page.get_by_role("button", name="Copy id")
        name = page.locator("#transcript code").text_content() or ""
        button.click()
        copied = page.get_by_role("button", name="Copied")
        expect(copied).to_be_focused()
        page.get_by_label("Line to send").focus()
        page.keyboard.press("Control+V")
        expect(page.get_by_label("Line to send")).to_have_value(name)
        expect(button).to_be_visible()


def test_a_framing_without_an_id(page: Page) -> None:
    connect(page, "json")
    expect(headers(page).locator(".result")).to_have_text("running")
    expect(headers(page).get_by_role("button")).to_have_count(0)


def test_the_keyboard_reaches_the_header(page: Page) -> None:
    connect(page)
    transcript = page.locator("#transcript")
    transcript.focus()
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name=re.compile("Copy id|Copied"))
    expect(button).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(button).to_have_text("Copied")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Line to send")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(transcript).to_be_focused()


def test_a_flood_leaves_the_header(page: Page) -> None:
    connect(page)
    print_lines(page, 20_000)
    expect(headers(page)).to_have_count(1)
    expect(page.locator("#transcript > :first-child h3")).to_be_in_viewport()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save").click()
    first = Path(waiting.value.path()).read_text().splitlines()[0]
    name = page.locator("#transcript code").text_content()
    wanted = f"note Session {name} of Voices <b> (hostile) (stdio): running"
    assert first.partition(" ")[2] == wanted


# Replay in the terminal view.


def test_the_terminal_shows_the_current_session_only(page: Page) -> None:
    """The terminal is opened for an application with a terminal, after other lines."""
    connect(page, "lines")
    say(page, "earlier")
    expect(entries(page, "stdout")).to_have_text('"earlier"')
    page.get_by_role("button", name="Disconnect").click()
    state(page, "Ended: closed by this page")
    page.get_by_label("Name").select_option("sized")
    page.get_by_role("button", name=re.compile("onnect$")).first.click()
    expect(screen(page)).to_contain_text(re.compile(r"\d\.\d"))
    expect(screen(page)).not_to_contain_text("earlier")
    first = screen(page).locator("> div").first
    expect(first).to_have_text(re.compile(r"^\d+\.\d+\s*$"))


@pytest.mark.parametrize("live", [True, False])
def test_a_terminal_opened_late_replays_one_session(page: Page, live: bool) -> None:
    connect(page)
    say(page, "earlier")
    expect(entries(page, "stdout")).to_have_count(1)
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_role("button", name="Reconnect").click()
    state(page, "Connected")
    for text in ("one", "two"):
        say(page, text)
        expect(entries(page, "stdout").last).to_have_text(f'"{text}"')
    if not live:
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")
    show(page, "Terminal")
    rows = screen(page).locator("> div")
    for number, text in enumerate(["one", '"one"', "two", '"two"']):
        expect(rows.nth(number)).to_have_text(re.compile(rf"^{text}\s*$"))


# Accessibility.


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_finds_nothing(browser: Browser, service: Service, look: str) -> None:
    with open_console(browser, service.port, **LOOKS[look]) as page:
        for end in ("exit 3", "exit 0", ""):
            page.get_by_role("button", name=re.compile("^(C|Rec)onnect$")).click()
            state(page, "Connected")
            print_lines(page, 60)
            say(page, end)
        by_position(page)
        say(page, "hello")
        expect(new_output(page)).to_be_visible()
        assert audit(page) == []
        assert not overflow(page)
