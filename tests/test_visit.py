"""Those who just look: what is to be seen at which path, and the page for people."""

from __future__ import annotations

import pytest

from chimirror.wire import http, proxy
from chimirror.wire.handshake import Accept, Policy
from chimirror.wire.http import Refusal
from chimirror.wire.visit import Page, Visit, sights
from test_handshake import judge, request

LOST = {"status": 404, "text": "not here", "cause": "no-application"}
ALONE = Policy(("stdio", "json"), {"mcp": "lines"})
NAMED = Policy(("json",), root="/game")
UNNAMED = Policy(("json",), missing=LOST)
BROKEN = Policy(("json",), root="/game", missing=LOST)


def test_what_is_to_be_seen() -> None:
    assert sights(ALONE) == {
        "/": "page",
        "/asyncapi.json": "manifest",
        "/.well-known/chimirror": "catalog",
    }
    assert sights(NAMED) == {
        "/game": "page",
        "/game/": "page",
        "/game/asyncapi.json": "manifest",
    }
    assert sights(UNNAMED) == {"/": "page", "/.well-known/chimirror": "catalog"}
    assert not sights(BROKEN)


def visit(target: str = "/", policy: Policy = ALONE, method: str = "GET") -> Visit:
    found = judge(request(method=method, target=target, upgrade=False), policy)
    assert isinstance(found, Visit)
    return found


def test_a_visit() -> None:
    found = visit("/.well-known/chimirror?x=1")
    assert (found.sight, found.url) == ("catalog", "ws://localhost")
    assert found.policy is ALONE
    assert found.request.query == "x=1"


def test_by_head() -> None:
    assert visit(method="HEAD").sight == "page"
    assert visit("/asyncapi.json", method="HEAD").sight == "manifest"


@pytest.mark.parametrize("path", ["/", "/asyncapi.json", "/.well-known/chimirror"])
def test_sessions_are_opened_at_every_path(path: str) -> None:
    assert isinstance(judge(request(target=path), ALONE), Accept)


@pytest.mark.parametrize(
    ("policy", "target", "status"),
    [
        (ALONE, "/asyncapi", 426),
        (ALONE, "/x/asyncapi.json", 426),
        (ALONE, "/.well-known/", 426),
        (NAMED, "/game/x", 426),
        (NAMED, "/game/x/asyncapi.json", 426),
        (UNNAMED, "/asyncapi.json", 404),
        (UNNAMED, "/.well-known/chimirror/", 404),
        (BROKEN, "/game", 404),
        (BROKEN, "/game/asyncapi.json", 404),
    ],
)
def test_nothing_to_be_seen(policy: Policy, target: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        judge(request(target=target, upgrade=False), policy)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("host", "origin", "cause"),
    [
        ("evil.example", "", "host"),
        ("localhost", "http://evil.example", "origin"),
        ("localhost", "null", "origin"),
    ],
)
@pytest.mark.parametrize("path", sights(ALONE))
def test_strangers_see_nothing(path: str, host: str, origin: str, cause: str) -> None:
    fields = [("Origin", origin)] if origin else []
    with pytest.raises(Refusal) as caught:
        judge(request(*fields, target=path, host=host, upgrade=False), ALONE)
    assert (caught.value.status, caught.value.cause) == (403, cause)


# The page


@pytest.mark.parametrize(
    ("host", "target", "place"),
    [
        ("localhost:30747", "/", "localhost:30747"),
        ("[::1]", "/?x=<script>", "[::1]"),
    ],
)
def test_the_page(host: str, target: str, place: str) -> None:
    found = judge(request(host=host, target=target, upgrade=False), ALONE)
    assert isinstance(found, Visit)
    page = Page(found)
    text = (
        "chimirror: a program behind a WebSocket.\n\n"
        f"Connect a WebSocket client to ws://{place}/: each connection starts a\n"
        "fresh process of the program, and ends with it.\n\n"
        "Subprotocols: chimirror.stdio.v1, chimirror.json.v1, mcp\n"
        f"Manifest: http://{place}/asyncapi.json\n"
        f"All that is served here: http://{place}/.well-known/chimirror\n"
    )
    assert page.status == 200
    assert page.response() == http.response(200, text)
    assert page.response(head=True) == http.response(200, text, head=True)


def test_the_page_of_an_application() -> None:
    text = Page(visit("/game/", NAMED)).text
    assert "client to ws://localhost/game: each" in text
    assert "Manifest: http://localhost/game/asyncapi.json\n" in text


def test_the_page_of_many() -> None:
    text = Page(visit("/", UNNAMED)).text
    assert "programs behind a WebSocket" in text
    assert "client to ws://localhost/NAME: each" in text
    assert "Subprotocols" not in text
    assert "Manifest" not in text
    assert text.endswith("served here: http://localhost/.well-known/chimirror\n")


def test_behind_tls() -> None:
    policy = Policy(("json",), trusted=proxy.trusted(["203.0.113.9/32"]))
    asked = request(("X-Forwarded-Proto", "https"), target="/", upgrade=False)
    found = judge(asked, policy)
    assert isinstance(found, Visit)
    assert found.url == "wss://localhost"
    assert "Manifest: https://localhost/asyncapi.json" in Page(found).text
