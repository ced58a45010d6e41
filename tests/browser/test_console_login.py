"""The console logs in: with a token, a password, a cookie, and says what it cannot do.

The servers ask chimirror-authorize, or a program of the test. Chromium is real, and so
are its own login dialog and its cookies: http_credentials only fill in the dialog.
"""

from __future__ import annotations

import base64
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from authorize_program import ARGV, run, set_password
from console_page import connect, entries, say, state
from page_checks import LOOKS, audit, checked_page, overflow
from processes import descendants
from serve import Service, server

SUPPORT = Path(__file__).parents[1] / "support"
WHO = """
command = ["sh", "-c", "echo $REMOTE_USER by $AUTH_TYPE; cat"]
framing = ["stdio"]
"""
UNKNOWN = "this service has to know who you are"
LONG_NAME = "ann.of.a.long.name@department.of.a.large.company.example " * 4
HOSTILE = "<img src=x onerror=print()>\u202e"


def applications(directory: Path) -> str:
    path = directory / "apps"
    path.mkdir()
    for name in ("other", "who"):
        (path / f"{name}.toml").write_text(WHO)
    return str(path)


@contextmanager
def authorized(directory: Path, *argv: object) -> Iterator[Service]:
    """A server with a console that asks this program."""
    command = "exec:" + shlex.join(map(str, argv))
    options = ("--console", "--apps", applications(directory), "--authorize", command)
    with server(directory, [], *options) as service:
        yield service


def asking(directory: Path, **told: object) -> Any:
    """A server that asks tests/support/console_authorizer.py."""
    program = SUPPORT / "console_authorizer.py"
    return authorized(directory, sys.executable, program, json.dumps(told))


@contextmanager
def tokens(directory: Path) -> Iterator[tuple[Service, Path]]:
    """A server with chimirror-authorize and an empty file of tokens."""
    file = directory / "tokens"
    file.touch(0o600)
    with authorized(directory, *ARGV, "tokens", file) as service:
        yield service, file


def new_token(file: Path, user: str, *options: str) -> str:
    return run(*options, "token", file, user).stdout.strip()


def page_of(browser: Browser, service: Service, path: str = "/who", **more: Any) -> Any:
    return checked_page(browser, f"http://127.0.0.1:{service.port}{path}", **more)


def log_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def is_logged_in(page: Page, user: str) -> None:
    expect(page.locator("#user")).to_have_text(f"User {user}")
    expect(page.locator("#connect")).to_be_enabled()
    expect(page.get_by_label("Token")).to_be_hidden()


def reason(page: Page, text: str) -> None:
    """Expect the reason of the server."""
    expect(page.locator("#login-reason")).to_have_text(f"{UNKNOWN}: {text}")


# A token.


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


def test_a_token_of_some_applications(browser: Browser, tmp_path: Path) -> None:
    with tokens(tmp_path) as (service, file), page_of(browser, service, "/") as page:
        log_in(page, new_token(file, "bob", "--application", "who"))
        is_logged_in(page, "bob")
        expect(page.locator("#application option")).to_have_text(["who"])


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


# A password, a cookie, and anything else.


@contextmanager
def passwords(directory: Path) -> Iterator[Service]:
    """A server with the user ann and the password s:écret."""
    file = directory / "users"
    set_password(file, "ann", "s:écret")
    with authorized(directory, *ARGV, "htpasswd", file) as service:
        yield service


def test_a_password(browser: Browser, tmp_path: Path) -> None:
    """The browser asks for it, and sends it with the WebSocket too."""
    user = {"username": "ann", "password": "s:écret"}
    with (
        passwords(tmp_path) as service,
        page_of(browser, service, http_credentials=user) as page,
    ):
        is_logged_in(page, "ann")
        expect(page.get_by_role("button", name="Forget token")).to_be_hidden()
        connect(page)
        expect(entries(page, "stdout")).to_have_text("ann by Basic")
        page.get_by_role("button", name="Pause").click()
        state(page, "Connected, output paused")
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")


def test_a_wrong_password(browser: Browser, tmp_path: Path) -> None:
    user = {"username": "ann", "password": "wrong"}
    with (
        passwords(tmp_path) as service,
        page_of(browser, service, http_credentials=user) as page,
    ):
        state(page, "Not logged in")
        expect(page.locator("#login-text")).to_contain_text("a user and a password")
        reason(page, "wrong user or password")
        expect(page.get_by_label("Token")).to_be_hidden()
        again = page.get_by_role("button", name="Try again")
        expect(again).to_be_focused()
        with page.expect_response("**/.well-known/chimirror"):
            again.click()


def test_a_cookie(browser: Browser, tmp_path: Path) -> None:
    """A site logs in elsewhere, and the page is loaded again."""
    known = {"login=s3cret": {"status": 200, "user": "ann"}}
    with (
        asking(tmp_path, field="cookie", users=known) as service,
        page_of(browser, service) as page,
    ):
        state(page, "Not logged in")
        expect(page.locator("#login-text")).to_contain_text("asks for a login.")
        reason(page, "who are you?")
        cookie = {"name": "login", "value": "s3cret", "httpOnly": True}
        place = {"url": f"http://127.0.0.1:{service.port}", "sameSite": "Strict"}
        page.context.add_cookies([cookie | place])
        page.get_by_role("link", name="Load this page again").click()
        is_logged_in(page, "ann")
        connect(page)
        expect(entries(page, "stdout")).to_have_text("ann by Authorizer")
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")


def test_a_scheme_that_the_page_does_not_have(browser: Browser, tmp_path: Path) -> None:
    with (
        asking(tmp_path, field="x", users={}, challenge="DPoP algs=ES256") as service,
        page_of(browser, service) as page,
    ):
        expect(page.locator("#login-text")).to_contain_text(
            "This server asks for DPoP."
        )
        assert audit(page) == []


def test_a_proxy_that_redirects_to_its_login(browser: Browser, tmp_path: Path) -> None:
    def prepare(page: Page) -> None:
        login = {"Location": "https://login.example/"}
        page.route(
            "**/.well-known/chimirror",
            lambda route: route.fulfill(status=302, headers=login),
        )

    with (
        server(tmp_path, ["cat"], "--console") as service,
        page_of(browser, service, "/", prepare=prepare) as page,
    ):
        state(page, "Not logged in")
        reason = "a proxy in front redirects"
        expect(page.locator("#login-reason")).to_have_text(reason)


def test_a_refusal_that_no_login_changes(browser: Browser, tmp_path: Path) -> None:
    no = {"": {"status": 403, "text": "closed on Sundays"}}
    with (
        asking(tmp_path, field="x", users=no) as service,
        page_of(browser, service) as page,
    ):
        state(page, "Cannot read the catalog: closed on Sundays")
        expect(page.get_by_role("button", name="Try again")).to_be_enabled()


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
