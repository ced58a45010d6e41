"""JSON in the transcript of the console: coloured, and folded to one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from console_page import connect, entries, open_console, say, service, shared
from page_checks import LOOKS, audit, overflow
from serve import Service

__all__ = ["service", "shared"]  # fixtures

# What the application prints for "nested": JavaScript cannot represent the number.
PLAIN = '{"a":[1,{"b":"x, {y}"},[],{}],"n":12345678901234567890,"t":null}'
OUTER = (
    '{\n  "a": [1,{"b":"x, {y}"},[],{}],\n  "n": 12345678901234567890,\n  "t": null\n}'
)
WHOLE = (
    '{\n  "a": [\n    1,\n    {\n      "b": "x, {y}"\n    },\n    [],\n    {}\n  ],'
    '\n  "n": 12345678901234567890,\n  "t": null\n}'
)


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port) as found:
        connect(found)
        yield found


def last(page: Page) -> Locator:
    found: Locator = entries(page, "stdout").last
    return found


def has_text(entry: Locator, text: str) -> None:
    """Wait for a text with exactly these spaces and line breaks."""
    expect(entry).to_have_text(text)
    assert entry.text_content() == text


def print_json(page: Page, text: str) -> Locator:
    """Let the application print a JSON text. Returns its entry."""
    count = entries(page, "stdout").count()
    say(page, f"raw {json.dumps(text)}")
    expect(entries(page, "stdout")).to_have_count(count + 1)
    return last(page)


def fold(entry: Locator, name: str) -> Locator:
    return entry.get_by_role("button", name=name, exact=True)


def test_json_is_folded_and_coloured(page: Page) -> None:
    say(page, "nested")
    has_text(last(page), PLAIN)
    for kind, text in {
        "key": ['"a"', '"b"', '"n"', '"t"'],
        "string": ['"x, {y}"'],
        "number": ["1", "12345678901234567890"],
        "literal": ["null"],
    }.items():
        expect(last(page).locator(f".{kind}")).to_have_text(text)


def test_unfolding_by_mouse(page: Page) -> None:
    say(page, "nested")
    outermost = fold(last(page), "Object")
    expect(outermost).to_have_attribute("aria-expanded", "false")
    outermost.click()
    has_text(last(page), OUTER)
    expect(fold(last(page), "Object").first).to_have_attribute("aria-expanded", "true")
    last(page).get_by_text('"x, {y}"').click()
    fold(last(page), "Object").last.click()
    has_text(last(page), WHOLE)
    fold(last(page), "Object").first.click()
    has_text(last(page), PLAIN)
    fold(last(page), "Object").first.click()
    has_text(last(page), WHOLE)


def test_unfolding_by_keyboard(page: Page) -> None:
    say(page, "nested")
    expect(last(page)).to_have_text(PLAIN)
    say(page, "nested")
    expect(entries(page, "stdout")).to_have_count(2)
    page.locator("#transcript").focus()
    page.keyboard.press("Tab")
    expect(fold(last(page), "Object")).to_be_focused()
    page.keyboard.press("Enter")
    has_text(last(page), OUTER)
    expect(fold(last(page), "Object").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(fold(last(page), 'Array "a"')).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    has_text(last(page), WHOLE)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    has_text(last(page), OUTER)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(fold(entries(page, "stdout").first, "Object")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Line to send")).to_be_focused()


def test_the_switch_unfolds_all(page: Page) -> None:
    say(page, "nested")
    page.get_by_label("Unfold JSON").check()
    has_text(last(page), WHOLE)
    say(page, '{"typed": [1]}')
    typed = entries(page, "stdin").last
    has_text(typed, '{\n  "typed": [\n    1\n  ]\n}')
    page.get_by_label("Unfold JSON").uncheck()
    has_text(typed, '{"typed": [1]}')
    page.get_by_label("Unfold JSON").check()
    page.reload()
    expect(page.get_by_label("Unfold JSON")).to_be_checked()
    connect(page)
    say(page, "nested")
    has_text(last(page), WHOLE)


@pytest.mark.parametrize("text", ["{}", "[ ]", '"text"', "12", "[1", "{'a': 1}"])
def test_other_texts_are_not_folded(page: Page, text: str) -> None:
    entry = print_json(page, text)
    has_text(entry, text)
    expect(entry.get_by_role("button")).to_have_count(0)


def test_long_texts(page: Page) -> None:
    """A folded value shows its beginning. Too long texts are no JSON here."""
    members = ",".join([f'"name {number}"' for number in range(1000)])
    entry = print_json(page, f"[{members}]")
    expect(entry).to_have_text(re.compile(r'^\["name 0",.*…\] \(10,891 characters'))
    assert len(entry.text_content() or "") < 250
    fold(entry, "Array").click()
    expect(entry).to_contain_text('"name 99"')
    expect(entry).not_to_contain_text('"name 100"')
    entry.get_by_role("button", name="… 900 more").click()
    expect(entry).to_contain_text('"name 199"')
    expect(entry.get_by_role("button", name="… 800 more")).to_be_focused()
    page.get_by_label("Unfold JSON").check()
    expect(entry).to_contain_text('"name 99"')
    long = "x" * 99_990
    entry = print_json(page, json.dumps({"a": long}))
    expect(entry).to_contain_text("(99,992 characters in all)")
    expect(fold(entry, "Object")).to_have_count(1)
    entry = print_json(page, json.dumps({"a": f"{long}xx"}))
    expect(entry).to_contain_text("characters in all")
    expect(fold(entry, "Object")).to_have_count(0)


def test_64_levels(page: Page) -> None:
    page.get_by_label("Unfold JSON").check()
    entry = print_json(page, "[" * 64 + "1" + "]" * 64)
    expect(entry.get_by_role("button")).to_have_count(64)
    assert (entry.text_content() or "").count("\n") == 128
    entry = print_json(page, '{"a":' * 66 + "[]" + "}" * 66)
    expect(entry.get_by_role("button")).to_have_count(64)
    expect(entry).to_contain_text('"a": {"a":{"a":[]}}')


def test_invisible_characters_in_json(page: Page) -> None:
    entry = print_json(page, '{"\u202ekey":"\u200b<b>"}')
    has_text(entry, '{"‹U+202E›key":"‹U+200B›<b>"}')
    fold(entry, "Object").click()
    has_text(entry, '{\n  "‹U+202E›key": "‹U+200B›<b>"\n}')


def test_an_unfolded_value_stays_in_view(page: Page) -> None:
    """New output does not scroll it away."""
    entry = print_json(page, json.dumps(list(range(100))))
    fold(entry, "Array").click()
    expect(entry).to_contain_text("99\n]")
    say(page, "hello")
    expect(page.get_by_role("button", name="New output")).to_be_visible()
    expect(fold(entries(page, "stdout").first, "Array")).to_be_in_viewport()


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_finds_nothing(browser: Browser, service: Service, look: str) -> None:
    with open_console(browser, service.port, **LOOKS[look]) as page:
        connect(page)
        print_json(page, json.dumps(list(range(200))))
        say(page, '[{"typed": true}]')
        say(page, "err nested")
        expect(entries(page, "stderr")).to_have_count(1)
        assert audit(page) == []
        page.get_by_label("Unfold JSON").check()
        expect(page.get_by_role("button", name="… 100 more")).to_have_count(1)
        assert audit(page) == []
        assert not overflow(page)
