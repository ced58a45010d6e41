"""The console of a server that asks who its clients are."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser, Page, expect

from identity_servers import UNKNOWN
from page_checks import checked_page
from serve import Service


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
