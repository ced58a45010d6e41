"""Manifests and the catalog over HTTP, for a COMMAND and for a directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import asyncapi_validator
from app_servers import bridges, servers
from chimirror.apps import application_file
from chimirror.io.loop import TICKS
from chimirror.protocol import DRAIN
from chimirror.resources import json_response, responder
from chimirror.session import Peer as Address
from chimirror.session.session import Session
from resource_requests import CATALOG, ControllableContext, get
from session_harness import SessionHarness
from websocket_peer import Peer


def read(target: str, *arguments: str) -> Any:
    reply = get(target, *arguments)
    assert (reply.status, reply.fields["content-type"]) == (200, "application/json")
    assert reply.fields["connection"] == "close"
    return json.loads(reply.body)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "game.toml").write_text(
        """
        command = ["game"]
        framing = ["lines"]
        subprotocol = { mcp = "lines" }
        origin = ["https://page.example"]
        max-message = "64K"
        [interface]
        title = "Animals"
        purpose = "Guesses."
        version = "2.0"
        """
    )
    (tmp_path / "plain.toml").write_text('command = ["cat"]\n')
    (tmp_path / "broken.toml").write_text("command = 5\n")
    (tmp_path / ".hidden.toml").write_text('command = ["cat"]\n')
    return tmp_path


def test_manifest_of_a_command() -> None:
    document = read("/asyncapi.json", "--framing", "json", "--max-message", "4K")
    asyncapi_validator.check(document)
    assert document["servers"]["here"] == {"host": "localhost:30747", "protocol": "ws"}
    assert document["channels"].keys() == {"json"}
    assert document["channels"]["json"]["address"] == "/"
    assert document["x-chimirror"]["max_message"] == 4096


def test_manifest_of_an_application(directory: Path) -> None:
    document = read("/game/asyncapi.json", "--apps", str(directory))
    asyncapi_validator.check(document)
    assert document["info"]["title"] == "Animals"
    assert document["channels"].keys() == {"lines"}
    assert document["channels"]["lines"]["address"] == "/game"
    assert document["x-chimirror"]["max_message"] == 65536


def test_manifest_with_control() -> None:
    reply = get(
        "/asyncapi.json", "--framing", "json,stdio", context_type=ControllableContext
    )
    document = json.loads(reply.body)
    assert document["channels"].keys() == {"json", "stdio", "control"}
    assert document["channels"]["control"]["address"] == "/"
    asyncapi_validator.check(document)
    assert "control" not in read("/asyncapi.json")["channels"]


def test_framings_without_a_secret_have_no_control() -> None:
    reply = get(
        "/asyncapi.json", "--framing", "json,lines", context_type=ControllableContext
    )
    assert json.loads(reply.body)["channels"].keys() == {"json", "lines"}


def test_catalog_of_one_command() -> None:
    (entry,) = read(CATALOG, "--framing", "stdio")["applications"]
    assert entry == {
        "name": "",
        "title": "",
        "purpose": "",
        "version": "",
        "path": "/",
        "manifest": "/asyncapi.json",
        "framings": ["stdio"],
        "subprotocols": ["chimirror.stdio.v1"],
        "direction": "both",
        "control": False,
        "protocol": None,
        "pty": False,
    }


def test_catalog(directory: Path) -> None:
    """The catalog lists usable applications by name, in spite of a broken file."""
    game, plain = read(CATALOG, "--apps", str(directory))["applications"]
    assert (game["name"], game["title"], game["purpose"]) == (
        "game",
        "Animals",
        "Guesses.",
    )
    assert game["subprotocols"] == ["chimirror.lines.v1", "mcp"]
    assert (plain["name"], plain["path"]) == ("plain", "/plain")
    for entry in (game, plain):
        manifest = read(entry["manifest"], "--apps", str(directory))
        assert [*manifest["channels"]] == entry["framings"]


def test_paths_below_that_of_a_proxy(directory: Path) -> None:
    options = ("--apps", str(directory), "--base-path", "/a/b/")
    for base in ("", "/a/b"):
        game, plain = read(base + CATALOG, *options)["applications"]
        assert (game["path"], plain["path"]) == ("/a/b/game", "/a/b/plain")
        assert plain["manifest"] == "/a/b/plain/asyncapi.json"
        document = read(f"{base}/game/asyncapi.json", *options)
        asyncapi_validator.check(document)
        assert document["servers"]["here"]["pathname"] == "/a/b"
        assert document["channels"]["lines"]["address"] == "/game"
    (only,) = read(CATALOG, "--base-path=/a")["applications"]
    assert (only["path"], only["manifest"]) == ("/a/", "/a/asyncapi.json")


def test_empty_catalog(tmp_path: Path) -> None:
    assert read(CATALOG, "--apps", str(tmp_path)) == {"applications": []}


CATALOG_REQUEST = f"GET {CATALOG} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n".encode()


@pytest.fixture
def one_file_per_turn(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make a turn of the loop for each file. Returns the names that were read."""
    monkeypatch.setattr(responder, "ENTRIES_PER_TURN", 0)
    original, names = application_file.load, []

    def load(path: str, name: str) -> object:
        names.append(name)
        return original(path, name)

    monkeypatch.setattr(application_file, "load", load)
    # Each file is so young that it is read again for each catalog.
    monkeypatch.setattr("chimirror.apps.directory.time_ns", lambda: 0)
    return names


def test_long_catalog_leaves_turns_to_others(
    directory: Path, one_file_per_turn: list[str]
) -> None:
    with SessionHarness("--apps", str(directory)) as harness:
        harness.ask(CATALOG_REQUEST)  # no time passes here
        assert harness.context.connecting == 1
        assert one_file_per_turn == ["broken"]
        began = harness.clock.now
        harness.until(lambda: not harness.context.connecting)
        assert 3 / TICKS <= harness.clock.now - began <= 4 / TICKS
        found = json.loads(harness.peer.refusal().body)
        assert [one["name"] for one in found["applications"]] == ["game", "plain"]
        assert one_file_per_turn == ["broken", "game", "plain"]


def connect(harness: SessionHarness) -> Peer:
    """Open another connection of the same process."""
    client_end, server_end = socket.socketpair()
    fd = server_end.detach()
    os.set_blocking(fd, False)
    one = Session(harness.context, Address("192.0.2.9", 1), fd, fd, "another")
    one.connection.start()
    return Peer(client_end)


def test_many_requests_share_a_catalog(
    directory: Path, one_file_per_turn: list[str]
) -> None:
    """Requests that arrive during a catalog get the next one, which they share."""
    with SessionHarness("--apps", str(directory)) as harness, ExitStack() as opened:
        harness.ask(CATALOG_REQUEST)
        peers = [opened.enter_context(connect(harness)) for _ in range(5)]
        for peer in peers:
            peer.send_raw(CATALOG_REQUEST)
        harness.settle()
        assert harness.context.connecting == 6 == len(harness.context.handshakes)
        peers.pop().close()
        harness.until(lambda: not harness.context.connecting)
        found = [peer.refusal().body for peer in (harness.peer, *peers)]
        assert found == [found[0]] * 5
        assert one_file_per_turn == ["broken", "game", "plain"] * 2


def test_text_of_the_catalog(directory: Path) -> None:
    with SessionHarness("--apps", str(directory)) as harness:
        harness.ask(CATALOG_REQUEST)
        found = harness.peer.refusal().body.decode()
        catalog = responder.build_catalog(harness.context.catalog)
    assert found == json_response.text(catalog)


def test_manifest_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = responder.build_manifest
    monkeypatch.setattr(responder, "_manifests", {})

    def build(app: Any, url: str, *, controllable: bool) -> Any:
        written.append(url)
        return original(app, url, controllable=controllable)

    monkeypatch.setattr(responder, "build_manifest", build)
    with SessionHarness() as harness, ExitStack() as opened:
        most = responder.MAX_MANIFESTS
        for port in (1, 1, *range(2, most + 2), 1):
            peer = opened.enter_context(connect(harness))
            host = f"Host: localhost:{port}"
            peer.send_raw(f"GET /asyncapi.json HTTP/1.1\r\n{host}\r\n\r\n".encode())
            harness.settle()
            assert f"localhost:{port}" in peer.refusal().body.decode()
        assert len(written) == most + 2
        assert len(responder._manifests) == most


def test_catalog_stops_with_its_request(
    directory: Path, one_file_per_turn: list[str]
) -> None:
    with SessionHarness("--apps", str(directory)) as harness:
        harness.ask(CATALOG_REQUEST)
        harness.session.close(DRAIN)
        assert harness.peer.refusal().status == 503
        harness.wait(1)
    assert one_file_per_turn == ["broken"]


def test_removed_directory(tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    with SessionHarness("--apps", str(tmp_path / "apps")) as harness:
        (tmp_path / "apps").rmdir()
        harness.ask(CATALOG_REQUEST)
        assert harness.peer.refusal().status == 500


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/broken/asyncapi.json", 500),
        ("/nobody/asyncapi.json", 404),
        ("/asyncapi.json", 404),
        ("/game/x/asyncapi.json", 426),
    ],
)
def test_missing_manifests(directory: Path, target: str, status: int) -> None:
    reply = get(target, "--apps", str(directory))
    assert (reply.status, reply.fields["content-type"]) == (
        status,
        "text/plain; charset=utf-8",
    )


def test_head_request(directory: Path) -> None:
    for target in ("/game/asyncapi.json", CATALOG):
        whole = get(target, "--apps", str(directory))
        head = get(target, "--apps", str(directory), method="HEAD")
        assert head == whole._replace(body=b"")


def test_revalidation(directory: Path) -> None:
    """A client with the current document gets 304 until the document changes."""
    arguments = ("/game/asyncapi.json", "--apps", str(directory))
    tag = get(*arguments).fields["etag"]
    again = get(*arguments, fields=f"If-None-Match: {tag}\r\n")
    assert (again.status, again.fields["etag"], again.body) == (304, tag, b"")
    file = directory / "game.toml"
    file.write_text(file.read_text().replace("Guesses", "Learns"))
    changed = get(*arguments, fields=f"If-None-Match: {tag}\r\n")
    assert changed.status == 200
    assert b"Learns." in changed.body
    assert changed.fields["etag"] != tag


def test_origins_of_an_application(directory: Path) -> None:
    """An allowed origin may read the manifest. The catalog does not allow it."""
    fields = "Origin: https://page.example\r\n"
    arguments = ("--apps", str(directory))
    assert get("/game/asyncapi.json", *arguments, fields=fields).status == 200
    assert get("/plain/asyncapi.json", *arguments, fields=fields).status == 403
    assert get(CATALOG, *arguments, fields=fields).status == 403


def test_session_at_the_path_of_a_manifest(directory: Path) -> None:
    with SessionHarness("--apps", str(directory)) as harness:
        harness.open("lines", target="/game/asyncapi.json")
        harness.exit()


@pytest.mark.parametrize("ways", [bridges, servers])
def test_real_programs(ways: Callable[..., Any], directory: Path) -> None:
    with ways(directory) as way:
        for target in ("/game/asyncapi.json", CATALOG, "/game"):
            request = f"GET {target} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n"
            with way.connect() as peer:
                peer.send_raw(request.encode())
                assert peer.refusal() == get(target, "--apps", str(directory))
