"""Control connection of the console: pausing the output, and the server's status.

A broken control connection has no effect on the session.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

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
from js_runners import LONG, Heap, renderer_memory
from processes import steady, until, written
from serve import Service

__all__ = ["service", "shared"]  # fixtures

# Counts, cuts and prevents control connections, and delays animation frames. The page's
# one-second timers run ten times as fast.
PAGE_HOOKS = """
globalThis.cables = [];
globalThis.severed = false;
globalThis.WebSocket = class extends WebSocket {
  constructor(address, subprotocol) {
    const control = subprotocol[0] === "chimirror.control.v1";
    super(control && severed ? `${address}missing` : address, subprotocol);
    if (control) cables.push(this);
  }
};
const repeat = setInterval;
globalThis.setInterval = (task, time) => repeat(task, time / 10);
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
def page(browser: Browser, service: Service) -> Iterator[Page]:
    def prepare(page: Page) -> None:
        page.add_init_script(PAGE_HOOKS)

    with open_console(browser, service.port, prepare=prepare) as found:
        yield found


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def fact(page: Page, name: str, text: str) -> None:
    expect(page.locator(f"#{name}")).to_have_text(text)


def ask_server(page: Page) -> None:
    page.get_by_text("On the server").click()


# Pausing by the user.


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
    state(page, "Ended: closed by this page")
    expect(page.get_by_role("button", name="Pause")).to_be_disabled()
    press(page, "Reconnect")
    state(page, "Connected")
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_text('"hello"')


def test_the_server_is_asked_while_the_page_is_visible(page: Page) -> None:
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


def test_a_framing_without_control(page: Page) -> None:
    ask_server(page)
    fact(page, "server-note", "Available in sessions with framing stdio.")
    connect(page, "json")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    fact(page, "server-note", "Available in sessions with framing stdio.")


def test_losing_the_control_connection(page: Page) -> None:
    """Neither the data nor the pause depend on the control connection."""
    connect(page)
    ask_server(page)
    press(page, "Pause")
    fact(page, "paused", "stdout, stderr")
    page.evaluate("() => { severed = true; cables.at(-1).close(); }")
    fact(page, "server-note", "The server does not answer.")
    say(page, "hello")
    page.evaluate("() => { severed = false; }")
    fact(page, "paused", "stdout, stderr")
    expect(entries(page, "stdout")).to_have_count(0)
    page.evaluate("() => cables.at(-1).close()")
    press(page, "Resume")
    expect(entries(page, "stdout")).to_have_text('"hello"')


def test_a_pause_that_does_not_reach_the_server(page: Page) -> None:
    connect(page)
    page.evaluate("() => { severed = true; }")
    press(page, "Pause")
    expect(entries(page, "note").last).to_contain_text(
        "The request to the server failed: "
    )
    state(page, "Connected, output paused")
    say(page, "hello")
    press(page, "Resume")
    expect(entries(page, "stdout")).to_have_text('"hello"')


# Pausing by the page.


def test_output_is_paused_until_it_is_drawn(page: Page, service: Service) -> None:
    """The output is resumed after drawing, and nothing is lost."""
    connect(page)
    ask_server(page)
    page.evaluate("() => { holding = true; }")
    say(page, "repeat 400 block")
    fact(page, "paused", "stdout")
    (application,) = service.applications()
    until(steady(lambda: written(application)), "a pause")
    assert written(application) < 20_000_000
    page.evaluate("unhold()")
    expect(entries(page, "stdout").last).to_have_text("repeated")
    fact(page, "bytes-stdout", "40 MB")
    fact(page, "paused", "nothing")


def test_terminal_output_is_complete(page: Page) -> None:
    page.get_by_label("Name").select_option("mouse")
    connect(page)
    expect(page.get_by_label("Terminal input")).to_be_focused()
    page.keyboard.type("go\n")
    expect(screen(page)).to_contain_text("40000")
    expect(page.locator("#terminal .enable-mouse-events")).to_have_count(1)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_much_is_streamed(page: Page, full: bool) -> None:
    """Much output, half of it in each view, while the page stays responsive.

    The page keeps no more than can be saved and scrolled. The test measures the heap of
    the page at its maximum, and after garbage collection with the external buffers of
    its objects.

    At full size it also measures the growth of the resident memory of the browser's
    renderer processes during the last three quarters of the output. Memory for the
    first quarter may stay. More than 160 MB of the growth may be garbage, for any
    amount of output, depending on the speed of the machine.
    """
    much = 400 if full else 80  # MB
    connect(page, view="Terminal")
    expect(page.get_by_label("Terminal input")).to_be_focused()
    heap = Heap(page)
    page.keyboard.type(f"repeat {much * 10} block\n")
    received = "parseInt(document.getElementById('bytes-stdout').textContent)"

    def has(megabytes: int) -> bool:
        heap.sample()
        unit = page.locator("#bytes-stdout").text_content() or ""
        return unit.endswith("MB") and bool(page.evaluate(received) >= megabytes)

    until(lambda: has(much // 4), "a quarter", LONG)
    memory = renderer_memory()
    press(page, "Pause")
    state(page, "Connected, output paused")
    press(page, "Resume")
    until(lambda: has(much // 2), "a half", LONG)
    expect(screen(page)).to_contain_text("x" * 40)
    show(page, "Lines")
    page.get_by_label("Colours").uncheck()
    until(lambda: has(much), "all", LONG)
    expect(entries(page, "stdout").last).to_have_text("repeated")
    heap.collect()
    assert heap.sample() < 32 << 20
    assert heap.total() < 48 << 20
    assert heap.largest < 128 << 20
    if full:
        assert memory.growth() < much * 3 // 4 * 1_000_000
