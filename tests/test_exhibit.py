"""Manifests and their list over HTTP: of a COMMAND, and of a directory of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import asyncapi
from chimirror import exhibit
from chimirror.service import Service
from chimirror.system.loop import TICKS
from peers import Reply
from stage import Stage
from test_applications import bridges, servers

CATALOG = "/.well-known/chimirror"


class Steerable(Service):
    """A service whose sessions can be steered."""

    __slots__ = ()

    def is_steerable(self) -> bool:
        return True


def get(
    target: str,
    *arguments: str,
    fields: str = "",
    method: str = "GET",
    kind: type[Service] = Service,
) -> Reply:
    """One request, answered whole; no application was started."""
    with Stage(*arguments, kind=kind) as stage:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost:30747\r\n{fields}\r\n"
        stage.ask(head.encode())
        assert not stage.application.started
        return stage.peer.refusal()


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


def test_of_a_command() -> None:
    document = read("/asyncapi.json", "--framing", "json", "--max-message", "4K")
    asyncapi.check(document)
    assert document["servers"]["here"] == {"host": "localhost:30747", "protocol": "ws"}
    assert document["channels"].keys() == {"json"}
    assert document["channels"]["json"]["address"] == "/"
    assert document["x-chimirror"]["max_message"] == 4096


def test_of_an_application(directory: Path) -> None:
    document = read("/game/asyncapi.json", "--apps", str(directory))
    asyncapi.check(document)
    assert document["info"]["title"] == "Animals"
    assert document["channels"].keys() == {"lines"}
    assert document["channels"]["lines"]["address"] == "/game"
    assert document["x-chimirror"]["max_message"] == 65536


def test_where_sessions_can_be_steered() -> None:
    reply = get("/asyncapi.json", "--framing", "json,stdio", kind=Steerable)
    document = json.loads(reply.body)
    assert document["channels"].keys() == {"json", "stdio", "control"}
    assert document["channels"]["control"]["address"] == "/"
    asyncapi.check(document)
    assert "control" not in read("/asyncapi.json")["channels"]


def test_who_is_told_no_secret_cannot_steer() -> None:
    reply = get("/asyncapi.json", "--framing", "json,lines", kind=Steerable)
    assert json.loads(reply.body)["channels"].keys() == {"json", "lines"}


def test_the_list_of_one() -> None:
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
    }


def test_the_list(directory: Path) -> None:
    """Those that can be used, by name; a broken one takes down no other."""
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


def test_the_list_of_none(tmp_path: Path) -> None:
    assert read(CATALOG, "--apps", str(tmp_path)) == {"applications": []}


LIST = f"GET {CATALOG} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n".encode()


@pytest.fixture
def sliced(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose list takes a turn for each application."""
    monkeypatch.setattr(exhibit, "SLICE", 0)
    return directory


def test_a_long_list_leaves_turns_to_others(sliced: Path) -> None:
    with Stage("--apps", str(sliced)) as stage:
        stage.ask(LIST)  # in which no time passes
        assert stage.service.connecting == 1
        assert os.listdir(sliced / ".compiled") == ["game"]
        began = stage.clock.now
        stage.until(lambda: not stage.service.connecting)
        assert 2 / TICKS <= stage.clock.now - began <= 3 / TICKS
        found = json.loads(stage.peer.refusal().body)
        assert [one["name"] for one in found["applications"]] == ["game", "plain"]
        assert sorted(os.listdir(sliced / ".compiled")) == ["game", "plain"]


def test_nobody_waits_for_a_list_any_more(sliced: Path) -> None:
    with Stage("--apps", str(sliced)) as stage:
        stage.ask(LIST)
        stage.session.close(1001, "drain")
        assert stage.peer.refusal().status == 503
        stage.wait(1)
    assert os.listdir(sliced / ".compiled") == ["game"]


def test_a_directory_that_has_gone(tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    with Stage("--apps", str(tmp_path / "apps")) as stage:
        (tmp_path / "apps").rmdir()
        stage.ask(LIST)
        assert stage.peer.refusal().status == 500


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/broken/asyncapi.json", 500),
        ("/nobody/asyncapi.json", 404),
        ("/asyncapi.json", 404),
        ("/game/x/asyncapi.json", 426),
    ],
)
def test_nothing_there(directory: Path, target: str, status: int) -> None:
    reply = get(target, "--apps", str(directory))
    assert (reply.status, reply.fields["content-type"]) == (
        status,
        "text/plain; charset=utf-8",
    )


def test_by_head(directory: Path) -> None:
    for target in ("/game/asyncapi.json", CATALOG):
        whole = get(target, "--apps", str(directory))
        head = get(target, "--apps", str(directory), method="HEAD")
        assert head == whole._replace(body=b"")


def test_asked_again(directory: Path) -> None:
    """Who has it gets none, until it changes."""
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


def test_an_application_has_origins_of_its_own(directory: Path) -> None:
    """Pages that may open a session may read what it is; the list, those of all."""
    fields = "Origin: https://page.example\r\n"
    arguments = ("--apps", str(directory))
    assert get("/game/asyncapi.json", *arguments, fields=fields).status == 200
    assert get("/plain/asyncapi.json", *arguments, fields=fields).status == 403
    assert get(CATALOG, *arguments, fields=fields).status == 403


def test_a_session_at_the_path_of_a_manifest(directory: Path) -> None:
    with Stage("--apps", str(directory)) as stage:
        stage.open("lines", target="/game/asyncapi.json")
        stage.exit()


@pytest.mark.parametrize("ways", [bridges, servers])
def test_by_real_programs(ways: Callable[..., Any], directory: Path) -> None:
    with ways(directory) as way:
        for target in ("/game/asyncapi.json", CATALOG, "/game"):
            request = f"GET {target} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n"
            with way.connect() as peer:
                peer.send_raw(request.encode())
                assert peer.refusal() == get(target, "--apps", str(directory))
