"""The client library for pages at its fixed paths: content, access, CORS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chimirror
from app_servers import bridges, servers
from chimirror.resources import static_response
from resource_requests import get

WEB = Path(chimirror.__file__).parent / "web"
CLIENT, TYPES = "/.well-known/chimirror.js", "/.well-known/chimirror.d.ts"
OPTION = "--web-client"
FRIEND = "https://friend.example"
ALLOWED = (OPTION, "--origin", FRIEND)
KINDS = {CLIENT: "text/javascript", TYPES: "text/plain"}


@pytest.fixture
def apps(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "game.toml").write_text('command = ["cat"]\n')
    return "--apps", str(tmp_path)


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("option", [OPTION, "--console"])
def test_a_file(path: str, option: str) -> None:
    reply = get(path, option)
    content = (WEB / Path(path).name).read_bytes()
    assert (reply.status, reply.body) == (200, content)
    fields = dict(reply.fields)
    tag = fields.pop("etag")
    assert fields == {
        "content-type": f"{KINDS[path]}; charset=utf-8",
        "content-length": str(len(content)),
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "vary": "Origin",
        "connection": "close",
    }
    again = get(path, option, fields=f"If-None-Match: {tag}\r\n")
    assert (again.status, again.body, again.fields["etag"]) == (304, b"", tag)
    head = get(path, option, method="HEAD")
    assert head == reply._replace(body=b"")


@pytest.mark.parametrize("path", KINDS)
def test_a_file_is_read_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(path, OPTION)
    monkeypatch.setattr(static_response, "WEB", "/nowhere/")
    assert get(path, OPTION) == first


def test_a_page_that_may_connect_can_import_it() -> None:
    for origin, arguments in (
        (FRIEND, ALLOWED),
        ("http://localhost:30747", (OPTION,)),
        ("vscode-webview://1a2b", (OPTION, "--origin", "vscode-webview://*")),
    ):
        reply = get(CLIENT, *arguments, fields=f"Origin: {origin}\r\n")
        assert reply.status == 200
        assert reply.fields["access-control-allow-origin"] == origin
        tag = reply.fields["etag"]
        fields = f"Origin: {origin}\r\nIf-None-Match: {tag}\r\n"
        again = get(CLIENT, *arguments, fields=fields)
        assert (again.status, again.body) == (304, b"")
        assert again.fields["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_another_page_cannot(origin: str) -> None:
    reply = get(CLIENT, *ALLOWED, fields=f"Origin: {origin}\r\n")
    assert reply.status == 403
    assert origin.encode() in reply.body
    assert "access-control-allow-origin" not in reply.fields


def test_without_the_option_it_is_not_served(apps: tuple[str, ...]) -> None:
    assert get(CLIENT).status == 426
    assert get(CLIENT, *apps).status == 404
    assert CLIENT.encode() not in get("/").body


@pytest.mark.parametrize("path", ["x", "/", "/chimirror.js", ".map"])
def test_other_paths(apps: tuple[str, ...], path: str) -> None:
    assert get(CLIENT + path, OPTION, *apps).status == 404


def test_it_exists_once_for_all_applications(apps: tuple[str, ...]) -> None:
    assert get(CLIENT, OPTION, *apps) == get(CLIENT, OPTION)
    assert get(f"/game{CLIENT}", OPTION, *apps).status == 426


def test_the_text_page_names_it() -> None:
    line = b"\nLibrary for web pages: http://localhost:30747/.well-known/chimirror.js\n"
    assert get("/", OPTION).body.endswith(line)


@pytest.mark.parametrize("ways", [bridges, servers])
def test_real_programs(ways: Callable[..., Any], tmp_path: Path) -> None:
    with ways(tmp_path, OPTION) as way:
        for path in KINDS:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n"
            with way.connect() as peer:
                peer.send_raw(request.encode())
                assert peer.refusal() == get(path, OPTION)
