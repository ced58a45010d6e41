"""The console logs in with a token, and keeps it in memory alone.

The server asks chimirror-authorize, or a program of the test.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from console_page import connect, entries, say, state
from identity_servers import WHO, asking, new_token, tokens
from login_page import is_logged_in, log_in, page_of, reason
from page_checks import LOOKS, audit, overflow
from processes import descendants
from serve import Service, server

LONG_NAME = "ann.of.a.long.name@department.of.a.large.company.example " * 4
HOSTILE = "<img src=x onerror=print()>\u202e"


def test_a_token(browser: Browser, tmp_path: Path) -> None:
    """It opens a session with its control connection, until it is forgotten."""
    with tokens(tmp_path) as (service, file), page_of(browser, service) as page:
        state(page, "Not logged in")
        expect(page.locator("#login-text")).to_have_text(
            "This server asks for a token."
        )
        expect(page.get_by_role("button", name="Connect", exact=True)).to_be_hidden()
        log_in(page, f" {new_token(file, 'ann')}\n")
        is_logged_in(page, "ann")
        state(page, "Not connected")
        page.get_by_role("button", name="Manifest").click()
        expect(page.locator("#manifest")).to_contain_text('"asyncapi": "3.0.0"')
        link = page.get_by_role("link", name="AsyncAPI")
        expect(link).to_be_hidden()  # it would come without the token
        page.keyboard.press("Escape")
        connect(page)
        expect(entries(page, "stdout")).to_have_text("ann by Bearer")
        forget = page.get_by_role("button", name="Forget token")
        expect(forget).to_be_disabled()
        page.get_by_role("button", name="Pause").click()
        state(page, "Connected, output paused")
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")
        forget.click()
        state(page, "Not logged in")
        expect(page.get_by_label("Token")).to_be_focused()
        expect(page.locator("#identity")).to_be_hidden()


def test_a_wrong_token(browser: Browser, tmp_path: Path) -> None:
    """The keyboard is enough for another attempt."""
    with tokens(tmp_path) as (service, file), page_of(browser, service) as page:
        token = new_token(file, "ann")
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type("two words")
        page.keyboard.press("Enter")
        text = "A token has letters, digits and -._~+/ alone, and = at its end."
        expect(page.locator("#login-text")).to_have_text(text)
        page.keyboard.press("Control+A")
        page.keyboard.type(f"{token}x")
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Log in")).to_be_focused()
        page.keyboard.press("Enter")
        state(page, "The token was refused")
        expect(page.get_by_label("Token")).to_be_focused()
        expect(page.get_by_label("Token")).to_have_value("")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        is_logged_in(page, "ann")
        expect(page.get_by_role("button", name="Connect", exact=True)).to_be_focused()


def test_a_token_of_some_applications(browser: Browser, tmp_path: Path) -> None:
    with tokens(tmp_path) as (service, file), page_of(browser, service, "/") as page:
        log_in(page, new_token(file, "bob", "--application", "who"))
        is_logged_in(page, "bob")
        expect(page.locator("#application option")).to_have_text(["who"])


def restrict(directory: Path) -> None:
    """Add the application vip, which is for ann alone."""
    (directory / "apps" / "vip.toml").write_text(f'{WHO}users = ["ann"]\n')


def test_a_token_for_an_application_of_some_users(
    browser: Browser, tmp_path: Path
) -> None:
    """Its address asks to log in, where other applications need no user."""
    with (
        tokens(tmp_path, "--allow-anonymous") as (service, file),
        page_of(browser, service) as page,
    ):
        restrict(tmp_path)
        state(page, "Not connected")
        expect(page.locator("#identity")).to_be_hidden()
        page.goto(f"http://127.0.0.1:{service.port}/vip")
        state(page, "Not logged in")
        reason(page, "this application is not for everybody")
        log_in(page, new_token(file, "ann"))
        is_logged_in(page, "ann")
        expect(page.get_by_label("Name")).to_have_value("vip")
        connect(page)
        expect(entries(page, "stdout")).to_have_text("ann by Bearer")
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")


def test_an_application_of_others(browser: Browser, tmp_path: Path) -> None:
    with tokens(tmp_path) as (service, file):
        restrict(tmp_path)
        with page_of(browser, service, "/vip") as page:
            log_in(page, new_token(file, "bob"))
            state(page, "bob is not one of the users of this application")
            is_logged_in(page, "bob")
            expect(page.locator("#application option")).to_have_text(["other", "who"])
            assert audit(page) == []


def test_a_token_that_is_revoked(browser: Browser, tmp_path: Path) -> None:
    """The next session asks again, and then has the same application."""
    with tokens(tmp_path) as (service, file), page_of(browser, service) as page:
        log_in(page, new_token(file, "ann"))
        is_logged_in(page, "ann")
        file.write_text("")
        page.get_by_role("button", name="Connect", exact=True).click()
        state(page, "The token was refused")
        expect(page.locator("#identity")).to_be_hidden()
        assert audit(page) == []
        log_in(page, new_token(file, "bob"))
        is_logged_in(page, "bob")
        expect(page.get_by_label("Name")).to_have_value("who")
        page.get_by_role("button", name="Reconnect").click()
        expect(entries(page, "stdout")).to_have_text("bob by Bearer")
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")


STORED = """async () => JSON.stringify([
  Object.entries(localStorage), Object.entries(sessionStorage), document.cookie,
  history.state, location.href, (await indexedDB.databases()).length,
  await caches.keys(), document.documentElement.outerHTML,
  [...document.querySelectorAll("input, textarea")].map(({ value }) => value),
])"""


def test_a_token_stays_in_memory(browser: Browser, tmp_path: Path) -> None:
    """It is in no storage, no address, no log, no record and no process list."""
    asked: list[str] = []

    def watch(request: Request) -> None:
        asked.append(request.url)

    def prepare(page: Page) -> None:
        page.on("request", watch)
        page.on("websocket", lambda found: asked.append(found.url))

    with tokens(tmp_path) as (service, file):
        token = new_token(file, "ann")
        encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        with page_of(browser, service, prepare=prepare) as page:
            log_in(page, token)
            is_logged_in(page, "ann")
            connect(page)
            say(page, "hello")
            expect(entries(page, "stdout")).to_have_text(["ann by Bearer", "hello"])
            kept = page.evaluate(STORED)
            public = processes_of(service)
            page.get_by_role("button", name="Disconnect").click()
            state(page, "Ended: closed by this page")
            page.reload()
            state(page, "Not logged in")
        service.await_ends(1)
        told = [kept, *asked, service.log.read_text(), public]
        assert any("REMOTE_USER=ann" in each for each in told)
        assert not [each for each in told if token in each or encoded in each]


def processes_of(service: Service) -> str:
    """Return what ps(1) and /proc show of all processes of a server."""
    pids = [service.pid, *(each.pid for each in descendants(service.pid))]
    files = [Path(f"/proc/{pid}") / name for pid in pids for name in SHOWN]
    return b"\n".join(file.read_bytes() for file in files).decode("latin-1")


SHOWN = ("environ", "cmdline", "comm")


@pytest.mark.parametrize("look", LOOKS)
def test_looks(browser: Browser, tmp_path: Path, look: str) -> None:
    known = {
        "Bearer long": {"status": 200, "user": LONG_NAME.strip()},
        "Bearer broken": {"status": 503},
        "Bearer hostile": {"status": 401, "text": HOSTILE},
    }
    with (
        asking(tmp_path, field="authorization", users=known, challenge="Bearer") as it,
        page_of(browser, it, **LOOKS[look]) as page,
    ):
        state(page, "Not logged in")
        assert (audit(page), overflow(page)) == ([], 0)
        log_in(page, "hostile")
        state(page, "The token was refused")
        shown = HOSTILE.replace("\u202e", r"\u202e")  # the server escapes it
        reason(page, shown)
        assert (audit(page), overflow(page)) == ([], 0)
        log_in(page, "broken")
        expect(page.locator("#user")).to_have_text("With a token")
        cause = "it cannot be found out who you are; try again later"
        state(page, f"Cannot read the catalog: {cause}")
        assert (audit(page), overflow(page)) == ([], 0)
        page.get_by_role("button", name="Forget token").click()
        log_in(page, "long")
        is_logged_in(page, LONG_NAME.strip())
        assert (audit(page), overflow(page)) == ([], 0)


def test_no_identity(browser: Browser, tmp_path: Path) -> None:
    with (
        server(tmp_path, ["cat"], "--console") as service,
        page_of(browser, service, "/") as page,
    ):
        state(page, "Not connected")
        expect(page.locator("#identity")).to_be_hidden()
        expect(page.get_by_label("Token")).to_be_hidden()
