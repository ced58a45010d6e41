"""Text in the transcript of the console: its times and its colours."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from console_page import connect, entries, open_console, say, service, shared
from page_checks import LOOKS, audit, overflow
from serve import Service

__all__ = ["service", "shared"]  # fixtures

RED = "rgb(201, 59, 50)"
GREEN = "rgb(49, 131, 68)"
# All foreground colours, on all backgrounds: of 16, 256 and of red, green and blue.
FRONTS = [
    *[f"{code}" for code in (*range(30, 38), *range(90, 98))],
    *[f"38;5;{index}" for index in (16, 21, 51, 196, 226, 231, 232, 244, 255)],
    *["38;2;1;2;3", "38:2::250:250:240", "38;2;128;128;128"],
]
BACKS = ["49", *[f"{code}" for code in (*range(40, 48), 100, 107)], "48;2;128;128;128"]


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port) as found:
        yield found


def print_raw(page: Page, text: str) -> Locator:
    """Let the application print a text. Returns its last entry."""
    before = entries(page, "stdout").count()
    say(page, f"raw {json.dumps(text)}")
    count = before + len(text.split("\n"))
    expect(entries(page, "stdout")).to_have_count(count)
    last: Locator = entries(page, "stdout").last
    return last


def output(text: str) -> str:
    """Return a message of the server."""
    payload = base64.b64encode(text.encode()).decode()
    return json.dumps({"type": "stdout", "payload": payload})


# Times.


def test_times(page: Page) -> None:
    times = page.locator("#transcript .stdout .at")
    connect(page)
    entry = print_raw(page, "text")
    expect(times).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))
    expect(times).to_be_visible()
    expect(entry).to_have_text("text")
    page.get_by_label("Times").uncheck()
    expect(times).to_be_hidden()
    page.reload()
    expect(page.get_by_label("Times")).not_to_be_checked()
    connect(page)
    print_raw(page, "text")
    expect(times).to_be_hidden()
    page.get_by_label("Times").check()
    expect(times).to_be_visible()


def test_a_phone_shows_no_times_at_first(browser: Browser, service: Service) -> None:
    with open_console(browser, service.port, **LOOKS["narrow"]) as page:
        expect(page.get_by_label("Times")).not_to_be_checked()
        page.get_by_label("Times").check()
        connect(page)
        print_raw(page, "text")
        assert audit(page) == []
        assert not overflow(page)


# Colours.


def test_colours_and_attributes(page: Page) -> None:
    connect(page)
    said = "\x1b[1;31mred\x1b[0m plain \x1b[3;4;9mthree\x1b[23;24;29m none"
    entry = print_raw(page, said)
    expect(entry).to_have_text("red plain three none")
    expect(entry.locator("span")).to_have_text(["red", "three"])
    red, three = entry.locator("span").all()
    expect(red).to_have_css("font-weight", "700")
    expect(red).to_have_css("color", RED)
    expect(three).to_have_css("font-style", "italic")
    expect(three).to_have_css("text-decoration-line", "underline line-through")
    page.get_by_label("Colours").uncheck()
    expect(entry).to_have_text("red plain three none")
    expect(entry.locator("span")).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Colours")).not_to_be_checked()


@pytest.mark.parametrize(
    ("code", "colour"),
    [
        ("5;196", "rgb(255, 0, 0)"),
        ("5;244", "rgb(128, 128, 128)"),
        ("2;200;40;10", "rgb(200, 40, 10)"),
        (":2:200:40:10", "rgb(200, 40, 10)"),
        (":2::200:40:10", "rgb(200, 40, 10)"),
    ],
)
def test_more_than_16_colours(page: Page, code: str, colour: str) -> None:
    """A background is exact. A foreground is, where it can be read."""
    connect(page)
    code = code if code.startswith(":") else f";{code}"
    for text in (f"\x1b[48{code}mtext\x1b[m", f"\x1b[7;38{code}mtext\x1b[m"):
        piece = print_raw(page, text).locator("span")
        expect(piece).to_have_css("background-color", colour)
    entry = print_raw(page, f"\x1b[48;2;255;255;255;38{code}mtext\x1b[m")
    shown = expect(entry.locator("span"))
    if code.startswith(";5"):  # less than 4.5 to 1 on white
        shown.not_to_have_css("color", colour)
    else:
        shown.to_have_css("color", colour)


def test_a_style_lasts_until_it_is_reset(page: Page) -> None:
    """Over pieces of a line and over lines, but not over streams and sessions."""
    connect(page)
    print_raw(page, "\x1b[32mone\ntwo")
    pieces = entries(page, "stdout").locator("span")
    expect(pieces).to_have_text(["one", "two"])
    for piece in pieces.all():
        expect(piece).to_have_css("color", GREEN)
    say(page, "err alas")
    expect(entries(page, "stderr")).to_have_text("alas")
    expect(entries(page, "stderr").locator("span")).to_have_count(0)
    print_raw(page, "three\x1b[0m four")
    expect(pieces).to_have_text(["one", "two", "three"])
    print_raw(page, "\x1b[31mred\x1b[m \x1b[32mfive")
    print_raw(page, "six")
    expect(pieces.last).to_have_css("color", GREEN)
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_role("button", name="Reconnect").click()
    expect(page.locator("#state")).to_have_text("Connected")
    print_raw(page, "seven")
    expect(pieces).to_have_text(["one", "two", "three", "red", "five", "six"])


def test_a_sequence_in_pieces(browser: Browser, service: Service) -> None:
    def play(socket: WebSocketRoute) -> None:
        socket.send(json.dumps({"type": "session", "id": "1"}))
        for part in ("\x1b", "[3", "1mred", "\x1b]0;ti", "tle\x07\x1b[", "0m plain"):
            socket.send(output(part))

    def prepare(page: Page) -> None:
        page.route_web_socket("**/hostile", play)

    with open_console(browser, service.port, prepare=prepare) as page:
        connect(page)
        expect(entries(page, "stdout")).to_have_text("red plain")
        expect(entries(page, "stdout").locator("span")).to_have_text("red")


def test_other_sequences_are_removed(page: Page) -> None:
    connect(page)
    said = "a\x1b[2J\x1b[?25l\x1b]0;owned\x07\x1bPq#0~~\x1b\\\x1b(B\x1b7b\x1b[31!mc"
    expect(print_raw(page, said)).to_have_text("abc")
    expect(print_raw(page, "\x1b]0;never ends")).to_have_text("␛]0;never ends")


def test_huge_sequences(page: Page) -> None:
    """Many colours, a long sequence and a long text with colours stay bounded."""
    connect(page)
    say(page, "styles")
    expect(entries(page, "stdout").last).to_contain_text("characters in all")
    assert page.locator("#transcript .sgr").count() <= 400
    expect(entries(page, "stdout")).to_have_count(1)
    say(page, "title")
    expect(entries(page, "stdout")).to_have_count(2)
    say(page, "hello")
    expect(entries(page, "stdout").last).to_have_text('"hello"')


def test_the_file_has_the_text_as_it_was_sent(page: Page) -> None:
    connect(page)
    print_raw(page, "\x1b[31mred\x1b[0m")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save").click()
    last = Path(waiting.value.path()).read_text().splitlines()[-1]
    assert last.endswith("out  \x1b[31mred\x1b[0m")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_all_colours_are_readable(
    browser: Browser, service: Service, look: str
) -> None:
    with open_console(browser, service.port, **LOOKS[look]) as page:
        connect(page)
        for back in BACKS:
            line = "".join([f"\x1b[{back};{front}mtext " for front in FRONTS])
            swapped = line.replace("m", ";7m") if back != "49" else line
            print_raw(page, f"{line}\n{swapped}\x1b[m")
        say(page, "err hostile")
        expect(entries(page, "stderr").locator("span").first).to_be_visible()
        assert page.locator("#transcript .sgr").count() > 20 * len(BACKS)
        assert audit(page) == []
