"""The console and the other connection: its output is paused, its server is asked.

Law: what becomes of that connection is no matter for what passes over the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from launch import Service
from players import LONG, Heap, renderers
from settling import Memory, steady, until, written
from visitor import (
    applications,
    connect,
    entries,
    say,
    screen,
    serve,
    show,
    state,
    visiting,
)

MUCH = 200_000_000
# Lets control connections be counted, cut and prevented, and pictures be held back.
STAGE = """
globalThis.cables = [];
globalThis.severed = false;
globalThis.WebSocket = class extends WebSocket {
  constructor(address, subprotocol) {
    const control = subprotocol === "chimirror.control.v1";
    super(control && severed ? `${address}missing` : address, subprotocol);
    if (control) cables.push(this);
  }
};
const draw = requestAnimationFrame;
const held = [];
globalThis.holding = false;
globalThis.requestAnimationFrame = (picture) =>
  holding ? held.push(picture) : draw(picture);
globalThis.unhold = () => {
  holding = false;
  held.splice(0).forEach((picture) => draw(picture));
};
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serve(applications(tmp_path)) as found:
        yield found


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    def prepare(page: Page) -> None:
        page.add_init_script(STAGE)

    with visiting(browser, service.port, prepare=prepare) as found:
        yield found


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def fact(page: Page, name: str, text: str) -> None:
    expect(page.locator(f"#{name}")).to_have_text(text)


def ask_server(page: Page) -> None:
    page.get_by_text("On the server").click()


# By hand


def test_the_output_is_paused(page: Page, service: Service) -> None:
    connect(page)
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_count(1)
    ask_server(page)
    fact(page, "paused", "nothing")
    press(page, "Pause")
    state(page, "Connected, output paused")
    expect(page.get_by_role("status")).to_have_text("Connected, output paused")
    fact(page, "paused", "stdout, stderr")
    (application,) = service.applications()
    before = written(application)
    say(page, "hello")
    until(lambda: written(application) > before, "an answer")
    fact(page, "backlog-in", "0 B wait")
    expect(entries(page, "stdout")).to_have_count(1)
    press(page, "Resume")
    state(page, "Connected")
    expect(entries(page, "stdout")).to_have_count(2)
    fact(page, "paused", "nothing")


def test_an_end_while_the_output_is_paused(page: Page) -> None:
    connect(page)
    press(page, "Pause")
    state(page, "Connected, output paused")
    press(page, "Disconnect")
    state(page, "Ended: closed from here")
    expect(page.get_by_role("button", name="Pause")).to_be_disabled()
    press(page, "Reconnect")
    state(page, "Connected")
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_text('"hello"')


def test_the_server_is_asked_while_somebody_looks(page: Page) -> None:
    connect(page)
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_count(1)
    expect(page.locator("#time")).not_to_have_text("0 s")
    assert page.evaluate("cables.length") == 0
    ask_server(page)
    fact(page, "backlog-out", "0 B wait")
    age = page.locator("#age").text_content() or ""
    expect(page.locator("#age")).not_to_have_text(age)
    assert page.evaluate("cables.length") == 1
    press(page, "Disconnect")
    expect(page.locator("#server-facts")).to_be_hidden()


def test_what_cannot_be_steered(page: Page) -> None:
    ask_server(page)
    fact(page, "server-note", "It tells in sessions of the framing stdio.")
    connect(page, "json")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    fact(page, "server-note", "It tells in sessions of the framing stdio.")


def test_losing_the_control_connection(page: Page) -> None:
    """Neither what passes nor what is paused depends on it."""
    connect(page)
    ask_server(page)
    press(page, "Pause")
    fact(page, "paused", "stdout, stderr")
    page.evaluate("() => { severed = true; cables.at(-1).close(); }")
    fact(page, "server-note", "It does not answer.")
    say(page, "hello")
    page.evaluate("() => { severed = false; }")
    fact(page, "paused", "stdout, stderr")
    expect(entries(page, "stdout")).to_have_count(0)
    page.evaluate("() => cables.at(-1).close()")
    press(page, "Resume")
    expect(entries(page, "stdout")).to_have_text('"hello"')


def test_a_pause_of_which_the_server_does_not_learn(page: Page) -> None:
    connect(page)
    page.evaluate("() => { severed = true; }")
    press(page, "Pause")
    expect(entries(page, "note").last).to_contain_text("The server could not be told: ")
    state(page, "Connected, output paused")
    say(page, "hello")
    press(page, "Resume")
    expect(entries(page, "stdout")).to_have_text('"hello"')


# By itself


def test_who_cannot_keep_up_has_it_paused(page: Page, service: Service) -> None:
    """And resumed when it is drawn, and nothing is lost."""
    connect(page)
    ask_server(page)
    page.evaluate("() => { holding = true; }")
    say(page, "pour 400")
    fact(page, "paused", "stdout")
    (application,) = service.applications()
    until(steady(lambda: written(application)), "a pause")
    assert written(application) < 20_000_000
    page.evaluate("unhold()")
    expect(entries(page, "stdout").last).to_have_text("poured")
    fact(page, "bytes-stdout", "40 MB")
    fact(page, "paused", "nothing")


def test_nothing_of_what_a_terminal_gets_is_left_out(page: Page) -> None:
    page.get_by_label("Name").select_option("mouse")
    connect(page)
    expect(page.get_by_label("Terminal input")).to_be_focused()
    page.keyboard.type("go\n")
    expect(screen(page)).to_contain_text("99999")
    expect(page.locator("#terminal .enable-mouse-events")).to_have_count(1)


@pytest.mark.timeout(180)
def test_much_is_streamed(page: Page) -> None:
    """200 MB, half of it seen in each view, and the page answers all the while.

    What it holds is bounded by what can be saved and scrolled. That is measured by the
    page's heap, at its worst and with all garbage collected, and by the growth, at its
    peak, of the resident memory of the processes that the browser has for pages while
    the last three quarters come: what the first one brings may well stay.
    """
    connect(page, view="Terminal")
    expect(page.get_by_label("Terminal input")).to_be_focused()
    heap = Heap(page)
    page.keyboard.type(f"pour {MUCH // 100_000}\n")
    received = "parseInt(document.getElementById('bytes-stdout').textContent)"

    def has(megabytes: int) -> bool:
        heap.look()
        unit = page.locator("#bytes-stdout").text_content() or ""
        return unit.endswith("MB") and bool(page.evaluate(received) >= megabytes)

    until(lambda: has(50), "a quarter", LONG)
    memory = Memory(renderers())
    press(page, "Pause")
    state(page, "Connected, output paused")
    press(page, "Resume")
    until(lambda: has(100), "a half", LONG)
    expect(screen(page)).to_contain_text("x" * 40)
    show(page, "Lines")
    page.get_by_label("Indent JSON").uncheck()
    until(lambda: has(200), "all", LONG)
    expect(entries(page, "stdout").last).to_have_text("poured")
    heap.collect()
    assert heap.look() < 32 << 20
    assert heap.largest < 128 << 20
    assert memory.growth() < MUCH * 3 // 4, memory.growth()
