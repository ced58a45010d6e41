"""chimirror.js in a page: policies, origins, and reasons for a refusal.

A browser gives no reason for a refused WebSocket. A page of the server's own origin
therefore requests the same address with a plain GET and reports its response.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Route

from js_runners import LONG, Chromium, Heap, pages
from nginx_proxy import SAME_HOST, UPGRADING, nginx_in_front
from page_server import CASES, MODULE
from processes import until
from serve import reserved, server
from static_site import static_site
from websocket_peer import Peer


@pytest.fixture(scope="module")
def runner(browser: Browser) -> Iterator[Chromium]:
    with pages(browser) as found:
        yield found


def message(result: Any) -> str:
    assert (result["name"], result["kind"]) == ("ChimirrorError", "refused")
    text: str = result["message"]
    return text


def test_a_policy_that_forbids(runner: Chromium, tmp_path: Path) -> None:
    origin = ("--origin", runner.origin)
    with (
        server(tmp_path, ["cat"], *origin) as service,
        runner.page("ws://127.0.0.1:1") as page,
    ):
        running_case = runner.perform(
            page, "refused", f"ws://127.0.0.1:{service.port}/"
        )
        policy = "the page's Content-Security-Policy has no connect-src for"
        assert message(running_case.result()) == f"{policy} 127.0.0.1:{service.port}"


def provide(route: Route) -> None:
    """Serve the files of the package from the server's own origin."""
    name = route.request.url.rpartition("/")[2]
    route.fulfill(path=MODULE if name == MODULE.name else CASES / name)


@pytest.fixture
def own(browser: Browser) -> Iterator[Page]:
    """A page without a fixed origin."""
    with browser.new_context() as context:
        for name in ("page.html", "page.js", "cases.js", "chimirror.js"):
            context.route(f"**/{name}", provide)
        yield context.new_page()


def refusal(runner: Chromium, page: Page, port: int, path: str = "") -> str:
    page.goto(f"http://127.0.0.1:{port}/page.html")
    page.wait_for_function("() => globalThis.ready")
    return message(runner.perform(page, "refused", f"/{path}").result())


def test_a_framing_that_is_not_served(
    runner: Chromium, own: Page, tmp_path: Path
) -> None:
    with server(tmp_path, ["cat"], "--framing", "json") as service:
        said = refusal(runner, own, service.port)
    assert said == (
        f"127.0.0.1:{service.port} answers: no subprotocol that is served here was "
        "offered; ours: chimirror.json.v1"
    )


def test_an_origin_that_a_proxy_hides(
    runner: Chromium, own: Page, tmp_path: Path
) -> None:
    """The origin of the page is not the Host that the server gets."""
    with (
        server(tmp_path, ["cat"]) as service,
        nginx_in_front(tmp_path, service.port, UPGRADING) as port,
    ):
        said = refusal(runner, own, port)
    assert said == (
        f'127.0.0.1:{port} answers: Origin "http://127.0.0.1:{port}" is not allowed '
        f"here; start with --origin http://127.0.0.1:{port} to allow it"
    )


def test_a_proxy_without_websocket(runner: Chromium, own: Page, tmp_path: Path) -> None:
    with server(tmp_path, ["cat"]) as service:
        old = "proxy_http_version 1.0;"
        with nginx_in_front(tmp_path, service.port, old) as port:
            said = refusal(runner, own, port)
        assert said.startswith(f"127.0.0.1:{port} answers: a WebSocket handshake over")
        newer = "proxy_http_version 1.1;"
        with nginx_in_front(tmp_path, service.port, newer, SAME_HOST) as port:
            said = refusal(runner, own, port)
        assert said.startswith(f"127.0.0.1:{port} would start a session now")
        assert "a proxy in between does not pass on WebSocket" in said


def test_a_proxy_without_its_server(
    runner: Chromium, own: Page, tmp_path: Path
) -> None:
    with reserved() as gone, nginx_in_front(tmp_path, gone, UPGRADING) as port:
        said = refusal(runner, own, port)
    assert said == f"127.0.0.1:{port} answers: 502 Bad Gateway"


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("--max-sessions", "all sessions are taken"),
        ("--max-sessions-per-source", "all sessions of this address are taken"),
    ],
)
def test_a_server_without_room(
    runner: Chromium, own: Page, tmp_path: Path, limit: str, reason: str
) -> None:
    with (
        server(tmp_path, ["cat"], limit, "1") as service,
        service.connect() as taken,
        Peer(taken) as peer,
    ):
        assert peer.open("/", framing="stdio").status == 101
        own.goto(f"http://127.0.0.1:{service.port}/page.html")
        own.wait_for_function("() => globalThis.ready")
        result = runner.perform(own, "refused", "/").result()
    place = f"127.0.0.1:{service.port}"
    assert message(result) == f"{place} answers: {reason}; try again later"


def test_a_program_that_has_gone(runner: Chromium, own: Page, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.symlink_to("/bin/cat")
    with server(tmp_path, [str(program)]) as service:
        program.unlink()
        said = refusal(runner, own, service.port)
    assert said.endswith("answers: the application could not be started")


def test_a_reason_that_the_server_gives(
    runner: Chromium, own: Page, tmp_path: Path
) -> None:
    (tmp_path / "cat.toml").write_text('command = ["cat"]\n')
    with server(tmp_path, [], "--apps", str(tmp_path)) as service:
        said = refusal(runner, own, service.port, "dog")
    assert said.startswith(
        f"127.0.0.1:{service.port} answers: there is no application of this name"
    )


IMPORT = "(url) => import(url + '/.well-known/chimirror.js')"
USE = f"""async ([own, url]) => {{
  const {{ connect }} = await ({IMPORT})(url);
  const session = await connect(own ? "/" : url);
  await session.eof();
  return (await session.exit).reason;
}}"""


def test_the_server_serves_the_module(browser: Browser, tmp_path: Path) -> None:
    """To its own pages, and to those of an origin that it allows."""
    with (
        static_site(CASES) as origin,
        server(tmp_path, ["cat"], "--web-client", "--origin", origin) as service,
        server(tmp_path, ["cat"], "--web-client") as closed,
        browser.new_context() as context,
    ):
        url = f"http://127.0.0.1:{service.port}"
        page = context.new_page()
        page.goto(url)
        assert page.evaluate(USE, [True, url]) == "exit 0"
        page.goto(f"{origin}/cases.js")
        assert page.evaluate(USE, [False, url]) == "exit 0"
        with pytest.raises(Error, match="Failed to fetch dynamically imported"):
            page.evaluate(IMPORT, f"http://127.0.0.1:{closed.port}")


def test_nothing_answers(runner: Chromium, own: Page) -> None:
    with reserved() as port:
        said = refusal(runner, own, port)
    assert said == f"no reachable server answers at 127.0.0.1:{port}"


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_heap_of_a_page_is_flat(
    runner: Chromium, tmp_path: Path, full: bool
) -> None:
    much = 200_000_000 if full else 80_000_000
    script = ["sh", "-c", f"read go; head -c {much} /dev/zero"]
    with (
        server(tmp_path, script, "--origin", runner.origin) as service,
        runner.run_case("flood", f"ws://127.0.0.1:{service.port}/") as running_case,
    ):
        running_case.wait_for_messages(1)
        heap = Heap(running_case.page)
        running_case.cue()

        def ended() -> bool:
            heap.sample()
            return len(running_case.messages()) > 1

        until(ended, f"the end of {much} bytes", LONG)
        heap.collect()
        assert heap.total() < 32 << 20
        running_case.cue()
        running_case.result()
    assert 0 < heap.largest < 32 << 20
