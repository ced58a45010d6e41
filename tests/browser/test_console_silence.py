"""A page whose connection is silent: found dead in time, and never too early.

A page in a browser cannot see pings. The server sends messages in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

from console_page import connect, entries, open_console, say, state
from page_checks import LOOKS, audit, overflow
from serve import server
from silent_link import SilentLink

PINGS = ("--ping-interval", "1", "--ping-timeout", "1")
HOUR = 3_600_000  # ms
LOST = "Lost: the connection was lost: nothing has arrived for"


def count_alive(page: Page, enough: int) -> Callable[[], None]:
    """Return a function that waits for that many messages of the server."""
    seen: list[str] = []

    def on_socket(opened: WebSocket) -> None:
        opened.on("framereceived", lambda text: seen.append(str(text)))

    page.on("websocket", on_socket)

    def wait() -> None:
        while sum('"alive"' in each for each in seen) < enough:
            with page.expect_event("console"):  # serves the events of the sockets
                page.evaluate("setTimeout(() => console.log('turn'), 50)")

    return wait


@pytest.mark.parametrize("look", LOOKS)
def test_a_dead_link_is_noticed(browser: Browser, tmp_path: Path, look: str) -> None:
    with (
        server(tmp_path, ["cat"], "--console", *PINGS) as service,
        SilentLink(service.port) as link,
        open_console(browser, link.port, "/", **LOOKS[look]) as page,
    ):
        connect(page)
        say(page, "hello")
        expect(entries(page, "stdout")).to_have_text("hello")
        link.swallow()
        state(page, f"{LOST} 2 s")
        expect(page.get_by_role("button", name="Reconnect")).to_be_enabled()
        assert audit(page) == []
        assert not overflow(page)


def test_a_quiet_application_is_not_lost(browser: Browser, tmp_path: Path) -> None:
    waits: list[Callable[[], None]] = []
    with (
        server(tmp_path, ["cat"], "--console", *PINGS) as service,
        open_console(
            browser,
            service.port,
            "/",
            prepare=lambda page: waits.append(count_alive(page, 4)),
        ) as page,
    ):
        connect(page)
        waits[0]()
        say(page, "hello")
        expect(entries(page, "stdout")).to_have_text("hello")
        state(page, "Connected")


def test_the_time_is_that_of_the_server(browser: Browser, tmp_path: Path) -> None:
    pings = ("--ping-interval", "1h", "--ping-timeout", "1h")
    with (
        server(tmp_path, ["cat"], "--console", *pings) as service,
        open_console(
            browser, service.port, "/", prepare=lambda page: page.clock.install()
        ) as page,
    ):
        connect(page)
        page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))
        page.clock.run_for(2 * HOUR - 90_000)
        state(page, "Connected")
        page.clock.run_for(60_000)
        state(page, f"{LOST} 7200 s")


def test_a_late_timer_is_no_silence(browser: Browser, tmp_path: Path) -> None:
    """As after a sleep of the machine, whose messages wait behind the timer."""
    pings = ("--ping-interval", "1h", "--ping-timeout", "1h")
    with (
        server(tmp_path, ["cat"], "--console", *pings) as service,
        open_console(
            browser, service.port, "/", prepare=lambda page: page.clock.install()
        ) as page,
    ):
        connect(page)
        for times in range(1, 4):
            page.clock.fast_forward(5 * HOUR)
            state(page, "Connected")
            say(page, "hello")
            expect(entries(page, "stdout")).to_have_text(["hello"] * times)
        page.clock.fast_forward(5 * HOUR)
        page.clock.fast_forward(5 * HOUR)
        state(page, f"{LOST} 7200 s")


@pytest.mark.parametrize("options", [("--ping-interval", "0"), ()])
def test_only_a_server_with_pings_is_watched(
    browser: Browser, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with (
        server(tmp_path, ["cat"], "--console", *options) as service,
        open_console(
            browser, service.port, "/", prepare=lambda page: page.clock.install()
        ) as page,
    ):
        connect(page, "json" if not options else "stdio")
        page.clock.run_for(HOUR // 10)
        say(page, '"hello"')
        expect(entries(page, "stdout")).to_have_text('"hello"')
        state(page, "Connected")
