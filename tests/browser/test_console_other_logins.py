"""The console logs in with a password or a cookie, and says what it cannot do.

Chromium's own login dialog and its cookies are real: http_credentials only fill in the
dialog.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import connect, entries, state
from identity_servers import PASSWORD, asking, passwords
from login_page import is_logged_in, page_of, reason
from page_checks import audit
from serve import server


def test_a_password(browser: Browser, tmp_path: Path) -> None:
    """The browser asks for it, and sends it with the WebSocket too."""
    user = {"username": "ann", "password": PASSWORD}
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
        expect(page.locator("#login-text")).to_contain_text("local socket or a cookie")
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


@pytest.mark.parametrize(
    ("challenge", "text"),
    [
        ("DPoP algs=ES256", "This server asks for DPoP."),
        ('Chimirror sources="proxy"', "A proxy in front, a certificate, a local"),
    ],
)
def test_a_scheme_that_the_page_does_not_have(
    browser: Browser, tmp_path: Path, challenge: str, text: str
) -> None:
    with (
        asking(tmp_path, field="x", users={}, challenge=challenge) as service,
        page_of(browser, service) as page,
    ):
        expect(page.locator("#login-text")).to_contain_text(text)
        expect(page.locator("#login-text")).to_contain_text("load this page again")
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
