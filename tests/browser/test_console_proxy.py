"""The console below a path of the real nginx, and pages that cannot load."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from console_page import (
    connect,
    entries,
    open_console,
    say,
    service,
    shared,
    state,
)
from nginx_proxy import SAME_HOST, UPGRADING, nginx_in_front
from page_checks import audit, checked_page
from serve import Service

__all__ = ["service", "shared"]  # fixtures

BELOW = "/term/"


def select(page: Page, name: str, port: int) -> None:
    page.get_by_label("Name").select_option(name)
    expect(page.locator("#manifest")).to_contain_text("asyncapi")
    assert page.url == f"http://127.0.0.1:{port}{BELOW}{name}"


@pytest.mark.parametrize("path", ["", "hostile?level=2", "hostile/"])
def test_below_a_path_of_a_proxy(
    browser: Browser, service: Service, tmp_path: Path, path: str
) -> None:
    with (
        nginx_in_front(
            tmp_path, service.port, UPGRADING, SAME_HOST, location=BELOW, path="/"
        ) as port,
        open_console(browser, port, BELOW + path) as page,
    ):
        expect(page.locator("#unloaded")).to_have_count(0)
        select(page, "asked", port)
        connect(page)
        expect(entries(page, "stdout")).to_have_text("asked:")
        page.get_by_role("button", name="End input").click()
        state(page, "Ended: exit 0")
        select(page, "hostile", port)
        page.reload()
        expect(page.get_by_label("Name")).to_have_value("hostile")
        connect(page, "json")
        say(page, "hello")
        expect(entries(page, "stdout")).to_have_text('"hello"')
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")
        page.get_by_role("button", name="Manifest").click()
        link = page.get_by_role("link", name="AsyncAPI")
        expect(link).to_have_attribute("href", f"{BELOW}hostile/asyncapi.json")


@pytest.mark.parametrize("path", ["/asked/", "/asked/?level=2"])
def test_a_slash_at_the_end(browser: Browser, service: Service, path: str) -> None:
    with open_console(browser, service.port, path) as page:
        connect(page)
        expect(entries(page, "stdout")).to_have_text(
            f"asked: {path.partition('?')[2]}".strip()
        )
        page.get_by_role("button", name="End input").click()
        state(page, "Ended: exit 0")


UNLOADED = "The parts of this page have not arrived."


def test_a_proxy_that_passes_on_the_page_alone(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    """Without a slash at its end, the address has its parts elsewhere."""
    with (
        nginx_in_front(
            tmp_path,
            service.port,
            UPGRADING,
            SAME_HOST,
            location="/term",
            path="/",
        ) as port,
        checked_page(browser, f"http://127.0.0.1:{port}/term") as page,
    ):
        expect(page.locator("#unloaded")).to_be_visible()
        expect(page.locator("#unloaded")).to_contain_text(UNLOADED)
        expect(page.locator("#unloaded")).to_contain_text("ends in a slash")
        assert audit(page) == []


@pytest.mark.parametrize("name", ["console.js", "plot.js"])
@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_script_that_does_not_arrive(
    browser: Browser, service: Service, name: str, look: str
) -> None:
    def prepare(page: Page) -> None:
        page.route(f"**/{name}", lambda route: route.abort())

    address = f"http://127.0.0.1:{service.port}/hostile"
    with checked_page(browser, address, prepare=prepare, color_scheme=look) as page:
        expect(page.locator("#unloaded")).to_be_visible()
        assert audit(page) == []


def test_a_catalog_that_does_not_arrive(browser: Browser, service: Service) -> None:
    pages = ["<h1>Home</h1>", "<h1>Not here</h1>"]
    statuses = [200, 404]

    def answer(route: Route) -> None:
        if pages:
            route.fulfill(
                status=statuses.pop(), body=pages.pop(), content_type="text/html"
            )
        else:
            route.continue_()

    def prepare(page: Page) -> None:
        page.route("**/.well-known/chimirror", answer)

    address = f"http://127.0.0.1:{service.port}/hostile"
    with checked_page(browser, address, prepare=prepare) as page:
        state(page, "Cannot read the catalog: 404")
        assert audit(page) == []
        page.get_by_role("button", name="Try again").click()
        missing = "a proxy in front does not pass on /.well-known/chimirror"
        state(page, f"Cannot read the catalog: {missing}")
        page.get_by_role("button", name="Try again").click()
        state(page, "Not connected")
