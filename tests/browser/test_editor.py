"""The editor of examples/editor for a user: in Chromium, with pylsp."""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from editor_page import (
    ORIGIN,
    Editors,
    append,
    area,
    button,
    connected,
    directory,
    editors,
    mend,
    origin,
    page,
    problems,
    serve,
    service,
    shared,
    state,
    words,
)
from js_runners import LONG
from page_checks import LOOKS, audit, checked_page, overflow
from processes import until
from serve import Service, reserved

__all__ = ["directory", "editors", "origin", "page", "service", "shared"]  # fixtures

MISTAKE = "undefined name 'spread_of'"

pytestmark = pytest.mark.timeout(300)  # slow on a busy machine


# Problems.


def test_a_mistake_is_found_and_mended(page: Page) -> None:
    expect(problems(page)).to_have_text([f"Line 9: Error{MISTAKE}"])
    expect(page.locator("#count")).to_have_text("1 problem")
    expect(page.locator("#gutter .marked")).to_have_text("9")
    wrong = "spread_of([3, 1, 4, 1, 5, 9])"
    expect(page.locator("#mirror .severity-1")).to_contain_text(wrong)
    mend(page)
    for each in (problems(page), page.locator("#mirror span, #gutter .marked")):
        expect(each).to_have_count(0)


def test_a_mistake_is_typed(page: Page) -> None:
    mend(page)
    append(page, "é = '😀'\nspread(nothing")
    expect(problems(page)).to_have_text(["Line 11: Error'(' was never closed"])
    page.keyboard.type(")")
    expect(problems(page)).to_have_text(["Line 11: Errorundefined name 'nothing'"])
    expect(page.locator("#gutter .marked")).to_have_text("11")
    expect(page.locator("#mirror .severity-1")).to_have_text("nothing)")
    for _ in "(nothing)":
        page.keyboard.press("Backspace")
    expect(page.locator("#count")).to_have_text("No problems found")


def test_problems_are_reached_by_key(page: Page) -> None:
    append(page, "import os")
    expect(problems(page)).to_have_count(2)
    chosen = "() => { const { selectionStart, selectionEnd, value } = area; "
    chosen += "return value.slice(selectionStart, selectionEnd) }"
    for wanted in ("spread_of([3", "import os", "spread_of([3"):
        page.keyboard.press("F8")
        assert page.evaluate(chosen).startswith(wanted)
    expect(page.locator("#said")).to_have_text(MISTAKE)
    problems(page).nth(1).click()
    assert page.evaluate(chosen) == "import os"
    expect(area(page)).to_be_focused()


# Completion.


def test_completed_by_keyboard(page: Page) -> None:
    """Each key scrolls, and the event may arrive after the request for completions."""
    scroll = "() => dispatchEvent(new Event('scroll'))"
    page.evaluate(f"area.addEventListener('input', {scroll})")
    text = mend(page)
    append(page, "x = statistics.")
    # The first completion of a language server reads the standard library.
    expect(words(page).nth(20)).to_be_visible(timeout=LONG * 1000)
    page.keyboard.type("med")
    expect(words(page).first).to_contain_text("median(")
    named = area(page).get_attribute("aria-activedescendant")
    expect(page.locator(f"#{named}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(words(page).nth(1)).to_have_attribute("aria-selected", "true")
    second = words(page).nth(1).inner_text().partition("(")[0]
    page.keyboard.press("Enter")
    expect(area(page)).to_have_value(f"{text}x = statistics.{second}")
    expect(words(page)).to_have_count(0)
    page.keyboard.press("Control+Z")
    expect(area(page)).to_have_value(f"{text}x = statistics.med")


def test_completed_when_asked(page: Page) -> None:
    text = mend(page)
    append(page, "spr")
    expect(words(page)).to_have_count(0)
    page.keyboard.press("Control+Space")
    expect(words(page)).to_have_text(["spread(numbers)"])
    expect(page.locator("#said")).to_have_text("1 completion")
    page.keyboard.press("Escape")
    expect(words(page)).to_have_count(0)
    button(page, "Complete").click()
    words(page).first.click()
    expect(area(page)).to_have_value(f"{text}spread")
    expect(area(page)).to_be_focused()


def test_lines_are_indented(page: Page) -> None:
    text = mend(page)
    append(page, "if spread:\nprint(1)\nprint(2)")
    indented = "if spread:\n    print(1)\n    print(2)"
    expect(area(page)).to_have_value(f"{text}{indented}")


def test_the_keyboard_gets_out_of_the_text(page: Page) -> None:
    area(page).focus()
    page.keyboard.press("Shift+Tab")
    expect(button(page, "Next problem")).to_be_focused()


# Hover texts.


def test_explained_by_key(page: Page) -> None:
    text = area(page).input_value()
    where = text.index("stdev") + 2
    area(page).evaluate(f"(area) => area.setSelectionRange({where}, {where})")
    area(page).press("F1")
    shown = page.locator("#explanation")
    expect(shown).to_contain_text("square root of the sample variance")
    expect(page.locator("#said")).to_contain_text("square root")
    page.keyboard.press("Tab")
    expect(shown).to_be_focused()  # the text can be scrolled
    page.keyboard.press("Escape")
    expect(shown).to_be_hidden()
    expect(area(page)).to_be_focused()
    button(page, "Explain").click()
    expect(shown).to_be_visible()
    page.keyboard.type(" ")
    expect(shown).to_be_hidden()


def test_explained_by_pointer(page: Page) -> None:
    expect(problems(page)).to_have_count(1)
    mark = page.locator("#mirror .severity-1").bounding_box()
    assert mark
    page.mouse.move(mark["x"] + 3, mark["y"] + 8)
    shown = page.locator("#explanation")
    expect(shown).to_have_text(MISTAKE)
    shown.hover()
    expect(shown).to_be_visible()
    page.mouse.move(2, 2)
    expect(shown).to_be_hidden()


# Connection.


def test_a_language_server_that_ends(page: Page, service: Service) -> None:
    expect(problems(page)).to_have_count(1)
    (application,) = service.applications()
    os.kill(application, signal.SIGKILL)
    state(page, "Ended: signal KILL")
    expect(problems(page)).to_have_count(0)
    append(page, "import os")  # without a message
    button(page, "Reconnect").click()
    connected(page)
    expect(problems(page)).to_have_count(2)


def test_disconnecting(page: Page, service: Service) -> None:
    expect(problems(page)).to_have_count(1)
    page.clock.install(time=0)
    page.clock.pause_at(1)  # the language server has time to end by itself
    button(page, "Disconnect").click()
    state(page, "Ended: exit 0")
    until(lambda: not service.applications(), "no language server is left")
    button(page, "Reconnect").press("Enter")
    connected(page)
    expect(button(page, "Disconnect")).to_be_focused()


def test_a_server_that_dies_and_comes_back(editors: Editors, directory: Path) -> None:
    with reserved() as port, ExitStack() as stack:
        listen = f"127.0.0.1:{port}"
        with serve(directory, listen=listen) as first:
            page = stack.enter_context(editors.open(port))
            first.kill_all()
            lost = "the connection was lost: the network or the server has failed"
            state(page, f"Lost: {lost}")
        again = button(page, "Reconnect")
        again.click()
        expect(page.locator("#state")).to_contain_text("Not connected: no connection")
        with serve(directory, listen=listen):
            again.click()
            connected(page)
            expect(problems(page)).to_have_count(1)
            stack.close()


def test_a_silent_language_server_is_disconnected(
    editors: Editors, service: Service
) -> None:
    with editors.open(service.port, "silent", "Connecting") as page:
        until(service.applications, "it runs")
        button(page, "Disconnect").click()
        state(page, "Ended: closed from here")


def test_a_language_server_that_refuses_is_disconnected(
    editors: Editors, service: Service
) -> None:
    """The server returns the client's own messages: as a request, then as an error."""
    with editors.open(service.port, "echo", "Not connected: it says") as page:
        expect(page.locator("#state")).to_contain_text("this editor has no methods")
        until(lambda: not service.applications(), "it has gone")
        expect(button(page, "Reconnect")).to_be_visible()


# Forbidden requests of a language server.


def test_server_texts_are_text(editors: Editors, service: Service) -> None:
    with editors.open(service.port, "hostile") as page:
        title, where = page.title(), page.url
        expect(page.locator("#state")).to_contain_text("<script>owned()</script>")
        expect(problems(page)).to_have_count(200)
        expect(page.locator("#count")).to_contain_text("303 problems, the first 200")
        append(page, "\nprin")
        page.keyboard.press("Control+Space")
        expect(words(page)).to_have_count(100)
        expect(words(page).first).to_contain_text("<script>owned()</script>")
        page.keyboard.press("Enter")
        assert area(page).input_value().endswith("<script>owned()</script>")
        page.keyboard.press("F1")
        expect(page.locator("#explanation")).to_contain_text("<script>owned()</script>")
        result = page.locator("#explanation").text_content()
        assert result
        assert len(result) <= 10_000
        assert page.locator("body :is(script, a, header ~ * img)").count() == 0
        assert (page.title(), page.url) == (title, where)
        page.clock.install()
        button(page, "Disconnect").click()  # the editor does not know this method
        page.clock.fast_forward(10_000)
        state(page, "Ended: closed from here")


def test_other_machines_are_out_of_reach(browser: Browser, origin: str) -> None:
    elsewhere = "ws://192.0.2.1:30747/pylsp"
    violation = f"connect-src {elsewhere}"
    with checked_page(browser, f"{origin}/#{elsewhere}", violation) as page:
        policy = "the page's Content-Security-Policy has no connect-src for"
        state(page, f"Not connected: {policy} 192.0.2.1:30747")


# Accessibility.


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_finds_nothing(editors: Editors, service: Service, look: str) -> None:
    with editors.open(service.port, **LOOKS[look]) as page:
        expect(problems(page)).to_have_count(1)
        assert audit(page) == []
        append(page, "import math; math.")
        expect(words(page).nth(20)).to_be_visible()
        assert audit(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("F1")
        expect(page.locator("#explanation")).to_be_visible()
        assert audit(page) == []
        button(page, "Disconnect").click()
        expect(page.locator("#state")).to_contain_text("Ended: ")
        assert audit(page) == []
        assert not overflow(page)


def test_it_is_served_where_its_application_lets_it_in() -> None:
    host, _, port = ORIGIN.removeprefix("http://").partition(":")
    recipe = Path(__file__).parents[2].joinpath("Makefile").read_text()
    assert f"Open {ORIGIN}/ in a browser" in recipe
    assert f"--bind {host} " in recipe
    assert f"build/editor {port} " in recipe


# The console shows the messages.


def test_the_console_speaks_to_a_language_server(
    browser: Browser, service: Service
) -> None:
    with checked_page(browser, f"http://127.0.0.1:{service.port}/pylsp") as page:
        framing = page.get_by_label("Framing", exact=True)
        expect(framing.locator("option")).to_have_text(["lsp", "stdio"])
        page.get_by_role("button", name="Connect", exact=True).click()
        state(page, "Connected")
        page.get_by_label("Line to send").fill("hello")
        button(page, "Send").click()
        hint = "Not JSON: a language server accepts nothing else"
        expect(page.locator("#hint")).to_have_text(hint)
        page.get_by_label("Unfold JSON").check()
        button(page, '"method":"initialize"').click()
        said = page.locator("#transcript .stdout .text")
        expect(said).to_contain_text(re.compile('"name": ?"pylsp"'))
        page.get_by_label("Line to send").fill('{"jsonrpc":"2.0",\n"method":"exit"}')
        button(page, "Send").click()
        state(page, "Ended: exit 0")
