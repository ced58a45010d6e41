"""The console of a server with --base-path below a path of the real nginx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from console_page import (
    applications,
    connect,
    entries,
    open_console,
    serve,
    state,
    without_sessions,
)
from nginx_proxy import SAME_HOST, UPGRADING, nginx_in_front
from serve import Service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = applications(tmp_path_factory.mktemp("console"))
    with serve(directory, "--base-path", "/term") as found:
        yield found


@pytest.mark.parametrize(
    ("location", "path"),
    [("/term", ""), ("/term/", ""), ("/term/", "/")],
    ids=["passed-on", "below-passed-on", "removed"],
)
@pytest.mark.parametrize("start", ["/term", "/term/", "/term/asked/?x"])
def test_below_a_path_of_a_proxy(
    browser: Browser,
    shared: Service,
    tmp_path: Path,
    location: str,
    path: str,
    start: str,
) -> None:
    with (
        without_sessions(shared),
        nginx_in_front(
            tmp_path,
            shared.port,
            UPGRADING,
            SAME_HOST,
            location=location,
            path=path,
        ) as port,
        open_console(browser, port, start) as page,
    ):
        expect(page.locator("#unloaded")).to_have_count(0)
        if "asked" not in start:
            page.get_by_label("Name").select_option("asked")
        expect(page.locator("#manifest")).to_contain_text('"pathname": "/term"')
        query = start.partition("?")[1:]
        assert page.url == f"http://127.0.0.1:{port}/term/asked{''.join(query)}"
        connect(page)
        expect(entries(page, "stdout")).to_have_text(f"asked: {query[1]}".strip())
        page.get_by_role("button", name="End input").click()
        state(page, "Ended: exit 0")
        link = page.locator("#manifest-link")
        expect(link).to_have_attribute("href", "/term/asked/asyncapi.json")
