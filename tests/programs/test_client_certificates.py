"""Certificates of clients, before a server that requires them for each connection.

chimirror-server checks them, or nginx in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import serve
from chimirror.client.resource import get
from chimirror.client.servers import servers_from
from client_apis import APIS
from connect_process import connect
from nginx_proxy import SAME_HOST, UPGRADING, running_nginx
from tls_authority import Authority, Pair, authority

__all__ = ["authority"]


class Place(NamedTuple):
    """URL of the server, and the files of the client."""

    url: str
    ca: Path
    mine: Pair


@pytest.fixture(params=["chimirror", "nginx"])
def place(
    request: pytest.FixtureRequest, authority: Authority, tmp_path: Path
) -> Iterator[Place]:
    own = authority.issue("127.0.0.1")
    mine = authority.issue("me@a.example")
    if request.param == "chimirror":
        files = ("--tls-cert", str(own.both), "--tls-client-ca", str(authority.file))
        with serve.server(tmp_path, ["cat"], *files) as service:
            url = f"wss://127.0.0.1:{service.port}/"
            yield Place(url, authority.file, mine)
        return
    with (
        serve.server(tmp_path, ["cat"]) as service,
        serve.reserved() as port,
    ):
        site = f"""server {{
            listen 127.0.0.1:{port} ssl;
            ssl_certificate {own.cert};
            ssl_certificate_key {own.key};
            ssl_client_certificate {authority.file};
            ssl_verify_client on;
            location / {{
                proxy_pass http://127.0.0.1:{service.port};
                {SAME_HOST}
                {UPGRADING}
            }}
        }}"""
        with running_nginx(authority.directory, site, port):
            yield Place(f"wss://127.0.0.1:{port}/", authority.file, mine)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("in_one_file", [True, False])
def test_session_and_control_connection(
    in_one_file: bool, api: str, place: Place
) -> None:
    mine = place.mine
    cert = mine.both if in_one_file else (mine.cert, mine.key)
    with APIS[api](place.url, ca=place.ca, cert=cert) as session:
        assert session.control.pause("stdin") == ["stdin"]
        assert session.control.resume("stdin") == []
        assert session.communicate(b"here").stdout == b"here"


@pytest.mark.parametrize("api", APIS)
def test_each_url_of_a_list(api: str, place: Place) -> None:
    with serve.reserved() as port:
        urls = [f"wss://127.0.0.1:{port}/", place.url]
        with APIS[api](urls, ca=place.ca, cert=place.mine.both) as session:
            assert session.url == place.url
            assert session.communicate(b"there").stdout == b"there"


def test_resources(place: Place) -> None:
    servers = servers_from(place.url, {"ca": place.ca, "cert": place.mine.both})
    manifest = get(servers, lambda _: "/asyncapi.json")
    assert b'"asyncapi"' in manifest


def test_the_program(place: Place) -> None:
    mine, trust = place.mine, ("--ca", str(place.ca))
    pair = ("--cert", str(mine.cert), "--key", str(mine.key))
    done = connect(*trust, *pair, place.url, stdin=b"here")
    assert (done.returncode, done.stdout) == (0, b"here")
    done = connect(*trust, "--cert", str(mine.both), place.url, stdin=b"there")
    assert (done.returncode, done.stdout) == (0, b"there")


def test_the_list_of_the_program(place: Place) -> None:
    options = ("--list", "--ca", str(place.ca), "--cert", str(place.mine.both))
    done = connect(*options, place.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"NAME ")
