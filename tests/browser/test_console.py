"""The console for a user in Debian's Chromium: by mouse, keyboard and screen reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from console_page import (
    applications,
    connect,
    entries,
    open_console,
    say,
    screen,
    serve,
    service,
    shared,
    show,
    state,
)
from js_runners import LONG
from page_checks import LOOKS, audit, overflow
from serve import Service, reserved, server
from websocket_peer import Peer

__all__ = ["service", "shared"]  # fixtures


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port) as found:
        yield found


# Choosing an application.


def test_an_application_is_chosen(page: Page) -> None:
    name = page.get_by_label("Name")
    expect(name).to_have_value("hostile")
    expect(page.locator("#purpose")).to_have_text("Does what it is <i>told</i>.")
    expect(page).to_have_title("Voices <b> – chimirror console")
    page.get_by_role("button", name="Manifest").click()
    expect(page.locator("#manifest")).to_contain_text('"asyncapi": "3.0.0"')
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Manifest")).to_be_focused()
    name.select_option("telling")
    expect(page.locator("#framing option")).to_have_text(["lines"])
    expect(page.locator("#framing-title")).to_have_text("One message, one line")
    assert page.url.endswith("/telling")
    page.get_by_role("button", name="Manifest").click()
    link = page.get_by_role("link", name="AsyncAPI")
    expect(link).to_have_attribute("href", "/telling/asyncapi.json")
    page.get_by_role("button", name="Close").click()
    expect(link).to_be_hidden()


def test_the_only_application(browser: Browser, tmp_path: Path) -> None:
    with (
        server(tmp_path, ["cat"], "--console") as service,
        open_console(browser, service.port, "/") as page,
    ):
        connect(page, "json")
        say(page, '{"a": 1}')
        expect(entries(page, "stdout")).to_have_text('{"a": 1}')


@pytest.mark.parametrize("said", ["no room for another connection", ""])
def test_a_server_that_has_no_room_is_asked_again(
    browser: Browser, service: Service, said: str
) -> None:
    refusals = [503]

    def refuse(route: Route) -> None:
        if refusals:
            route.fulfill(status=refusals.pop(), body=f"{said}\n")
        else:
            route.continue_()

    def prepare(page: Page) -> None:
        page.route("**/.well-known/chimirror", refuse)

    with open_console(browser, service.port, prepare=prepare) as page:
        state(page, f"Cannot read the catalog: {said or 503}")
        assert audit(page) == []
        page.get_by_role("button", name="Try again").click()
        connect(page)


def test_an_application_that_is_missing(browser: Browser, tmp_path: Path) -> None:
    """The application existed when the catalog was read."""
    directory = applications(tmp_path)
    with serve(directory) as service, open_console(browser, service.port) as page:
        (directory / "telling.toml").unlink()
        page.get_by_label("Name").select_option("telling")
        page.get_by_role("button", name="Manifest").click()
        missing = "there is no application of this name here"
        expect(page.locator("#manifest")).to_contain_text(missing)
        page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Connect", exact=True).click()
        expect(page.locator("#state")).to_contain_text(missing)


@pytest.mark.parametrize("look", LOOKS)
def test_a_server_that_is_full(browser: Browser, tmp_path: Path, look: str) -> None:
    """The page gives the reason of the server, and the time until the next attempt."""
    with (
        server(tmp_path, ["cat"], "--console", "--max-sessions=1") as service,
        service.connect() as taken,
        Peer(taken) as peer,
        open_console(browser, service.port, "/", **LOOKS[look]) as page,
    ):
        assert peer.open("/", framing="stdio").status == 101
        page.get_by_role("button", name="Connect", exact=True).click()
        reason = f"127.0.0.1:{service.port} answers: all sessions are taken"
        state(
            page,
            re.compile(f"^Not connected: {reason}; try again later, in [0-9]+ s$"),
        )
        assert audit(page) == []
        assert not overflow(page)


# A session.


@pytest.mark.parametrize("framing", ["stdio", "json", "lines"])
def test_lines(page: Page, framing: str) -> None:
    connect(page, framing)
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_text('"hello"')
    said = '"hello"' if framing == "json" else "hello"
    expect(entries(page, "stdin")).to_have_text(said)
    expect(page.get_by_label("Line to send")).to_have_value("")
    say(page, '"a\\nb"')
    expect(entries(page, "stdout").nth(1)).to_have_text('"a\\nb"')


def test_stdout_and_stderr_are_told_apart(page: Page) -> None:
    connect(page)
    say(page, "err alas")
    expect(entries(page, "stderr")).to_have_text("alas")
    expect(page.locator("#transcript .stderr .tag")).to_have_text("err")
    expect(page.locator("#bytes-stderr")).to_have_text("5 B")
    expect(page.locator("#bytes-stdin")).to_have_text("9 B")


def test_a_prompt_is_seen_before_its_line_ends(page: Page) -> None:
    connect(page)
    say(page, "prompt")
    expect(entries(page, "stdout")).to_have_text("name? ")


def test_examples_are_one_click_away(page: Page) -> None:
    page.get_by_role("button", name="hello").click()
    expect(page.get_by_label("Line to send")).to_have_value("hello")
    connect(page, "json")
    page.get_by_role("button", name='"hello"').click()
    expect(entries(page, "stdout")).to_have_text('"hello"')


@pytest.mark.parametrize(("code", "reason"), [(0, "exit 0"), (3, "exit 3")])
def test_the_exit_status(page: Page, code: int, reason: str) -> None:
    connect(page)
    say(page, f"exit {code}")
    state(page, f"Ended: {reason}")
    expect(page.locator("#exit")).to_have_text(reason)
    page.get_by_role("button", name="Reconnect").click()
    state(page, "Connected")
    expect(page.locator("#exit")).to_have_text("none yet")


def test_the_framing_that_can_do_most_is_chosen(
    browser: Browser, service: Service
) -> None:
    """For a terminal, signals and the end of input, at each position in the list."""
    with open_console(browser, service.port, "/plain") as page:
        expect(page.get_by_label("Framing", exact=True)).to_have_value("stdio")
        expect(page.get_by_role("radio", name="Terminal")).to_be_enabled()


def test_ending_the_input(page: Page) -> None:
    connect(page)
    page.get_by_role("button", name="End input").click()
    state(page, "Ended: exit 0")


def test_interrupting(page: Page) -> None:
    connect(page)
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_count(1)
    page.get_by_role("button", name="Interrupt").click()
    state(page, "Ended: signal INT")


def test_disconnecting(page: Page) -> None:
    connect(page)
    page.get_by_role("button", name="Disconnect").click()
    state(page, "Ended: closed by this page")


def test_a_receive_only_application_gets_no_input(page: Page) -> None:
    page.get_by_label("Name").select_option("telling")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(entries(page, "stdout")).to_have_text("first")
    expect(page.get_by_label("Line to send")).to_be_disabled()
    expect(page.locator("#hint")).to_have_text("This application accepts no input.")


def test_no_button_ends_an_application_that_only_sends(page: Page) -> None:
    page.get_by_label("Name").select_option("watching")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(entries(page, "stdout")).to_have_text("first")
    for name in ("Interrupt", "End input", "Send"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    show(page, "Terminal")
    page.get_by_label("Terminal input").focus()
    for key in ("Control+C", "Control+D", "x", "Enter"):
        page.keyboard.press(key)
    expect(screen(page)).not_to_contain_text("^C")
    page.get_by_role("button", name="Pause").click()  # answered after these keys
    state(page, "Connected, output paused")
    page.get_by_role("button", name="Disconnect").click()
    state(page, "Ended: closed by this page")


@pytest.mark.parametrize("query", ["?level=2", "?a=%20b&c=%C3%A9", ""])
def test_the_query_of_the_page_is_for_the_application(
    browser: Browser, service: Service, query: str
) -> None:
    with open_console(browser, service.port, f"/asked{query}") as page:
        for times in (1, 2):
            page.get_by_role("button", name=re.compile("onnect$")).first.click()
            asked = [f"asked: {query[1:]}"] * times
            expect(entries(page, "stdout")).to_have_text(asked)
            page.get_by_role("button", name="End input").click()
            state(page, "Ended: exit 0")
        assert page.url.endswith(f"/asked{query}")


def test_the_query_is_not_for_another_application(
    browser: Browser, service: Service
) -> None:
    with open_console(browser, service.port, "/hostile?level=2") as page:
        assert page.url.endswith("/hostile?level=2")
        page.get_by_label("Name").select_option("asked")
        connect(page)
        expect(entries(page, "stdout")).to_have_text("asked:")
        assert page.url.endswith("/asked")


def test_the_query_of_a_page_without_a_name(browser: Browser, tmp_path: Path) -> None:
    script = ["sh", "-c", "echo asked: $QUERY_STRING; cat"]
    with (
        server(tmp_path, script, "--console") as service,
        open_console(browser, service.port, "/?level=2") as page,
    ):
        connect(page)
        expect(entries(page, "stdout")).to_have_text("asked: level=2")


def test_a_server_that_shuts_down(browser: Browser, tmp_path: Path) -> None:
    directory = applications(tmp_path)
    with (
        serve(directory, "--drain-timeout=0") as service,
        open_console(browser, service.port) as page,
    ):
        connect(page)
        service.stop()
        state(page, "Lost: the server is shutting down")


def test_a_server_that_dies_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    directory = applications(tmp_path)
    with reserved() as port, ExitStack() as stack:
        listen = f"127.0.0.1:{port}"
        with serve(directory, listen=listen) as first:
            page = stack.enter_context(open_console(browser, port))
            connect(page)
            first.kill_all()
            lost = "the connection was lost: the network or the server has failed"
            state(page, f"Lost: {lost}")
        again = page.get_by_role("button", name="Reconnect")
        again.click()
        where = f"no reachable server answers at 127.0.0.1:{port}"
        state(page, f"Not connected: {where}")
        with serve(directory, listen=listen):
            again.click()
            state(page, "Connected")
            page.get_by_role("button", name="Disconnect").click()
            state(page, "Ended: closed by this page")


def test_traffic(page: Page) -> None:
    connect(page)
    say(page, "hello")
    expect(page.locator("#bytes-stdout")).to_have_text("8 B")
    plot = page.get_by_role("img", name="received")
    drawn = (
        "(plot) => plot.getContext('2d').getImageData(0, 0, plot.width, plot.height)"
    )
    seen = f"(plot) => new Set(({drawn})(plot).data).size"
    page.wait_for_function(f"() => ({seen})(document.getElementById('plot')) > 8")
    expect(plot).to_be_visible()


def test_the_transcript_is_saved(page: Page) -> None:
    connect(page)
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_count(1)
    say(page, "err alas")
    expect(entries(page, "stderr")).to_have_count(1)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save").click()
    saved = Path(waiting.value.path()).read_text().splitlines()
    assert waiting.value.suggested_filename.startswith("hostile-")
    said = [line.partition(" ")[2] for line in saved]
    name = page.locator("#transcript code").text_content()
    assert said == [
        f"note Session {name} of Voices <b> (hostile) (stdio): running",
        "in   hello",
        'out  "hello"',
        "in   err alas",
        "err  alas",
    ]
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#transcript")).to_be_empty()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()


# Terminal view.


def test_a_terminal(page: Page) -> None:
    connect(page, view="Terminal")
    keys = page.get_by_label("Terminal input")
    expect(keys).to_be_focused()
    page.keyboard.type("hellx")
    page.keyboard.press("Backspace")
    page.keyboard.type("o\n")
    expect(screen(page)).to_contain_text('hello"hello"')
    page.keyboard.type("err alas\n")
    red = screen(page).locator(".xterm-fg-1")
    expect(red).to_have_text("alas")
    show(page, "Lines")
    expect(entries(page, "stdin")).to_have_text(["hello", "err alas"])
    show(page, "Terminal")
    keys.focus()
    page.keyboard.press("Control+D")
    state(page, "Ended: exit 0")


def test_a_terminal_opened_late_shows_what_was_said(page: Page) -> None:
    connect(page)
    say(page, "hello")
    expect(entries(page, "stdout")).to_have_count(1)
    show(page, "Terminal")
    expect(screen(page)).to_have_text(re.compile(r'^hello"hello"\s*$'))
    page.get_by_label("Terminal input").focus()
    page.keyboard.press("Control+C")
    state(page, "Ended: signal INT")


def test_an_application_with_a_terminal_of_its_own(page: Page) -> None:
    """Every key is sent. The program has the size of the view from its start."""
    page.get_by_label("Name").select_option("sized")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("radio", name="Terminal")).to_be_checked()
    expect(page.get_by_label("Terminal input")).to_be_focused()
    page.keyboard.type("go\n")
    rows = screen(page).locator("> div").count()
    expect(screen(page)).to_contain_text(re.compile(rf"{rows}\.(\d+).*{rows}:\1"))
    page.keyboard.type("x")
    page.keyboard.press("Backspace")
    page.keyboard.type("twice\n")
    expect(screen(page)).to_contain_text("twicetwice")
    page.keyboard.press("Control+C")
    state(page, "Ended: signal INT")


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("framing", ["stdio", "json", "lines"])
def test_a_flood(page: Page, framing: str, full: bool) -> None:
    """The last lines are shown, the page stays responsive, and memory is bounded."""
    connect(page, framing)
    say(page, f"flood {100_000 if full else 10_000}")
    say(page, "hello")
    last = entries(page, "stdout").last
    expect(last).to_have_text('"hello"', timeout=LONG * 1000)
    assert page.locator("#transcript .entry").count() <= 600
    expect(page.locator("#transcript")).to_have_attribute("aria-busy", "false")


# Accessibility.


def test_by_keyboard_alone(page: Page) -> None:
    def reach(wanted: str, key: str = "Tab") -> None:
        for _ in range(40):
            if page.evaluate(f"document.activeElement.id === '{wanted}'"):
                return
            page.keyboard.press(key)
        raise AssertionError(f"no {key} reaches {wanted}")

    reach("application")
    page.keyboard.type("Voices")
    reach("framing")
    page.keyboard.press("ArrowDown")
    reach("connect")
    page.keyboard.press("Enter")
    state(page, "Connected")
    expect(page.get_by_label("Line to send")).to_be_focused()
    page.keyboard.type("hello\n")
    expect(entries(page, "stdout")).to_have_text('"hello"')
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Line to send")).to_have_value("hello")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Line to send")).to_have_value("")
    page.keyboard.type("1")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("2\n")
    expect(entries(page, "stdin").last).to_have_text('"1\\n2"')
    for each in ("transcript", "clear", "save", "disconnect", "about"):
        reach(each, "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    reach("disconnect")
    page.keyboard.press("Space")
    state(page, "Ended: closed by this page")


def test_the_keyboard_gets_out_of_the_terminal(page: Page) -> None:
    connect(page, view="Terminal")
    expect(page.get_by_label("Terminal input")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Clear")).to_be_focused()
    for name in ("Save", "End input", "Interrupt", "Pause"):
        page.keyboard.press("Shift+Tab")
        expect(page.get_by_role("button", name=name)).to_be_focused()
    for said in ("Connected, output paused", "Connected"):
        page.keyboard.press("Space")
        state(page, said)


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_finds_nothing(browser: Browser, service: Service, look: str) -> None:
    with open_console(browser, service.port, **LOOKS[look]) as page:
        assert audit(page) == []
        page.get_by_role("button", name="Manifest").click()
        assert audit(page) == []
        page.get_by_role("button", name="Close").click()
        page.get_by_text("On the server").click()
        connect(page)
        expect(page.locator("#server-facts")).to_be_visible()
        say(page, "nested")
        say(page, "err alas")
        expect(entries(page, "stderr")).to_have_count(1)
        assert audit(page) == []
        show(page, "Terminal")
        expect(screen(page)).to_contain_text("alas")
        assert audit(page) == []
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")
        assert audit(page) == []
        assert not overflow(page)
