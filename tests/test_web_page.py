"""What chimirror.js can tell and must bear in a page alone.

Law: a browser that says nothing of a refusal is asked what it would say of the same
address as a page of its own: where the origin is the server's own, that is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from launch import reserved, server
from pages import CASES, MODULE
from players import LONG, Chromium, Heap, chromium
from settling import until


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as found:
        yield found


def message(told: Any) -> str:
    assert (told["name"], told["kind"]) == ("ChimirrorError", "refused")
    text: str = told["message"]
    return text


def test_a_policy_that_forbids(browser: Chromium, tmp_path: Path) -> None:
    origin = ("--origin", browser.origin)
    with (
        server(tmp_path, ["cat"], *origin) as service,
        browser.page("ws://127.0.0.1:1") as page,
    ):
        play = browser.perform(page, "refused", f"ws://127.0.0.1:{service.port}/")
        policy = "the page's Content-Security-Policy has no connect-src for"
        assert message(play.result()) == f"{policy} 127.0.0.1:{service.port}"


def provide(route: Route) -> None:
    """Our files, from the server's own origin."""
    name = route.request.url.rpartition("/")[2]
    route.fulfill(path=MODULE if name == MODULE.name else CASES / name)


@pytest.fixture
def own(browser: Chromium) -> Iterator[Page]:
    """A page that may have any origin."""
    with browser.browser.new_context() as context:
        for name in ("page.html", "page.js", "cases.js", "chimirror.js"):
            context.route(f"**/{name}", provide)
        yield context.new_page()


def refusal(browser: Chromium, page: Page, port: int, path: str = "") -> str:
    page.goto(f"http://127.0.0.1:{port}/page.html")
    page.wait_for_function("() => globalThis.ready")
    return message(browser.perform(page, "refused", f"/{path}").result())


def test_an_origin_of_the_server_itself(
    browser: Chromium, own: Page, tmp_path: Path
) -> None:
    with server(tmp_path, ["cat"], "--framing", "json") as service:
        said = refusal(browser, own, service.port)
    assert said.startswith(f"127.0.0.1:{service.port} answers, but starts no session")


def test_a_reason_that_the_server_gives(
    browser: Chromium, own: Page, tmp_path: Path
) -> None:
    (tmp_path / "cat.toml").write_text('command = ["cat"]\n')
    with server(tmp_path, [], "--apps", str(tmp_path)) as service:
        said = refusal(browser, own, service.port, "dog")
    assert said.startswith(
        f"127.0.0.1:{service.port} answers: there is no application of this name"
    )


def test_nothing_answers(browser: Chromium, own: Page) -> None:
    with reserved() as port:
        said = refusal(browser, own, port)
    assert said == f"nothing that can be reached answers at 127.0.0.1:{port}"


@pytest.mark.timeout(180)
def test_the_heap_of_a_page_is_flat(browser: Chromium, tmp_path: Path) -> None:
    script = ["sh", "-c", "read go; head -c 200000000 /dev/zero"]
    with (
        server(tmp_path, script, "--origin", browser.origin) as service,
        browser.play("flood", f"ws://127.0.0.1:{service.port}/") as play,
    ):
        play.said(1)
        heap = Heap(play.page)
        play.cue()

        def ended() -> bool:
            heap.look()
            return len(play.told()) > 1

        until(ended, "the end of 200 MB", LONG)
        play.cue()
        play.result()
    assert 0 < heap.largest < 32 << 20
