"""A server below a path of the real nginx, which passes the path on or removes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from app_servers import bridges, directory
from connect_process import connect
from nginx_proxy import SAME_HOST, UPGRADING, nginx_in_front
from serve import server

__all__ = ["directory"]  # a fixture

NAMES = ("SCRIPT_NAME", "PATH_INFO", "REQUEST_URI")
SHOW = "echo " + " ".join(f"${name}" for name in NAMES)
BASE = ("--base-path", "/term/")


@pytest.fixture
def apps(directory: Path) -> Path:
    (directory / "show.toml").write_text(f'command = ["sh", "-c", "{SHOW}"]\n')
    return directory


@pytest.fixture(params=["", "/"], ids=["passed-on", "removed"])
def port(request: pytest.FixtureRequest, apps: Path, tmp_path: Path) -> Iterator[int]:
    """The port of nginx, which serves all below /term/."""
    options = ("--apps", str(apps), "--web-client", *BASE)
    with (
        server(tmp_path, [], *options) as behind,
        nginx_in_front(
            tmp_path,
            behind.port,
            UPGRADING,
            SAME_HOST,
            location="/term/",
            path=request.param,
        ) as found,
    ):
        yield found


def get(port: int, path: str) -> str:
    client = HTTPConnection("127.0.0.1", port)
    try:
        client.request("GET", path)
        response = client.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        client.close()


def get_json(port: int, path: str) -> Any:
    return json.loads(get(port, path))


def test_addresses_are_those_of_the_proxy(port: int) -> None:
    (entry,) = get_json(port, "/term/.well-known/chimirror")["applications"]
    assert (entry["path"], entry["manifest"]) == (
        "/term/show",
        "/term/show/asyncapi.json",
    )
    here = get_json(port, entry["manifest"])["servers"]["here"]
    url = f"{here['protocol']}://{here['host']}{here['pathname']}"
    assert url == f"ws://127.0.0.1:{port}/term"
    assert f"Manifest: http{url[2:]}/show/asyncapi.json" in get(port, entry["path"])
    assert "export" in get(port, "/term/.well-known/chimirror.js")


def test_sessions_and_refusals(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/term"
    done = connect(f"{url}/show/a%20b?c")
    assert done.stdout == b"/term/show /a b /term/show/a%20b?c\n"
    assert b"show" in connect("--list", f"{url}/").stdout
    refused = connect(f"{url}/sho").stderr
    assert b"the nearest is /term/show" in refused
    assert b"see /term/.well-known/chimirror" in refused


def test_a_bridge(apps: Path) -> None:
    with bridges(apps, *BASE, "--log-format", "json") as served:
        for target in ("/term/show/x", "/show/x"):
            with served.open(target, "stdio") as peer:
                told = peer.transcript().stdout
                assert told == b"/term/show /x /term/show/x\n"
            first = served.log().splitlines()[0]
            assert json.loads(first)["CHIMIRROR_PATH"] == target
