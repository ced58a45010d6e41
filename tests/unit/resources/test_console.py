"""The console page and its files over raw sockets: access, headers, content."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chimirror
from app_servers import bridges, servers
from chimirror.resources import console, static_response
from chimirror.session.connection import CLOSED
from session_harness import SessionHarness
from websocket_peer import Reply

WEB = Path(chimirror.__file__).parent / "web"
ASSETS = "/.well-known/chimirror/assets/"
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "connection": "close",
}
HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
CONSOLE = ("--console",)


def get(target: str, *arguments: str, fields: str = HTML, method: str = "GET") -> Reply:
    """Send one request and return its response. No application is started."""
    with SessionHarness(*(arguments or CONSOLE)) as harness:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost:30747\r\n{fields}\r\n"
        harness.ask(head.encode())
        assert not harness.application.started
        return parsed(b"".join(pieces(harness)))


def pieces(harness: SessionHarness) -> Iterator[bytes]:
    """Receive pieces until the end of the response."""
    while piece := harness.client.recv(1 << 16):
        yield piece
        harness.settle()


def parsed(answer: bytes) -> Reply:
    start, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = start.decode("ascii").split("\r\n")
    fields = [line.partition(": ") for line in lines]
    return Reply(int(status[9:12]), {k.lower(): v for k, _, v in fields}, body)


def prefix() -> str:
    found = re.search(rf'"\.({ASSETS}[0-9a-f]+/)console.js"', get("/").body.decode())
    assert found
    return found[1]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "apps"
    path.mkdir()
    (path / "game.toml").write_text('command = ["cat"]\n')
    return path


# The page


def test_the_page() -> None:
    reply = get("/")
    assert reply.status == 200
    fields = dict(reply.fields)
    assert re.fullmatch(r'"[0-9a-f]{32}"', fields.pop("etag"))
    assert fields == SECURITY | {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(reply.body)),
        "cache-control": "no-cache",
        "vary": "Accept",
    }


def test_the_page_is_the_same_for_all(directory: Path) -> None:
    """The page contains nothing of the request or the application."""
    page = get("/")
    arguments = ("--console", "--apps", str(directory))
    fields = f"{HTML}User-Agent: <script>alert(1)</script>\r\n"
    for target in ("/?x=<script>", "/game", "/game?%3Cscript%3E"):
        assert get(target, *arguments, fields=fields) == page
    below = get("/game/", *arguments, fields=fields).body
    assert below == page.body.replace(b'"./.well', b'"../.well')


def test_page_loads_existing_files() -> None:
    named = re.findall(r'(?:href|src)="([^"]+)"', get("/").body.decode())
    assert {name.partition(prefix())[0] for name in named} == {".", "asyncapi.json"}
    for name in named[:4]:
        assert get(name.removeprefix(".")).status == 200


@pytest.mark.parametrize("target", ["/", "/a&b", "/a&b/", "/a&b/x", "/x"])
def test_page_below_the_path_of_a_proxy_names_it(target: str, directory: Path) -> None:
    (directory / "x.toml").write_text('command = ["cat"]')
    arguments = ("--console", "--apps", str(directory), "--base-path", "/a&b")
    page = get(target, *arguments).body.decode()
    found = re.findall(rf'="([^"]+)({ASSETS}[^"]+)"', page)
    assert found
    for start, rest in found:
        assert start == "/a&amp;b"
        assert get("/a&b" + rest, *arguments).status == 200
        assert get(rest, *arguments).status == 200


def test_page_has_no_inline_script() -> None:
    page = get("/").body
    assert re.findall(rb"<script[^>]*>(.*?)</script>", page, re.S) == [b""]
    assert not re.findall(rb"<style|\sstyle=|\son\w+=|javascript:", page)


@pytest.mark.parametrize(
    "fields", ["", "Accept: */*\r\n", "Accept: application/json\r\n"]
)
def test_other_clients_get_a_text_page(fields: str) -> None:
    reply = get("/", fields=fields)
    assert reply.fields["content-type"] == "text/plain; charset=utf-8"
    assert reply == get("/", "--web-client", fields=fields)


def test_without_the_option_there_is_no_console() -> None:
    assert (
        get("/", "--stderr=log").fields["content-type"] == "text/plain; charset=utf-8"
    )
    assert get(f"{prefix()}console.js", "--stderr=log").status == 426


def test_page_is_revalidated() -> None:
    tag = get("/").fields["etag"]
    again = get("/", fields=f"{HTML}If-None-Match: {tag}\r\n")
    assert (again.status, again.body) == (304, b"")
    assert again.fields["content-security-policy"]


@pytest.mark.parametrize("target", ["/", "console.js", "x"])
def test_head_request(target: str) -> None:
    target = target if target == "/" else prefix() + target
    head = get(target, method="HEAD")
    assert head == get(target)._replace(body=b"")


def test_other_requests_get_no_page(directory: Path) -> None:
    arguments = ("--console", "--apps", str(directory))
    for target in ("/nobody", "/asyncapi.json", f"/game{prefix()}console.js"):
        reply = get(target, *arguments)
        assert reply.status in (404, 426)
        assert reply.fields["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("fields", "cause"),
    [("Origin: https://evil.example\r\n", b"Origin"), ("Origin: null\r\n", b"null")],
)
def test_foreign_pages_cannot_read_the_files(fields: str, cause: bytes) -> None:
    for target in ("/", f"{prefix()}console.js"):
        reply = get(target, fields=HTML + fields)
        assert reply.status == 403
        assert cause in reply.body


def test_sessions_open_as_before() -> None:
    for target in ("/", f"{ASSETS}x"):
        with SessionHarness(*CONSOLE) as harness:
            harness.open("json", target=target)
            harness.exit()


# The files


@pytest.mark.parametrize("name", console.ASSETS)
def test_a_file(name: str) -> None:
    reply = get(prefix() + name, fields="")
    assert reply.body == (WEB / name).read_bytes()
    fields = dict(reply.fields)
    tag = fields.pop("etag")
    kind = static_response.TYPES[name.rpartition(".")[2]]
    assert (reply.status, fields) == (
        200,
        SECURITY
        | {
            "content-type": kind,
            "content-length": str(len(reply.body)),
            "cache-control": "public, max-age=31536000, immutable",
        },
    )
    again = get(prefix() + name, fields=f"If-None-Match: {tag}\r\n")
    assert (again.status, again.body) == (304, b"")


def test_every_imported_module_exists() -> None:
    for name in console.ASSETS:
        if name.endswith(".js"):
            for said in re.findall(r'(?:from|import\()\s*"\./(.+?)"', get_text(name)):
                assert said in console.ASSETS


def get_text(name: str) -> str:
    return (WEB / name).read_text()


@pytest.mark.parametrize(
    "target",
    [
        "{}",
        "{}x",
        "{}console.html",
        "{}../console.js",
        "{}%2e%2e/console.js",
        "{}vendor/../console.js",
        "{}/console.js",
        "{}/etc/passwd",
        "{}../../../../etc/passwd",
        "{}..%2f..%2fconsole.py",
        "{}console.js/",
        "{}console%2ejs",
        "{}CONSOLE.JS",
        "{}<script>",
        f"{ASSETS}console.js",
        f"{ASSETS}{'0' * 32}/console.js",
        ASSETS,
        f"{ASSETS}../../chimirror",
    ],
)
def test_unlisted_files_are_not_served(target: str) -> None:
    reply = get(target.format(prefix()))
    text = b"there is no such file here; if a page asked for it, load that anew\n"
    assert (reply.status, reply.body) == (404, text)
    assert reply.fields["cache-control"] == "no-store"


# Slow clients


def test_slow_reader_gets_the_whole_file() -> None:
    """The largest file takes longer than CLOSE_TIMEOUT, and is not cut off."""
    name = "vendor/xterm.mjs"
    head = f"GET {prefix()}{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    whole = get(prefix() + name)
    with SessionHarness(*CONSOLE) as harness:
        harness.ask(head.encode())
        got = b""
        for piece in pieces(harness):
            got += piece
            harness.wait(1.5)
    assert parsed(got) == whole


def test_client_that_does_not_read_is_disconnected() -> None:
    with SessionHarness(*CONSOLE) as harness:
        head = f"GET {prefix()}vendor/xterm.mjs HTTP/1.1\r\nHost: localhost\r\n\r\n"
        harness.ask(head.encode())
        harness.wait(5)
        assert harness.session.connection.state == CLOSED


@pytest.mark.parametrize("ways", [bridges, servers])
def test_real_programs(ways: Callable[..., Any], directory: Path) -> None:
    apps = ("--apps", str(directory))
    with ways(directory, "--console") as way:
        for target in ("/", "/game", f"{prefix()}vendor/xterm.mjs"):
            request = f"GET {target} HTTP/1.1\r\nHost: localhost:30747\r\n{HTML}\r\n"
            with way.connect() as peer:
                peer.send_raw(request.encode())
                assert peer.refusal() == get(target, "--console", *apps)
