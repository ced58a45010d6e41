"""Elements of the transcript of the console: bounded, also under floods of structure.

JSON and colours need many elements for each line. Elements are counted after each
drawing, and no time is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from console_page import connect, entries, open_console, say, service, shared
from serve import Service

__all__ = ["service", "shared"]  # fixtures

MAX_ELEMENTS = 10_000  # while the transcript follows the output
MAX_READ = 20_000  # while the user reads earlier lines, before the last drawing
MAX_DRAWN = 1500  # of one drawing, before its last line
MAX_LINE = 5000  # of one line
COUNT = "document.querySelectorAll('#transcript *').length"
# Keeps the largest number of elements after a drawing, and of one drawing.
WATCH = f"""() => {{
  globalThis.most = globalThis.drawn = 0;
  const size = (node) => 1 + (node.querySelectorAll?.("*").length ?? 0);
  new MutationObserver((records) => {{
    most = Math.max(most, {COUNT});
    const added = records.flatMap(({{ addedNodes }}) => [...addedNodes]);
    drawn = Math.max(drawn, added.reduce((sum, node) => sum + size(node), 0));
  }}).observe(document.getElementById("transcript"), {{ childList: true }});
}}"""
AT_END = """() => {
  const element = document.getElementById("transcript");
  return element.scrollHeight - element.scrollTop - element.clientHeight < 1;
}"""
AT_START = "() => document.getElementById('transcript').scrollTop === 0"
# JSON and colours with as many elements as possible in one line.
LARGEST = {
    "JSON": json.dumps([[1] * 40] * 88, separators=(",", ":")),
    "colours": "".join([f"\x1b[{31 + at % 7}mx" for at in range(5000)]),
}


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port) as found:
        connect(found)
        found.evaluate(WATCH)
        yield found


def unfold(page: Page) -> Locator:
    found: Locator = page.get_by_label("Unfold JSON")
    return found


def repeat(page: Page, count: int, name: str) -> None:
    """Let the application print a text many times."""
    say(page, f"repeat {count} {name}")


def is_complete(page: Page) -> None:
    expect(entries(page, "stdout").last).to_have_text("repeated")
    page.wait_for_function(AT_END)


@pytest.mark.parametrize("name", ["object", "unfolded object", "styles"])
def test_a_flood(page: Page, name: str) -> None:
    unfold(page).set_checked("unfolded" in name)
    for _ in range(2):
        repeat(page, 30 if name == "styles" else 1000, name.rpartition(" ")[2])
        is_complete(page)
    assert 100 < page.evaluate("most") <= MAX_ELEMENTS
    assert page.evaluate("drawn") <= MAX_DRAWN + MAX_LINE
    expect(page.locator("#transcript > :first-child h3")).to_be_in_viewport()


def test_a_flood_while_earlier_lines_are_read(page: Page) -> None:
    repeat(page, 1000, "object")
    is_complete(page)
    page.locator("#transcript").focus()
    page.keyboard.press("PageUp")
    page.wait_for_function(f"() => !({AT_END})()")
    first = page.locator("#transcript .stdout").first.element_handle()
    repeat(page, 1000, "object")
    page.wait_for_function(f"() => {COUNT} >= {MAX_READ}")
    repeat(page, 1, "object")
    expect(page.locator("#transcript")).to_have_attribute("aria-busy", "false")
    assert page.evaluate("most") <= MAX_READ + MAX_DRAWN + MAX_LINE
    assert first.evaluate("(node) => node.isConnected")
    page.get_by_role("button", name="New output").click()
    is_complete(page)
    assert page.evaluate(COUNT) <= MAX_ELEMENTS


def test_the_switch_unfolds_what_is_in_view_first(page: Page) -> None:
    """Lines far above stay folded. All lines are folded again."""
    repeat(page, 1000, "object")
    is_complete(page)
    unfold(page).check()
    is_complete(page)
    assert page.evaluate(COUNT) <= MAX_READ + MAX_LINE
    outermost = page.locator("#transcript .text > .value > .fold")
    expect(outermost.last).to_have_attribute("aria-expanded", "true")
    expect(outermost.first).to_have_attribute("aria-expanded", "false")
    unfold(page).uncheck()
    expect(page.locator("#transcript [aria-expanded=true]")).to_have_count(0)


def test_the_switch_unfolds_the_lines_that_are_read(page: Page) -> None:
    repeat(page, 1000, "object")
    is_complete(page)
    page.locator("#transcript").focus()
    page.keyboard.press("Home")
    page.wait_for_function(AT_START)
    unfold(page).check()
    outermost = page.locator("#transcript .text > .value > .fold")
    expect(outermost.first).to_have_attribute("aria-expanded", "true")
    expect(outermost.last).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_lines(page: Page, name: str) -> None:
    unfold(page).check()
    say(page, f"raw {json.dumps(LARGEST[name])}")
    expect(entries(page, "stdout")).to_have_count(1)
    assert 400 < page.evaluate(COUNT) <= MAX_LINE
