"""Who may open a session: tables of requests, and what is answered to the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.wire import handshake, http, proxy
from chimirror.wire.handshake import Accept, Policy
from chimirror.wire.http import Refusal
from chimirror.wire.visit import Visit

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
VERSION_13 = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
PLAIN = Policy(("json", "stdio"))
ROUTABLE = "203.0.113.9"


def request(
    *lines: tuple[str, str],
    method: str = "GET",
    target: str = "/ws",
    host: str = "localhost",
    upgrade: bool = True,
    **changes: str | None,
) -> http.Request:
    """Build a request by way of the parser.

    Args:
        lines: Fields to add.
        method: Its method.
        target: Its target.
        host: Its Host.
        upgrade: Whether the fields of an opening handshake are in it.
        changes: Values for these fields, by their name without dashes in lower
            case; None takes the field away.
    """
    fields = [("Host", host)]
    for name, value in UPGRADE.items() if upgrade else ():
        changed = changes.get(name.replace("-", "").lower(), value)
        if changed is not None:
            fields.append((name, changed))
    text = f"{method} {target} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in [*fields, *lines]
    )
    found = http.parse(text.encode("latin-1") + b"\r\n")
    assert found is not None
    return found[0]


def judge(
    asked: http.Request,
    policy: Policy = PLAIN,
    peer_address: str = ROUTABLE,
    peer_port: int = 4711,
) -> Accept | Visit:
    return handshake.judge(asked, policy, peer_address, peer_port)


def accepted(
    asked: http.Request,
    policy: Policy = PLAIN,
    peer_address: str = ROUTABLE,
    peer_port: int = 4711,
) -> Accept:
    verdict = judge(asked, policy, peer_address, peer_port)
    assert isinstance(verdict, Accept)
    return verdict


def refused(
    asked: http.Request, policy: Policy = PLAIN, peer_address: str = ROUTABLE
) -> Refusal:
    with pytest.raises(Refusal) as caught:
        judge(asked, policy, peer_address)
    return caught.value


def check(refusal: Refusal, status: int, cause: str, text: str) -> None:
    assert (refusal.status, refusal.cause, refusal.text) == (status, cause, text)


# The handshake itself


def test_an_opening_handshake() -> None:
    asked = request(host="LOCALHOST:30747", target="/a?b")
    verdict = accepted(asked)
    assert verdict.request is asked
    assert verdict.framing == "json"
    assert verdict.subprotocol is None
    assert verdict.scheme == "http"
    assert (verdict.host, verdict.port) == ("localhost", 30747)
    assert (verdict.peer_address, verdict.peer_port) == (ROUTABLE, 4711)


def test_a_peer_on_a_unix_socket() -> None:
    verdict = accepted(request(), PLAIN, "", 0)
    assert (verdict.peer_address, verdict.peer_port) == ("", 0)
    assert (verdict.host, verdict.port) == ("localhost", 80)


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "PUT", "get", "CONNECT", "A'B"])
@pytest.mark.parametrize("target", ["/", "/ws"])
def test_methods_that_are_not_served(method: str, target: str) -> None:
    refusal = refused(request(method=method, target=target, host="evil.example"))
    check(refusal, 405, "method", f"{method} is not served here; use GET")
    assert refusal.headers == (("Allow", "GET, HEAD"),)


@pytest.mark.parametrize(
    "changes",
    [
        {"upgrade": "WebSocket"},
        {"upgrade": "h2c, websocket"},
        {"connection": "keep-alive, UPGRADE"},
        {"connection": ",upgrade,,"},
    ],
)
def test_handshakes_in_another_hand(changes: dict[str, str]) -> None:
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
    asked = request(*fields, upgrade=False, target=target, host="evil.example")
    refusal = refused(asked)
    check(refusal, 426, cause, text)
    assert refusal.headers == VERSION_13
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in refusal.response()
    assert b"\r\nUpgrade: websocket\r\n" in refusal.response()


def test_a_handshake_by_head() -> None:
    check(refused(request(method="HEAD")), 426, "no-upgrade", NO_UPGRADE)


@pytest.mark.parametrize("version", ["", "8", "14", "013", "13, 8", "13,13"])
def test_other_versions(version: str) -> None:
    refusal = refused(request(secwebsocketversion=version))
    check(refusal, 426, "version", ONLY_13)
    assert refusal.headers == VERSION_13


def test_a_version_twice() -> None:
    refusal = refused(request(("Sec-WebSocket-Version", "13")))
    check(refusal, 426, "version", ONLY_13)


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
    asked = request(secwebsocketkey=key, host="evil.example")
    check(refused(asked), 400, "malformed", ONE_KEY)


def test_two_keys() -> None:
    asked = request(("Sec-WebSocket-Key", KEY))
    check(refused(asked), 400, "malformed", ONE_KEY)


# Host

HOSTS = Policy(("json",), hosts=("App.example.org", "absolute.example."))


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
def test_hosts_that_are_ours(host: str, name: str, port: int) -> None:
    verdict = accepted(request(host=host), HOSTS)
    assert (verdict.host, verdict.port) == (name, port)


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
def test_hosts_that_are_not_ours(host: str, shown: str, target: str) -> None:
    asked = request(host=host, target=target, upgrade=target != "/")
    text = f'Host "{shown}" is not served here; start with --host {shown} to allow it'
    check(refused(asked, HOSTS), 403, "host", text)


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
        # TLS ends in front of us, and nobody said so: the Origin's scheme counts.
        ("localhost", "https://localhost"),
        ("localhost:443", "https://localhost"),
        ("localhost", "https://localhost:443"),
        ("localhost:8443", "https://localhost:8443"),
        ("127.0.0.1:1", "http://127.0.0.1:1"),
        ("[::1]", "http://[::1]"),
        ("[::1]:30747", "http://[0:0:0:0:0:0:0:1]:30747"),
        ("app.example.org", "https://app.example.org"),
        ("absolute.example.", "http://absolute.example."),
    ],
)
def test_origins_of_the_host(host: str, origin: str) -> None:
    verdict = accepted(request(("Origin", origin), host=host), HOSTS)
    assert verdict.scheme == "http"


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
        ("localhost", "http://localhost."),
        ("localhost", "http://localhost.evil.example"),
        ("app.example.org", "http://example.org"),
        ("app.example.org", "http://sub.app.example.org"),
        ("absolute.example.", "http://absolute.example"),
    ],
)
@pytest.mark.parametrize("target", ["/", "/ws"])
def test_origins_of_others(host: str, origin: str, target: str) -> None:
    asked = request(("Origin", origin), host=host, target=target, upgrade=target != "/")
    text = (
        f'Origin "{origin}" is not allowed here; '
        f"start with --origin {origin} to allow it"
    )
    check(refused(asked, HOSTS), 403, "origin", text)


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("", ""),
        ("localhost", "localhost"),
        ("//localhost", "//localhost"),
        ("http:localhost", "http:localhost"),
        ("http://", "http://"),
        ("http://localhost/", "http://localhost/"),
        ("http://localhost:", "http://localhost:"),
        ("http://user@localhost", "http://user@localhost"),
        ("http://localhost@evil.example", "http://localhost@evil.example"),
        (
            "http://localhost http://evil.example",
            "http://localhost http://evil.example",
        ),
        ("ws://localhost", "ws://localhost"),
        ("file://", "file://"),
        ("chrome-extension://localhost", "chrome-extension://localhost"),
        ("NULL", "NULL"),
        ('http://"\xfc', "http://\\x22\\xfc"),
    ],
)
def test_origins_that_are_none(origin: str, shown: str) -> None:
    refusal = refused(request(("Origin", origin)))
    check(refusal, 403, "origin", f'Origin "{shown}" is not allowed here')


def test_the_null_origin_is_refused_even_when_listed() -> None:
    text = 'Origin "null" is refused: sandboxed pages and files open no session here'
    policy = Policy(("json",), origins=("null",))
    check(refused(request(("Origin", "null")), policy), 403, "origin", text)


ORIGINS = Policy(
    ("json",), origins=("HTTPS://Page.example", "http://[::1]:08", "app://x")
)


@pytest.mark.parametrize(
    "origin",
    ["https://page.example", "https://PAGE.example:443", "app://X", "http://[::1]:08"],
)
def test_origins_that_are_listed(origin: str) -> None:
    assert accepted(request(("Origin", origin)), ORIGINS).host == "localhost"


@pytest.mark.parametrize(
    "origin", ["http://page.example", "https://page.example:444", "https://example"]
)
def test_origins_that_are_not_listed(origin: str) -> None:
    assert refused(request(("Origin", origin)), ORIGINS).cause == "origin"


# Subprotocols

FRAMINGS = Policy(("stdio", "json"), {"mcp": "lines", "V2+json": "json"})


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
    verdict = accepted(request(*fields), FRAMINGS)
    assert (verdict.subprotocol, verdict.framing) == (subprotocol, framing)


@pytest.mark.parametrize(
    "offer",
    ["", ",", "chimirror.lines.v1", "Chimirror.json.v1", "json", "mcp;q=1", "\xfc"],
)
def test_subprotocols_that_are_not_served(offer: str) -> None:
    text = (
        "no subprotocol that is served here was offered; "
        "ours: chimirror.stdio.v1, chimirror.json.v1, mcp, V2+json"
    )
    refusal = refused(request(("Sec-WebSocket-Protocol", offer)), FRAMINGS)
    check(refusal, 400, "subprotocol", text)


def test_the_order_of_the_checks() -> None:
    """What is wrong later does not show before what is wrong earlier."""
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

BEHIND = Policy(
    ("json",),
    hosts=("app.example.org",),
    trusted=proxy.trusted([f"{ROUTABLE}/32", "10.0.0.0/8", "2001:db8::/32", "unix"]),
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
        (["192.0.2.1, 192.0.2.2"], "192.0.2.2", 0),
        (["192.0.2.1", "192.0.2.2, 10.0.0.1"], "192.0.2.2", 0),
        (["192.0.2.1", "10.0.0.1", "2001:db8::7"], "192.0.2.1", 0),
        (["rubbish, 192.0.2.1"], "192.0.2.1", 0),
        (["unknown", "192.0.2.1,, 10.0.0.1 "], "192.0.2.1", 0),
        # Everybody is one of ours: the farthest of them.
        (["10.0.0.2, 10.0.0.1"], "10.0.0.2", 0),
    ],
)
@pytest.mark.parametrize("peer", [ROUTABLE, "10.1.2.3", "::ffff:10.1.2.3", ""])
def test_the_right_most_hop_that_is_not_trusted(
    values: list[str], address: str, port: int, peer: str
) -> None:
    fields = [("X-Forwarded-For", value) for value in values]
    verdict = accepted(request(*fields), BEHIND, peer)
    expected = (peer, 4711) if address == ROUTABLE else (address, port)
    assert (verdict.peer_address, verdict.peer_port) == expected


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
        "fe80::1%lo",
        "192.0.2.1 192.0.2.2",
        "192.0.2.1, rubbish, 10.0.0.1",
        "\xfc",
    ],
)
def test_a_hop_that_cannot_be_read(value: str) -> None:
    refusal = refused(request(("X-Forwarded-For", value)), BEHIND)
    assert (refusal.status, refusal.cause) == (400, "forwarded")
    assert refusal.text.startswith('the proxy sent an unusable X-Forwarded-For "')


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
    verdict = accepted(request(*lines), BEHIND)
    assert (verdict.scheme, verdict.host, verdict.port) == (scheme, host, port)


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
def test_what_a_trusted_proxy_says_is_judged(
    fields: list[tuple[str, str]], cause: str
) -> None:
    assert refused(request(*fields), BEHIND).cause == cause


def test_a_forwarded_host_counts_instead_of_the_other() -> None:
    asked = request(("X-Forwarded-Host", "localhost"), host="backend.internal")
    assert accepted(asked, BEHIND).host == "localhost"


@pytest.mark.parametrize("policy", [PLAIN, BEHIND])
def test_what_others_forward_is_data(policy: Policy) -> None:
    asked = request(
        ("X-Forwarded-For", "rubbish"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "evil.example"),
    )
    verdict = accepted(asked, policy, "192.0.2.77")
    assert (verdict.peer_address, verdict.peer_port) == ("192.0.2.77", 4711)
    assert (verdict.scheme, verdict.host) == ("http", "localhost")


# Whatever comes


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
def test_every_request_gets_a_verdict(
    fields: list[tuple[str, str]], host: str, origin: str, policy: Policy
) -> None:
    asked = request(*fields, ("Origin", origin), host=host)
    verdict: Accept | Visit | Refusal
    try:
        verdict = judge(asked, policy)
    except Refusal as refusal:
        verdict = refusal
    if isinstance(verdict, Refusal):
        assert verdict.status in (400, 403, 426)
        assert verdict.text.isprintable()
        assert verdict.text.isascii()
    else:
        assert isinstance(verdict, Accept)


def test_the_predicate_is_asked_for_each_hop() -> None:
    asked_for: list[str] = []

    def trusted(address: str) -> bool:
        asked_for.append(address)
        return address in ("", "10.0.0.1")

    predicate: Callable[[str], bool] = trusted
    policy = Policy(("json",), trusted=predicate)
    asked = request(("X-Forwarded-For", "192.0.2.1, 192.0.2.2, 10.0.0.1"))
    assert accepted(asked, policy, "").peer_address == "192.0.2.2"
    assert asked_for == ["", "10.0.0.1", "192.0.2.2"]
