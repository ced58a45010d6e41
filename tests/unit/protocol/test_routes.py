"""Plain GET requests: the resource at each path, and the text page."""

from __future__ import annotations

import pytest

from chimirror.protocol import http, proxy_protocol
from chimirror.protocol.handshake import AcceptedHandshake
from chimirror.protocol.http import HTTPError
from chimirror.protocol.policy import HandshakePolicy
from chimirror.protocol.routes import ResourceRequest, routes
from chimirror.resources.text_page import TextPage
from handshake_requests import decide, request

LOST = {"status": 404, "text": "not here", "cause": "no-application"}
ALONE = HandshakePolicy(("stdio", "json"), {"mcp": "lines"})
NAMED = HandshakePolicy(("json",), root="/game")
UNNAMED = HandshakePolicy(("json",), missing=LOST)
BROKEN = HandshakePolicy(("json",), root="/game", missing=LOST)


def test_routes() -> None:
    assert routes(ALONE) == {
        "/": "page",
        "/asyncapi.json": "manifest",
        "/.well-known/chimirror": "catalog",
    }
    assert routes(NAMED) == {
        "/game": "page",
        "/game/": "page",
        "/game/asyncapi.json": "manifest",
    }
    assert routes(UNNAMED) == {"/": "page", "/.well-known/chimirror": "catalog"}
    assert not routes(BROKEN)


def get(
    target: str = "/", policy: HandshakePolicy = ALONE, method: str = "GET"
) -> ResourceRequest:
    found = decide(request(method=method, target=target, upgrade=False), policy)
    assert isinstance(found, ResourceRequest)
    return found


def test_resource_request() -> None:
    found = get("/.well-known/chimirror?x=1")
    assert (found.route, found.url) == ("catalog", "ws://localhost")
    assert found.policy is ALONE
    assert found.request.query == "x=1"


def test_below_the_path_of_a_proxy() -> None:
    policy = HandshakePolicy(("json",), base="/a/b", console=True, web_client=True)
    routes_below = {**routes(policy), "/.well-known/chimirror/assets/x": "asset"}
    for path, route in routes_below.items():
        for target in (path, f"/a/b{path}", f"/a/b{path}?x=/a/b"):
            found = get(target, policy)
            assert (found.route, found.url) == (route, "ws://localhost/a/b")
    assert get("/a/b", policy).route == "page"
    for target in ("/a/b/a/b/", "/a", "/a/bc", "/a/b//"):
        with pytest.raises(HTTPError, match="426"):
            get(target, policy)


def test_text_page_below_the_path_of_a_proxy() -> None:
    policy = HandshakePolicy(("json",), base="/a/b", root="/game", web_client=True)
    page = TextPage(get("/game", policy)).text
    assert "to ws://localhost/a/b/game: each" in page
    assert "Manifest: http://localhost/a/b/game/asyncapi.json\n" in page
    assert "here: http://localhost/a/b/.well-known/chimirror\n" in page
    without_host = ResourceRequest("text", get("/game", policy).handshake, policy, "")
    page = TextPage(without_host).text
    assert "to /a/b/game: each" in page
    assert "Manifest: /a/b/game/asyncapi.json\n" in page


@pytest.mark.parametrize(("target", "policy"), [("/", ALONE), ("/game", NAMED)])
@pytest.mark.parametrize("accept", ["text/event-stream", "x/y, TEXT/event-stream"])
def test_a_client_of_event_streams_gets_no_page(
    accept: str, target: str, policy: HandshakePolicy
) -> None:
    fields = request(("Accept", accept), target=target, upgrade=False)
    with pytest.raises(HTTPError) as caught:
        decide(fields, policy)
    text = "only WebSocket is served here; connect with a WebSocket client"
    assert (caught.value.status, caught.value.text) == (426, text)


def test_by_head() -> None:
    assert get(method="HEAD").route == "page"
    assert get("/asyncapi.json", method="HEAD").route == "manifest"


@pytest.mark.parametrize("path", ["/", "/asyncapi.json", "/.well-known/chimirror"])
def test_sessions_are_opened_at_every_path(path: str) -> None:
    assert isinstance(decide(request(target=path), ALONE), AcceptedHandshake)


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
def test_paths_without_a_resource(
    policy: HandshakePolicy, target: str, status: int
) -> None:
    with pytest.raises(HTTPError) as caught:
        decide(request(target=target, upgrade=False), policy)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("host", "origin", "cause"),
    [
        ("evil.example", "", "host"),
        ("localhost", "http://evil.example", "origin"),
        ("localhost", "null", "origin"),
    ],
)
@pytest.mark.parametrize("path", routes(ALONE))
def test_foreign_hosts_and_origins_see_nothing(
    path: str, host: str, origin: str, cause: str
) -> None:
    fields = [("Origin", origin)] if origin else []
    with pytest.raises(HTTPError) as caught:
        decide(request(*fields, target=path, host=host, upgrade=False), ALONE)
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
    found = decide(request(host=host, target=target, upgrade=False), ALONE)
    assert isinstance(found, ResourceRequest)
    page = TextPage(found)
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
    text = TextPage(get("/game/", NAMED)).text
    assert "client to ws://localhost/game: each" in text
    assert "Manifest: http://localhost/game/asyncapi.json\n" in text


def test_the_page_of_many() -> None:
    text = TextPage(get("/", UNNAMED)).text
    assert "programs behind a WebSocket" in text
    assert "client to ws://localhost/NAME: each" in text
    assert "Subprotocols" not in text
    assert "Manifest" not in text
    assert text.endswith("served here: http://localhost/.well-known/chimirror\n")


def test_behind_tls() -> None:
    policy = HandshakePolicy(
        ("json",), trusted=proxy_protocol.trusted_networks(["203.0.113.9/32"])
    )
    asked = request(("X-Forwarded-Proto", "https"), target="/", upgrade=False)
    found = decide(asked, policy)
    assert isinstance(found, ResourceRequest)
    assert found.url == "wss://localhost"
    assert "Manifest: https://localhost/asyncapi.json" in TextPage(found).text
