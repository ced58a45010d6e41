"""The decision about handshakes: tables of requests and the answers to them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.config import values
from chimirror.protocol import http, proxy_protocol
from chimirror.protocol.handshake import AcceptedHandshake
from chimirror.protocol.http import HTTPError
from chimirror.protocol.policy import HandshakePolicy
from chimirror.protocol.routes import ResourceRequest
from handshake_requests import KEY, PLAIN, ROUTABLE, UPGRADE, decide, request

VERSION_13 = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))


def accepted(
    sent: http.HTTPRequest,
    policy: HandshakePolicy = PLAIN,
    peer_address: str = ROUTABLE,
    peer_port: int = 4711,
) -> AcceptedHandshake:
    accepted_handshake = decide(sent, policy, peer_address, peer_port)
    assert isinstance(accepted_handshake, AcceptedHandshake)
    return accepted_handshake


def refused(
    sent: http.HTTPRequest,
    policy: HandshakePolicy = PLAIN,
    peer_address: str = ROUTABLE,
) -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        decide(sent, policy, peer_address)
    return caught.value


def check(error: HTTPError, status: int, cause: str, text: str) -> None:
    assert (error.status, error.cause, error.text) == (status, cause, text)


# The handshake itself


def test_an_opening_handshake() -> None:
    sent = request(host="LOCALHOST:30747", target="/a?b")
    accepted_handshake = accepted(sent)
    assert accepted_handshake.request is sent
    assert accepted_handshake.framing == "json"
    assert accepted_handshake.subprotocol is None
    assert accepted_handshake.scheme == "http"
    assert (accepted_handshake.host, accepted_handshake.port) == ("localhost", 30747)
    assert (accepted_handshake.peer_address, accepted_handshake.peer_port) == (
        ROUTABLE,
        4711,
    )


def test_a_peer_on_a_unix_socket() -> None:
    accepted_handshake = accepted(request(), PLAIN, "", 0)
    assert (accepted_handshake.peer_address, accepted_handshake.peer_port) == ("", 0)
    assert (accepted_handshake.host, accepted_handshake.port) == ("localhost", 80)


@pytest.mark.parametrize("method", ["POST", "PUT", "get", "CONNECT", "A'B"])
@pytest.mark.parametrize("target", ["/", "/ws"])
def test_methods_that_are_not_served(method: str, target: str) -> None:
    error = refused(request(method=method, target=target, host="evil.example"))
    text = f"{method} is not served here; connect with a WebSocket client"
    check(error, 405, "method", text)
    assert error.headers == (("Allow", "GET, HEAD, OPTIONS"),)


@pytest.mark.parametrize(
    "changes",
    [
        {"upgrade": "WebSocket"},
        {"upgrade": "h2c, websocket"},
        {"connection": "keep-alive, UPGRADE"},
        {"connection": ",upgrade,,"},
    ],
)
def test_handshakes_in_other_spelling(changes: dict[str, str]) -> None:
    fields = [
        (name, changes.get(name.lower(), value)) for name, value in UPGRADE.items()
    ]
    assert accepted(request(*fields, upgrade=False)).framing == "json"


NO_UPGRADE = "only WebSocket is served here; connect with a WebSocket client"
DROPPED = (
    "a WebSocket handshake without Upgrade: websocket and Connection: Upgrade; "
    "a proxy in between has to pass them on"
)
ONLY_13 = "only WebSocket version 13 is served here"
ONE_KEY = "exactly one Sec-WebSocket-Key is needed, of 16 bytes in base64"


@pytest.mark.parametrize(
    ("without", "target", "cause", "text"),
    [
        ({"Upgrade", "Connection"}, "/", "no-upgrade", DROPPED),
        ({"Upgrade"}, "/ws", "no-upgrade", DROPPED),
        ({"Connection"}, "/ws", "no-upgrade", DROPPED),
        ({"Connection"}, "/", "no-upgrade", DROPPED),
        ({"Connection", "Sec-WebSocket-Key"}, "/", "no-upgrade", NO_UPGRADE),
        (set(UPGRADE), "/ws", "no-upgrade", NO_UPGRADE),
        (set(UPGRADE), "//", "no-upgrade", NO_UPGRADE),
        ({"Sec-WebSocket-Version"}, "/ws", "version", ONLY_13),
        ({"Sec-WebSocket-Version", "Sec-WebSocket-Key"}, "/ws", "version", ONLY_13),
    ],
)
def test_incomplete_handshakes(
    without: set[str], target: str, cause: str, text: str
) -> None:
    fields = [(name, UPGRADE[name]) for name in UPGRADE if name not in without]
    sent = request(*fields, upgrade=False, target=target, host="evil.example")
    error = refused(sent)
    check(error, 426, cause, text)
    assert error.headers == VERSION_13
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in error.response()
    assert b"\r\nUpgrade: websocket\r\n" in error.response()


def test_a_handshake_by_head() -> None:
    check(refused(request(method="HEAD")), 426, "no-upgrade", NO_UPGRADE)


@pytest.mark.parametrize("version", ["", "8", "14", "013", "13, 8", "13,13"])
def test_other_versions(version: str) -> None:
    error = refused(request(secwebsocketversion=version))
    check(error, 426, "version", ONLY_13)
    assert error.headers == VERSION_13


def test_a_version_twice() -> None:
    error = refused(request(("Sec-WebSocket-Version", "13")))
    check(error, 426, "version", ONLY_13)


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "AAAA",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==AAAA",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "dGhlIHNhbXBsZSBub25_ZQ==",
        f"{KEY},{KEY}",
        "\xfc",
    ],
)
def test_bad_keys(key: str | None) -> None:
    sent = request(secwebsocketkey=key, host="evil.example")
    check(refused(sent), 400, "malformed", ONE_KEY)


def test_two_keys() -> None:
    sent = request(("Sec-WebSocket-Key", KEY))
    check(refused(sent), 400, "malformed", ONE_KEY)


# Host

HOSTS = HandshakePolicy(("json",), hosts=("App.example.org", "absolute.example."))


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("localhost", "localhost", 80),
        ("LocalHost:1", "localhost", 1),
        ("127.0.0.1:30747", "127.0.0.1", 30747),
        ("192.0.2.1", "192.0.2.1", 80),
        ("[::1]:30747", "[::1]", 30747),
        ("[0:0::1]", "[::1]", 80),
        ("[2001:DB8::1]:443", "[2001:db8::1]", 443),
        ("app.example.org", "app.example.org", 80),
        ("APP.EXAMPLE.ORG:8080", "app.example.org", 8080),
        ("absolute.example.", "absolute.example.", 80),
    ],
)
def test_served_hosts(host: str, name: str, port: int) -> None:
    accepted_handshake = accepted(request(host=host), HOSTS)
    assert (accepted_handshake.host, accepted_handshake.port) == (name, port)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("evil.example", "evil.example"),
        ("EVIL.example:30747", "evil.example"),
        ("localhost.", "localhost."),
        ("localhost.evil.example", "localhost.evil.example"),
        ("sub.localhost", "sub.localhost"),
        ("app.example.org.", "app.example.org."),
        ("sub.app.example.org", "sub.app.example.org"),
        ("example.org", "example.org"),
        ("absolute.example", "absolute.example"),
        ("127.0.0.1.evil.example", "127.0.0.1.evil.example"),
        ("127.0.0.1.", "127.0.0.1."),
        ("127.1", "127.1"),
        ("127.0.0.01", "127.0.0.01"),
        ("0x7f000001", "0x7f000001"),
        ("2130706433", "2130706433"),
        ("a" * 300, "a" * 253 + "..."),
    ],
)
@pytest.mark.parametrize("target", ["/", "/ws"])
def test_foreign_hosts(host: str, shown: str, target: str) -> None:
    sent = request(host=host, target=target, upgrade=target != "/")
    text = f'Host "{shown}" is not served here; start with --host {shown} to allow it'
    check(refused(sent, HOSTS), 403, "host", text)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("", ""),
        ("localhost:", "localhost:"),
        ("localhost:0", "localhost:0"),
        ("localhost:x", "localhost:x"),
        ("localhost:65536", "localhost:65536"),
        ("user@localhost", "user@localhost"),
        ("localhost, evil.example", "localhost, evil.example"),
        ("localhost/", "localhost/"),
        ("::1", "::1"),
        ("[::1", "[::1"),
        ("[::1]x", "[::1]x"),
        ("[fe80::1%25lo]", "[fe80::1%25lo]"),
        ('"\xfc"', "\\x22\\xfc\\x22"),
    ],
)
def test_malformed_hosts(host: str, shown: str) -> None:
    check(refused(request(host=host)), 400, "malformed", f'malformed Host "{shown}"')


# Origin


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("localhost:80", "http://localhost"),
        ("LOCALHOST:8080", "HTTP://LocalHost:8080"),
        # A proxy ends TLS and does not say so: the Origin's scheme counts.
        ("localhost", "https://localhost"),
        ("localhost:443", "https://localhost"),
        ("localhost", "https://localhost:443"),
        ("localhost:8443", "https://localhost:8443"),
        ("127.0.0.1:1", "http://127.0.0.1:1"),
        ("[::1]", "http://[::1]"),
        ("[::1]:30747", "http://[0:0:0:0:0:0:0:1]:30747"),
        ("app.example.org", "https://app.example.org"),
        ("absolute.example.", "http://absolute.example."),
        ("localhost", "http://localhost/"),
        # Browsers write both like this, and never one of them as 127.0.0.1.
        ("[::ffff:7f00:1]:80", "http://[::ffff:127.0.0.1]"),
    ],
)
def test_origins_of_the_host(host: str, origin: str) -> None:
    accepted_handshake = accepted(request(("Origin", origin), host=host), HOSTS)
    assert accepted_handshake.scheme == "http"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://evil.example"),
        ("localhost:30747", "http://localhost"),
        ("localhost:30747", "http://localhost:30748"),
        ("localhost:80", "https://localhost"),
        ("localhost", "http://localhost:443"),
        ("localhost", "https://localhost:80"),
        ("localhost", "http://127.0.0.1"),
        ("127.0.0.1", "http://localhost"),
        ("[::1]", "http://[::2]"),
        ("[::ffff:127.0.0.1]", "http://127.0.0.1"),
        ("localhost", "http://localhost."),
        ("localhost", "http://localhost.evil.example"),
        ("app.example.org", "http://example.org"),
        ("app.example.org", "http://sub.app.example.org"),
        ("absolute.example.", "http://absolute.example"),
    ],
)
@pytest.mark.parametrize("target", ["/", "/ws"])
def test_foreign_origins(host: str, origin: str, target: str) -> None:
    sent = request(("Origin", origin), host=host, target=target, upgrade=target != "/")
    text = (
        f'Origin "{origin}" is not allowed here; '
        f"start with --origin {origin} to allow it"
    )
    check(refused(sent, HOSTS), 403, "origin", text)


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("", ""),
        ("localhost", "localhost"),
        ("//localhost", "//localhost"),
        ("http:localhost", "http:localhost"),
        ("http://", "http://"),
        ("http:///", "http:///"),
        ("http://localhost//", "http://localhost//"),
        ("http://localhost/x", "http://localhost/x"),
        ("app-1://*", "app-1://*"),
        ("app_1://x", "app_1://x"),
        ("1app://x", "1app://x"),
        ("http://localhost:", "http://localhost:"),
        ("http://user@localhost", "http://user@localhost"),
        ("http://localhost@evil.example", "http://localhost@evil.example"),
        (
            "http://localhost http://evil.example",
            "http://localhost http://evil.example",
        ),
        ("NULL", "NULL"),
        ('http://"\xfc', "http://\\x22\\xfc"),
    ],
)
def test_malformed_origins(origin: str, shown: str) -> None:
    error = refused(request(("Origin", origin)), ORIGINS)
    text = "is malformed; a browser sends scheme, name and port alone"
    check(error, 403, "origin", f'Origin "{shown}" {text}')


def test_the_null_origin_is_refused_even_when_listed() -> None:
    text = (
        'Origin "null" is refused, because all sandboxed pages and files have it; '
        "serve the page from an origin of its own, and allow that"
    )
    policy = HandshakePolicy(("json",), origins=("null",))
    check(refused(request(("Origin", "null")), policy), 403, "origin", text)


ORIGINS = HandshakePolicy(
    ("json",),
    origins=("HTTPS://Page.example/", "http://[::1]:80", "app://x", "app-1://*"),
)


@pytest.mark.parametrize(
    "origin",
    [
        "https://page.example",
        "https://PAGE.example:443/",
        "app://X",
        "http://[0::1]",
        "app-1://x",
        "APP-1://y:1/",
        "app-1://",
    ],
)
def test_origins_that_are_listed(origin: str) -> None:
    assert accepted(request(("Origin", origin)), ORIGINS).host == "localhost"


SCHEMES = ("http", "https", "ws", "wss", "file", "app", "app-1", "vscode-webview")


@given(
    st.sampled_from(SCHEMES),
    st.sampled_from(["", "localhost", "Page.example", "[0::1]", "[::ffff:1.2.3.4]"]),
    st.sampled_from(["", ":80", ":443", ":8080"]),
    st.sampled_from(["", "/"]),
)
def test_a_refused_origin_names_options_that_allow_it(
    scheme: str, host: str, port: str, end: str
) -> None:
    """The options go through their own reader, as on a command line."""
    origin = f"{scheme}://{host}{port}{end}"
    try:
        decide(request(("Origin", origin)), ORIGINS)
    except HTTPError as error:
        options = re.findall(r"--origin '?([^' ]+)", error.text)
        is_web = scheme in SCHEMES[:4]
        assert len(options) == (0 if not host and (is_web or port) else 2 - is_web)
        for option in options:
            allowed = HandshakePolicy(("json",), origins=values.origins([option]))
            assert accepted(request(("Origin", origin)), allowed).framing == "json"


def test_an_origin_of_no_web_page_gets_two_cures() -> None:
    error = refused(request(("Origin", "vscode-webview://1AB/")), ORIGINS)
    text = (
        'Origin "vscode-webview://1AB/" is not allowed here; start with '
        "--origin vscode-webview://1ab to allow it, or with "
        "--origin 'vscode-webview://*' to allow all of this scheme"
    )
    check(error, 403, "origin", text)


@pytest.mark.parametrize(
    "origin",
    [
        "http://page.example",
        "https://page.example:444",
        "https://example",
        "app://y",
        "app://x:80",
        "app-2://x",
        # not of the host: no page of the web has such an origin
        "ws://localhost",
        "app://localhost",
    ],
)
def test_origins_that_are_not_listed(origin: str) -> None:
    assert refused(request(("Origin", origin)), ORIGINS).cause == "origin"


# A URL as target: its authority and scheme count in place of Host


@pytest.mark.parametrize(
    ("target", "name", "port"),
    [
        ("http://App.example.org:8080/x", "app.example.org", 8080),
        ("http://[0::1]", "[::1]", 80),
    ],
)
def test_the_host_of_a_url(target: str, name: str, port: int) -> None:
    accepted_handshake = accepted(request(target=target, host="evil.example"), HOSTS)
    assert (accepted_handshake.host, accepted_handshake.port) == (name, port)
    assert accepted_handshake.scheme == "http"


@pytest.mark.parametrize(
    ("target", "origin", "status", "cause"),
    [
        ("http://evil.example/", "", 403, "host"),
        ("http://localhost:1/", "http://localhost:1", 101, ""),
        ("http://localhost:1/", "http://localhost:2", 403, "origin"),
        # The client names the scheme, so the one of the Origin has to be the same.
        ("http://localhost/", "https://localhost", 403, "origin"),
        ("https://localhost/", "https://localhost", 421, "scheme"),
    ],
)
def test_checks_of_a_url(target: str, origin: str, status: int, cause: str) -> None:
    fields = [("Origin", origin)] if origin else []
    sent = request(*fields, target=target, host="localhost:2")
    if status == 101:
        assert accepted(sent, HOSTS).scheme == "http"
        return
    error = refused(sent, HOSTS)
    assert (error.status, error.cause) == (status, cause)


def test_a_trusted_proxy_may_have_received_https() -> None:
    policy = HandshakePolicy(
        ("json",), trusted=proxy_protocol.trusted_networks([f"{ROUTABLE}/32"])
    )
    sent = request(("Origin", "https://localhost"), target="https://localhost/")
    assert accepted(sent, policy).scheme == "https"
    forwarded = request(("X-Forwarded-Proto", "http"), target="https://localhost/")
    assert accepted(forwarded, policy).scheme == "http"


# HTTP/1.0 and OPTIONS: health checks


OVER_1_0 = (
    "a WebSocket handshake over HTTP/1.0; a proxy in between has to use HTTP/1.1 "
    "(nginx: proxy_http_version 1.1) and to pass on Upgrade"
)


def old(text: str) -> http.HTTPRequest:
    """Return a request by HTTP/1.0 with these lines."""
    found = http.parse(text.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert found is not None
    return found[0]


@pytest.mark.parametrize("lines", ["", "\nHost: localhost", "\nUpgrade: websocket"])
@pytest.mark.parametrize("target", ["/", "/ws", "/asyncapi.json", "http://[::1]/x"])
def test_health_checks(target: str, lines: str) -> None:
    for method, route in (("GET", "text"), ("HEAD", "text"), ("OPTIONS", "methods")):
        found = decide(old(f"{method} {target} HTTP/1.0{lines}"))
        assert isinstance(found, ResourceRequest)
        assert found.route == route
        has_host = "Host" in lines or "://" in target
        assert bool(found.url) == has_host


@pytest.mark.parametrize(
    ("text", "status", "cause"),
    [
        ("GET / HTTP/1.0\nHost: evil.example", 403, "host"),
        ("GET / HTTP/1.0\nHost: ", 400, "malformed"),
        ("GET / HTTP/1.0\nOrigin: http://evil.example", 403, "origin"),
        ("OPTIONS * HTTP/1.1\nHost: evil.example", 403, "host"),
        ("OPTIONS / HTTP/1.1\nHost: h\nOrigin: http://localhost", 403, "host"),
        ("POST / HTTP/1.0", 405, "method"),
    ],
)
def test_health_checks_that_are_refused(text: str, status: int, cause: str) -> None:
    error = refused(old(text))
    assert (error.status, error.cause) == (status, cause)


def test_no_session_over_http_1_0() -> None:
    text = "\n".join(["GET /ws HTTP/1.0", *(f"{k}: {v}" for k, v in UPGRADE.items())])
    check(refused(old(text)), 426, "no-upgrade", OVER_1_0)


@pytest.mark.parametrize("target", ["/", "/ws", "*", "/asyncapi.json", "http://[::1]"])
def test_options(target: str) -> None:
    found = decide(request(target=target, method="OPTIONS"))
    assert isinstance(found, ResourceRequest)
    assert found.route == "methods"


# Missing applications


def test_names_for_clients_that_may_list_them() -> None:
    policy = HandshakePolicy(
        ("json",), missing={"status": 404, "text": "not here", "cause": "missing"}
    )
    policy.describe_missing = "there are more than {}".format
    check(refused(request(), policy), 404, "missing", "there are more than /ws")
    assert refused(request(), policy).detail == "not here"
    foreign = request(("Origin", "http://evil.example"))
    check(refused(foreign, policy), 404, "missing", "not here")
    check(refused(old("GET /ws HTTP/1.0"), policy), 404, "missing", "not here")
    check(refused(old("OPTIONS /ws HTTP/1.0"), policy), 404, "missing", "not here")
    assert refused(request(host="evil.example"), policy).cause == "host"
    assert isinstance(decide(old("OPTIONS * HTTP/1.0"), policy), ResourceRequest)


# Subprotocols

CONTROL_V1 = b"chimirror.control.v1"
FRAMINGS = HandshakePolicy(("stdio", "json"), {"mcp": "lines", "V2+json": "json"})


@pytest.mark.parametrize(
    ("offers", "subprotocol", "framing"),
    [
        ([], None, "stdio"),
        (["chimirror.json.v1"], b"chimirror.json.v1", "json"),
        (["chimirror.json.v1, chimirror.stdio.v1"], b"chimirror.json.v1", "json"),
        (["x", "chimirror.stdio.v1,mcp"], b"chimirror.stdio.v1", "stdio"),
        (["chimirror.lines.v1 , mcp"], b"mcp", "lines"),
        (["MCP, v2+json, V2+json"], b"V2+json", "json"),
    ],
)
def test_the_first_subprotocol_that_is_served(
    offers: list[str], subprotocol: bytes | None, framing: str
) -> None:
    fields = [("Sec-WebSocket-Protocol", offer) for offer in offers]
    accepted_handshake = accepted(request(*fields), FRAMINGS)
    assert (accepted_handshake.subprotocol, accepted_handshake.framing) == (
        subprotocol,
        framing,
    )


@pytest.mark.parametrize(
    "offer",
    ["", ",", "chimirror.lines.v1", "Chimirror.json.v1", "json", "mcp;q=1", "\xfc"],
)
def test_subprotocols_that_are_not_served(offer: str) -> None:
    text = (
        "no subprotocol that is served here was offered; "
        "ours: chimirror.stdio.v1, chimirror.json.v1, mcp, V2+json"
    )
    error = refused(request(("Sec-WebSocket-Protocol", offer)), FRAMINGS)
    check(error, 400, "subprotocol", text)


@pytest.mark.parametrize(
    ("offer", "subprotocol", "framing"),
    [
        ("chimirror.size.132x43", None, "stdio"),
        ("chimirror.size.132x43, mcp", b"mcp", "lines"),
        ("x, chimirror.json.v1, chimirror.size.132x43", b"chimirror.json.v1", "json"),
        ("chimirror.control.v1, chimirror.size.132x43", CONTROL_V1, "control"),
    ],
)
def test_size_of_a_terminal_is_no_subprotocol(
    offer: str, subprotocol: bytes | None, framing: str
) -> None:
    found = accepted(request(("Sec-WebSocket-Protocol", offer)), FRAMINGS)
    assert (found.subprotocol, found.framing) == (subprotocol, framing)
    assert found.terminal_size == (132, 43)


@pytest.mark.parametrize(
    ("offer", "subprotocol", "framing"),
    [
        ("chimirror.alive.v1", None, "stdio"),
        ("chimirror.alive.v1, mcp", b"mcp", "lines"),
        ("x, chimirror.json.v1, chimirror.alive.v1", b"chimirror.json.v1", "json"),
        ("chimirror.control.v1, chimirror.alive.v1", CONTROL_V1, "control"),
    ],
)
@pytest.mark.parametrize("size", ["", ", chimirror.size.132x43"])
def test_the_wish_for_alive_messages_is_no_subprotocol(
    offer: str, subprotocol: bytes | None, framing: str, size: str
) -> None:
    found = accepted(request(("Sec-WebSocket-Protocol", offer + size)), FRAMINGS)
    assert (found.subprotocol, found.framing) == (subprotocol, framing)
    assert found.terminal_size == ((132, 43) if size else None)
    assert found.wants_alive
    offer = offer.replace("alive.v1", "alive.v2")
    if subprotocol:
        other = accepted(request(("Sec-WebSocket-Protocol", offer)), FRAMINGS)
        assert not other.wants_alive
    else:
        refused(request(("Sec-WebSocket-Protocol", offer)), FRAMINGS)


def test_the_id_of_a_session_beside_control_is_ignored() -> None:
    """Balancers read it."""
    for offer in ("chimirror.control.v1, {}", "{}, chimirror.control.v1"):
        text = offer.format("chimirror.session.6f1c0e8d2b7a4f35a7d0c1b2e3f40516")
        found = accepted(request(("Sec-WebSocket-Protocol", text)), FRAMINGS)
        assert (found.subprotocol, found.framing) == (CONTROL_V1, "control")


def test_size_of_a_terminal_beside_an_unknown_subprotocol() -> None:
    offer = ("Sec-WebSocket-Protocol", "x, chimirror.size.80x24")
    text = refused(request(offer), FRAMINGS).text
    assert text.startswith("no subprotocol that is served here was offered; ours: ")


@pytest.mark.parametrize(
    "size",
    ["", "80", "80x", "x24", "80x24x2", "0x24", "80x65536", "08x24", "+8x24", "8.x24"],
)
def test_malformed_size_of_a_terminal(size: str) -> None:
    offer = ("Sec-WebSocket-Protocol", f"chimirror.stdio.v1, chimirror.size.{size}")
    text = (
        f'malformed size of a terminal "{size}"; offer columns and rows from 1 to '
        "65535, as in chimirror.size.80x24"
    )
    check(refused(request(offer), FRAMINGS), 400, "subprotocol", text)


def test_two_sizes_of_a_terminal() -> None:
    offers = [
        ("Sec-WebSocket-Protocol", f"chimirror.size.{size}")
        for size in ("80x24", "132x43")
    ]
    text = "2 sizes of a terminal were offered; offer one"
    check(refused(request(*offers), FRAMINGS), 400, "subprotocol", text)


def test_the_order_of_the_checks() -> None:
    """A later error never hides an earlier one."""
    wrong = {"method": "POST", "secwebsocketversion": "8", "host": "evil.example"}
    fields = [("Origin", "null"), ("Sec-WebSocket-Protocol", "x")]
    causes = []
    for _ in range(3):
        causes.append(refused(request(*fields, **wrong)).cause)  # type: ignore[arg-type]  # one mapping for arguments of several kinds
        wrong.pop(next(iter(wrong)))
    for _ in range(2):
        causes.append(refused(request(*fields)).cause)
        fields.pop(0)
    assert causes == ["method", "version", "host", "origin", "subprotocol"]


# Behind proxies

BEHIND = HandshakePolicy(
    ("json",),
    hosts=("app.example.org",),
    trusted=proxy_protocol.trusted_networks(
        [f"{ROUTABLE}/32", "10.0.0.0/8", "2001:db8::/32", "unix"]
    ),
)


@pytest.mark.parametrize(
    ("values", "address", "port"),
    [
        ([], ROUTABLE, 4711),
        ([""], ROUTABLE, 4711),
        (["192.0.2.1"], "192.0.2.1", 0),
        (["192.0.2.1:55"], "192.0.2.1", 55),
        (["2001:DB9::1"], "2001:db9::1", 0),
        (["[2001:db9::1]"], "2001:db9::1", 0),
        (["[2001:db9:0::1]:55"], "2001:db9::1", 55),
        # A proxy on a socket for both families names and is named like this.
        (["::ffff:192.0.2.1, ::ffff:10.0.0.1"], "192.0.2.1", 0),
        (["[::FFFF:c000:201]:55"], "192.0.2.1", 55),
        (["fe80::1%eth0"], "fe80::1", 0),
        (["[fe80::1%br-0.1]:55"], "fe80::1", 55),
        (["192.0.2.1, 192.0.2.2"], "192.0.2.2", 0),
        (["192.0.2.1", "192.0.2.2, 10.0.0.1"], "192.0.2.2", 0),
        (["192.0.2.1", "10.0.0.1", "2001:db8::7"], "192.0.2.1", 0),
        (["rubbish, 192.0.2.1"], "192.0.2.1", 0),
        (["unknown", "192.0.2.1,, 10.0.0.1 "], "192.0.2.1", 0),
        # All addresses are trusted: the farthest one counts.
        (["10.0.0.2, 10.0.0.1"], "10.0.0.2", 0),
    ],
)
@pytest.mark.parametrize("peer", [ROUTABLE, "10.1.2.3", ""])
def test_the_right_most_hop_that_is_not_trusted(
    values: list[str], address: str, port: int, peer: str
) -> None:
    fields = [("X-Forwarded-For", value) for value in values]
    accepted_handshake = accepted(request(*fields), BEHIND, peer)
    expected = (peer, 4711) if address == ROUTABLE else (address, port)
    assert (accepted_handshake.peer_address, accepted_handshake.peer_port) == expected


@pytest.mark.parametrize(
    "value",
    [
        "unknown",
        "_hidden",
        "localhost",
        "192.0.2.1:",
        "192.0.2.1:99999",
        "192.0.2.256",
        "[192.0.2.1]",
        "2001:db9::1:",
        "[2001:db9::1",
        "fe80::1%",
        "fe80::1%l o",
        "[fe80::1%lo",
        "192.0.2.1%lo",
        "192.0.2.1 192.0.2.2",
        "192.0.2.1, rubbish, 10.0.0.1",
        "\xfc",
    ],
)
def test_a_hop_that_cannot_be_read(value: str) -> None:
    error = refused(request(("X-Forwarded-For", value)), BEHIND)
    assert (error.status, error.cause) == (400, "forwarded")
    assert error.text.startswith('the proxy sent an unusable X-Forwarded-For "')


@pytest.mark.parametrize(
    ("fields", "origin", "scheme", "host", "port"),
    [
        ([("Proto", "https")], "https://localhost", "https", "localhost", 443),
        ([("Proto", "WSS")], "https://localhost:443", "https", "localhost", 443),
        ([("Proto", "ws")], "http://localhost", "http", "localhost", 80),
        ([("Proto", "http, https")], None, "https", "localhost", 443),
        ([("Proto", "http"), ("Proto", "https")], None, "https", "localhost", 443),
        (
            [("Host", "app.example.org"), ("Proto", "https")],
            "https://app.example.org",
            "https",
            "app.example.org",
            443,
        ),
        (
            [("Host", "evil.example, APP.example.org:8443")],
            "https://app.example.org:8443",
            "http",
            "app.example.org",
            8443,
        ),
    ],
)
def test_scheme_and_host_of_a_trusted_proxy(
    fields: list[tuple[str, str]], origin: str | None, scheme: str, host: str, port: int
) -> None:
    lines = [(f"X-Forwarded-{name}", value) for name, value in fields]
    if origin:
        lines.append(("Origin", origin))
    accepted_handshake = accepted(request(*lines), BEHIND)
    assert (
        accepted_handshake.scheme,
        accepted_handshake.host,
        accepted_handshake.port,
    ) == (scheme, host, port)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ([("Origin", "http://localhost"), ("X-Forwarded-Proto", "https")], "origin"),
        ([("Origin", "https://localhost"), ("X-Forwarded-Proto", "http")], "origin"),
        ([("X-Forwarded-Host", "evil.example")], "host"),
        ([("X-Forwarded-Host", "app.example.org:x")], "malformed"),
        ([("X-Forwarded-Proto", "gopher")], "forwarded"),
        ([("X-Forwarded-Proto", "\xfc")], "forwarded"),
    ],
)
def test_fields_of_a_trusted_proxy_are_checked(
    fields: list[tuple[str, str]], cause: str
) -> None:
    assert refused(request(*fields), BEHIND).cause == cause


def test_a_forwarded_host_counts_instead_of_the_other() -> None:
    sent = request(("X-Forwarded-Host", "localhost"), host="backend.internal")
    assert accepted(sent, BEHIND).host == "localhost"


@pytest.mark.parametrize("policy", [PLAIN, BEHIND])
def test_fields_of_untrusted_peers_are_ignored(policy: HandshakePolicy) -> None:
    sent = request(
        ("X-Forwarded-For", "rubbish"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "evil.example"),
    )
    accepted_handshake = accepted(sent, policy, "192.0.2.77")
    assert (accepted_handshake.peer_address, accepted_handshake.peer_port) == (
        "192.0.2.77",
        4711,
    )
    assert (accepted_handshake.scheme, accepted_handshake.host) == ("http", "localhost")


# Arbitrary requests


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20)
ODD = VALUES.map(lambda text: text.replace("\x7f", "")) | st.sampled_from(
    ["null", "http://localhost", "localhost", "::", "[", "]:", "a,b", "http://[::1]"]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "X-Forwarded-For",
                    "X-Forwarded-Proto",
                    "X-Forwarded-Host",
                    "Sec-WebSocket-Protocol",
                    "Sec-WebSocket-Key",
                    "Upgrade",
                ]
            ),
            ODD,
        ),
        max_size=4,
    ),
    ODD,
    ODD,
    st.sampled_from([PLAIN, HOSTS, FRAMINGS, BEHIND]),
)
def test_every_request_gets_an_answer(
    fields: list[tuple[str, str]], host: str, origin: str, policy: HandshakePolicy
) -> None:
    sent = request(*fields, ("Origin", origin), host=host)
    accepted_handshake: AcceptedHandshake | ResourceRequest | HTTPError
    try:
        accepted_handshake = decide(sent, policy)
    except HTTPError as error:
        accepted_handshake = error
    if isinstance(accepted_handshake, HTTPError):
        assert accepted_handshake.status in (400, 403, 426)
        assert accepted_handshake.text.isprintable()
        assert accepted_handshake.text.isascii()
    else:
        assert isinstance(accepted_handshake, AcceptedHandshake)


def test_the_predicate_is_called_for_each_hop() -> None:
    asked_for: list[str] = []

    def trusted(address: str) -> bool:
        asked_for.append(address)
        return address in ("", "10.0.0.1")

    predicate: Callable[[str], bool] = trusted
    policy = HandshakePolicy(("json",), trusted=predicate)
    sent = request(("X-Forwarded-For", "192.0.2.1, 192.0.2.2, 10.0.0.1"))
    assert accepted(sent, policy, "").peer_address == "192.0.2.2"
    assert asked_for == ["", "10.0.0.1", "192.0.2.2"]


# Checks: a plain GET that asks whether a handshake would succeed.


def asking(
    asked: http.HTTPRequest, policy: HandshakePolicy
) -> tuple[int, str, str] | tuple[bytes | None, str, tuple[int, int] | None]:
    """Return the refusal of a request, or what it would open."""
    try:
        found = decide(asked, policy)
    except http.HTTPError as error:
        return error.status, error.text, error.cause
    assert isinstance(found, AcceptedHandshake)
    return found.subprotocol, found.framing, found.terminal_size


MISSING = HandshakePolicy(
    ("json",), missing={"status": 404, "text": "not here", "cause": "missing"}
)
VISITED = HandshakePolicy(("stdio",), origins=("https://page.example",))


@pytest.mark.parametrize("policy", [PLAIN, MISSING, VISITED])
@pytest.mark.parametrize("host", ["localhost", "evil.example", "a b"])
@pytest.mark.parametrize(
    "origin", ["http://localhost", "https://page.example", "null", None]
)
@pytest.mark.parametrize(
    "offer",
    [
        "chimirror.stdio.v1",
        "chimirror.stdio.v1, chimirror.size.80x24",
        "chimirror.size.80",
        "chimirror.json.v1",
        "chimirror.control.v1",
        "foreign",
        "",
    ],
)
def test_a_check_has_the_verdict_of_the_handshake(
    policy: HandshakePolicy, host: str, origin: str | None, offer: str
) -> None:
    theirs = [("Origin", origin)] if origin else []
    given = [("Chimirror-Origin", origin)] if origin else []
    real = request(("Sec-WebSocket-Protocol", offer), *theirs, host=host)
    field = ("Chimirror-Subprotocol", offer)
    asked = request(field, *given, host=host, upgrade=False)
    assert asking(asked, policy) == asking(real, policy)
    asked = request(field, *theirs, host=host, upgrade=False)
    assert asking(asked, policy) == asking(real, policy)


def test_a_check_names_no_other_origin_than_the_browser() -> None:
    fields = {
        "Chimirror-Subprotocol": "chimirror.json.v1",
        "Chimirror-Origin": "http://localhost",
        "Origin": "https://evil.example",
    }
    error = refused(request(*fields.items(), upgrade=False))
    check(
        error,
        403,
        "origin",
        'Origin "https://evil.example" is not allowed here; '
        "start with --origin https://evil.example to allow it",
    )


def test_a_check_over_http_1_0() -> None:
    """As the proxy in between would pass on the handshake."""
    asked = request(("Chimirror-Subprotocol", "chimirror.json.v1"), upgrade=False)
    asked.is_http10 = True
    assert (refused(asked).status, refused(asked).cause) == (426, "no-upgrade")
    assert "proxy_http_version 1.1" in refused(asked).text


def test_a_handshake_is_no_check() -> None:
    found = accepted(request(("Chimirror-Subprotocol", "foreign")))
    assert found.framing == "json"
    asked = request(("Chimirror-Subprotocol", "foreign"), method="HEAD", target="/")
    assert isinstance(decide(asked), ResourceRequest)
