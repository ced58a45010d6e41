"""Hostile applications and servers: they can write into the console, but no more.

The guarantees of page_checks hold for all of them: nothing is run, loaded, opened,
copied or played. Title and address of the page do not change.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

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
from js_runners import Heap
from serve import Service

__all__ = ["service", "shared"]  # fixtures

# As in web/hostile_application.py.
MARKUP = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<a href='javascript:document.title=1'>x</a>",
]
IMAGE = "<img src=x onerror=print()>"
SCRIPT = "<script>print()</script>"
ELEMENTS = (
    ":is(script:not([src]), img:not(h1 img), iframe, object, b, i,"
    " a:not(dialog a, #login-more > p > a))"
)


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port) as found:
        title, where = found.title(), found.url
        yield found
        unchanged(found)
        assert (found.title(), found.url) == (title, where)


def unchanged(page: Page) -> None:
    """The page has no elements but its own."""
    assert page.locator(ELEMENTS).count() == 0


# Applications, in the view of lines.


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_hostile_lines_are_text(page: Page, stream: str) -> None:
    connect(page)
    say(page, "hostile" if stream == "stdout" else "err hostile")
    shown = entries(page, stream)
    expect(shown.last).to_contain_text("styled")
    assert shown.all_text_contents()[:3] == MARKUP
    expect(shown.nth(3)).to_have_text("")
    expect(shown.nth(4)).to_have_text("link")


def test_invisible_characters_are_shown(page: Page) -> None:
    connect(page)
    say(page, "hostile")
    expect(entries(page, "stdout").last).to_contain_text(
        "styled ‹U+202E›reversed␀‹U+009B›‹U+200B›"
    )


def test_hostile_json_is_text(page: Page) -> None:
    connect(page)
    page.get_by_label("Unfold JSON").check()
    say(page, "markup")
    shown = entries(page, "stdout")
    expect(shown).to_contain_text(MARKUP[0])
    assert (shown.text_content() or "").count("\n") == 5
    say(page, "deep")
    expect(shown.last.locator(".fold")).to_have_count(64)
    expect(shown.last).to_contain_text("characters in all")


def test_typed_text_is_text(page: Page) -> None:
    connect(page, "json")
    page.get_by_role("button", name=IMAGE).click()
    expect(entries(page, "stdout")).to_have_text(json.dumps(IMAGE))
    expect(entries(page, "stdin")).to_have_text(json.dumps(IMAGE))
    say(page, IMAGE)
    expect(page.locator("#hint")).to_contain_text(IMAGE)


# Terminal view.


# Finds the middle of a text in the terminal. Its elements are replaced at each redraw.
PLACE = """(text) => {
  const pieces = [...document.querySelectorAll("#terminal .xterm-rows span")];
  const box = pieces.find((piece) => piece.textContent.includes(text))
    ?.getBoundingClientRect();
  return box?.width && [box.x + box.width / 2, box.y + box.height / 2];
}"""


def type_in(page: Page, text: str) -> None:
    page.get_by_label("Terminal input").focus()
    page.keyboard.type(f"{text}\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_hostile_sequences_do_nothing(page: Page, stream: str) -> None:
    connect(page, view="Terminal")
    rows = screen(page).locator("> div").count()
    type_in(page, "hostile" if stream == "stdout" else "err hostile")
    expect(screen(page)).to_contain_text("styled")
    expect(screen(page)).to_contain_text(MARKUP[0])
    for name in ("link", "leads away"):
        x, y = page.wait_for_function(PLACE, arg=name).json_value()
        page.mouse.click(x, y)
    assert screen(page).locator("> div").count() == rows
    # The terminal has not answered queries: an answer would have been typed.
    expect(page.locator("#bytes-stdin")).to_have_text(
        "8 B" if stream == "stdout" else "12 B"
    )
    type_in(page, "hello")
    expect(screen(page)).to_contain_text('"hello"')


@pytest.mark.parametrize("word", ["counts", "marks"])
def test_endless_sequences(page: Page, word: str) -> None:
    connect(page, view="Terminal")
    type_in(page, word)
    expect(screen(page)).to_contain_text(f"{word.removesuffix('s')}ed")
    type_in(page, "hello")
    expect(screen(page)).to_contain_text('"hello"')
    show(page, "Lines")
    expect(entries(page, "stdout").last).to_have_text('"hello"')


def test_terminal_modes_are_reset(page: Page) -> None:
    """Alternate screen, mouse reports and colours do not reach the next session."""
    connect(page, view="Terminal")
    left = json.dumps("\x1b[?1049h\x1b[?1003h\x1b[?25lleft")
    show(page, "Lines")
    say(page, f"raw {left}")
    expect(entries(page, "stdout")).to_contain_text("left")
    show(page, "Terminal")
    expect(page.locator("#terminal .enable-mouse-events")).to_have_count(1)
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_role("button", name="Reconnect").click()
    state(page, "Connected")
    type_in(page, "hello")
    expect(screen(page)).to_contain_text('"hello"')
    expect(screen(page)).not_to_contain_text("left")
    expect(page.locator("#terminal .enable-mouse-events")).to_have_count(0)


# Large output.


@pytest.mark.parametrize("view", ["Lines", "Terminal"])
def test_a_long_line(page: Page, view: str) -> None:
    connect(page, view=view)
    if view == "Lines":
        say(page, "long")
        expect(entries(page, "stdout").first).to_contain_text("characters in all")
    else:
        type_in(page, "long")
    expect(page.locator("#bytes-stdout")).to_have_text("5.0 MB")
    shown = page.evaluate("document.getElementById('transcript').textContent.length")
    assert shown < 100_000


def test_lines_of_nothing_are_not_kept_for_ever(page: Page) -> None:
    connect(page)
    heap = Heap(page)
    say(page, "empty")
    expect(page.locator("#bytes-stdout")).to_have_text("2.0 MB")
    say(page, "hello")
    expect(entries(page, "stdout").last).to_have_text('"hello"')
    heap.collect()
    assert heap.sample() < 64 << 20


# Hostile manifests and servers.


def test_a_hostile_manifest_is_text(page: Page) -> None:
    expect(page.locator("#purpose")).to_have_text("Does what it is <i>told</i>.")
    expect(page.locator("#examples")).to_contain_text(IMAGE)
    page.get_by_role("button", name="Manifest").click()
    expect(page.locator("#manifest")).to_contain_text("Voices <b>")
    expect(page.locator("#manifest")).to_contain_text(IMAGE)
    page.get_by_role("button", name="Close").click()


HOSTILE: dict[str, Any] = {
    "name": SCRIPT,
    "title": IMAGE,
    "purpose": SCRIPT,
    "path": f"/{IMAGE}",
    "manifest": "/asyncapi.json",
    "framings": [IMAGE, "stdio"],
    "direction": IMAGE,
}


def test_a_hostile_catalog_is_text(browser: Browser, service: Service) -> None:
    def provide(route: Route) -> None:
        route.fulfill(json={"applications": [HOSTILE]})

    def prepare(page: Page) -> None:
        page.route("**/.well-known/chimirror", provide)
        page.route("**/asyncapi.json", lambda route: route.fulfill(body=IMAGE))

    with open_console(browser, service.port, prepare=prepare) as page:
        expect(page.locator("#application")).to_contain_text(f"{IMAGE} ({SCRIPT})")
        expect(page.locator("#purpose")).to_have_text(SCRIPT)
        expect(page.locator("#framing")).to_contain_text(IMAGE)
        expect(page.locator("#manifest")).to_contain_text("not valid JSON")
        page.get_by_label("Framing", exact=True).select_option(IMAGE)
        page.get_by_role("button", name="Connect", exact=True).click()
        expect(page.locator("#state")).to_contain_text(f"unknown framing {IMAGE}")
        unchanged(page)


def said(kind: str, text: str) -> str:
    return json.dumps(
        {"type": kind, "payload": base64.b64encode(text.encode()).decode()}
    )


ENDS: dict[str, tuple[list[str], str, str]] = {
    "reason": ([], SCRIPT, f"Lost: the server closed the session: {SCRIPT}"),
    "code": ([json.dumps({"type": "exit", "code": IMAGE})], "", f"Ended: exit {IMAGE}"),
    "signal": (
        [json.dumps({"type": "exit", "signal": IMAGE})],
        "",
        f"Ended: signal {IMAGE}",
    ),
    "mistake": (
        [said("error", IMAGE)],
        SCRIPT,
        f"Lost: the server closed the session: {SCRIPT}",
    ),
    "nonsense": ([IMAGE], "", f"Lost: a message violates framing stdio: {IMAGE}"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_hostile_end_is_text(browser: Browser, service: Service, end: str) -> None:
    messages, reason, shown = ENDS[end]

    def play(socket: WebSocketRoute) -> None:
        def answer(_message: str | bytes) -> None:
            for message in messages:
                socket.send(message)
            socket.close(code=3000, reason=reason)

        socket.on_message(answer)
        socket.send(json.dumps({"type": "session", "id": IMAGE}))

    def prepare(page: Page) -> None:
        page.route_web_socket("**/hostile", play)

    with open_console(browser, service.port, prepare=prepare) as page:
        connect(page)
        say(page, "go")
        state(page, shown)
        expect(entries(page, "note").last).to_have_text(shown)
        if end == "mistake":
            expect(entries(page, "note").first).to_have_text(IMAGE)
            expect(page.locator("#transcript code")).to_have_text(IMAGE)
        unchanged(page)
