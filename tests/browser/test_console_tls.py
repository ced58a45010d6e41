"""The console of a server with a certificate: its page, its session, its list."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from console_page import applications, connect, entries, serve, state
from tls_authority import Authority, authority, stranger
from tls_peers import tls_options

__all__ = ["authority", "stranger"]  # fixtures


def test_console_over_tls(
    browser: Browser, tmp_path: Path, authority: Authority
) -> None:
    """Chromium does not know the authority of this test."""
    directory = applications(tmp_path)
    with serve(directory, *tls_options(authority)) as service:
        page = browser.new_page(ignore_https_errors=True)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        try:
            page.goto(f"https://127.0.0.1:{service.port}/asked?x")
            expect(page.locator("#manifest")).to_contain_text('"protocol": "wss"')
            connect(page)
            expect(entries(page, "stdout")).to_have_text("asked: x")
            page.get_by_role("button", name="End input").click()
            state(page, "Ended: exit 0")
            assert faults == []
        finally:
            page.close()
