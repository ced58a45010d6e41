"""A login at an OpenID provider, in Chromium, with Apache in front of the server.

Apache sends a page without a login to the provider and takes its answer. The server
believes the name that Apache gives it.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from console_page import connect, entries, say, state
from login_proxies import USER
from oidc_login import openid_front
from page_checks import PATIENCE
from serve import Service, server
from websocket_peer import Peer, upgrade

SHOW = ["sh", "-c", "echo $REMOTE_USER by $AUTH_TYPE; env >&2; exec cat"]
OPTIONS = ("--console", "--framing=stdio", "--trusted-proxy=127.0.0.1")


def log_in(page: Page, name: str) -> None:
    """Fill in the forms of the provider: login and consent."""
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("secret of hers")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_login_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    options = (*OPTIONS, "--user-header", USER)
    with (
        server(tmp_path, SHOW, *options) as behind,
        openid_front(tmp_path, behind.port) as front,
        browser.new_context() as context,
    ):
        refuses_others(front, behind)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{front.port}/?x=1")
        log_in(page, "anna")
        page.wait_for_url(f"http://127.0.0.1:{front.port}/?x=1")
        connect(page)
        expect(entries(page, "stdout")).to_have_text("anna by Proxy")
        say(page, "hello")
        expect(entries(page, "stdout")).to_have_text(["anna by Proxy", "hello"])
        expect(entries(page, "stderr").first).to_be_visible()
        shown = "\n".join(entries(page, "stderr").all_inner_texts())
        assert "HTTP_COOKIE" not in shown
        assert "OIDC" not in shown
        page.get_by_role("button", name="End input").click()
        state(page, "Ended: exit 0")
        assert re.search(r"of anna .*started", behind.log.read_text())


def refuses_others(front: Service, behind: Service) -> None:
    """A client without a login goes to the provider, and nothing starts."""
    forged = f"{USER}: root"
    with Peer(front.connect()) as peer:
        peer.send_raw(upgrade("/", "stdio", (forged,)))
        reply = peer.head()
        assert reply.status in {302, 401}
    address = ("127.0.0.1", behind.port)
    connection = socket.create_connection(address, source_address=("127.0.0.2", 0))
    with Peer(connection) as peer:
        peer.send_raw(upgrade("/", "stdio", (forged,)))
        assert peer.refusal().status == 401
    assert not behind.applications()
