"""The request cache: equal results with and without it, byte for byte."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.protocol import http, policy, request_cache
from chimirror.protocol.request_cache import RequestCache, SessionRequest
from chimirror.protocol.routes import ResourceRequest

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OTHER = b64encode(bytes(range(16)))
LINES = (
    b"Host: localhost",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
)
PEER = ("192.0.2.1", 4711)
POLICY = policy.HandshakePolicy(("json", "lines"))


def head(*lines: bytes, key: bytes = KEY, target: bytes = b"/") -> bytes:
    lines = (*LINES, b"Sec-WebSocket-Key: " + key, *lines)
    return b"\r\n".join([b"GET %s HTTP/1.1" % target, *lines, b"", b""])


def outcome(
    cache: RequestCache,
    data: bytes,
    peer: tuple[str, int] = PEER,
    *,
    without_cache: bool = False,
) -> object:
    """Return all results of a request for comparison."""
    try:
        found = (cache.decide if without_cache else cache.read)(data, *peer)
    except http.HTTPError as refusal:
        return refusal.response()
    if isinstance(found, SessionRequest):
        variables = list(found.variables.items())
        values = {name: getattr(found, name) for name in SessionRequest.__slots__}
        return {**values, "variables": variables, "response": found.response()}
    return found and (found.route, found.url)


class CountingCache(RequestCache):
    """A RequestCache that counts the decisions without the cache."""

    __slots__ = ("decisions",)

    def __init__(
        self, own_policy: policy.HandshakePolicy = POLICY, keep: tuple[str, ...] = ()
    ):
        super().__init__(own_policy, "x", keep)
        self.decisions = 0

    def decide(
        self, data: bytes, peer_address: str, peer_port: int
    ) -> SessionRequest | ResourceRequest | None:
        self.decisions += 1
        return super().decide(data, peer_address, peer_port)


def test_a_head_is_parsed_once() -> None:
    cache = CountingCache()
    for key in (KEY, OTHER, KEY):
        for peer in (PEER, ("::1", 1), ("", 0), ("192.0.2.2", 0)):
            data = head(key=key) + b"behind"
            once = outcome(cache, data, peer)
            assert once == outcome(
                RequestCache(POLICY, "x"), data, peer, without_cache=True
            )
    assert cache.decisions == 1


def test_heads_with_another_size_of_the_terminal_are_others() -> None:
    cache = CountingCache()
    for size in ((132, 43), (80, 24), (132, 43)):
        offer = b"Sec-WebSocket-Protocol: chimirror.json.v1, chimirror.size.%dx%d"
        found = cache.read(head(offer % size), *PEER)
        assert isinstance(found, SessionRequest)
        assert found.terminal_size == size
    assert cache.decisions == 2


def test_heads_with_and_without_the_wish_for_alive_messages() -> None:
    cache = CountingCache()
    for wish in (b"", b", chimirror.alive.v1") * 2:
        offer = b"Sec-WebSocket-Protocol: chimirror.json.v1" + wish
        found = cache.read(head(offer), *PEER)
        assert isinstance(found, SessionRequest)
        assert found.wants_alive == bool(wish)
    assert cache.decisions == 2


def test_each_request_has_its_own_values() -> None:
    cache = CountingCache()
    for _ in range(3):
        found = cache.read(head(), *PEER)
        assert isinstance(found, SessionRequest)
        assert "MINE" not in found.variables
        found.variables["MINE"] = "x"
        found.variables["HTTP_HOST"] = "x"
    assert cache.decisions == 1


@pytest.mark.parametrize(
    "data",
    [
        head(key=b"short"),
        head(key=KEY + b"AAAA"),
        head(b"Sec-WebSocket-Key: " + OTHER),
        head(b"sec-websocket-key: " + OTHER),
        head(b"Host: localhost"),
        head(b"Origin: null"),
        head(b"A: b", b" folded: c"),
        head(b"A: \0"),
    ],
)
def test_errors_are_not_cached(data: bytes) -> None:
    cache = CountingCache()
    for times in (1, 2, 3):
        assert isinstance(outcome(cache, data), bytes)
        assert cache.decisions == times
    assert not cache._cache


@pytest.mark.parametrize(
    "data",
    [
        head(key=b" " + KEY),
        head().replace(b"Key: ", b"Key:"),
        head().replace(b"Sec-WebSocket-Key", b"sec-websocket-key"),
        head(b"Cookie: a=b"),
        head(b"AUTHORIZATION: Basic eDp5"),
        head(b"Proxy-Authorization:Basic eDp5"),
        head(b"X: " + b"x" * request_cache.MAX_HEAD),
    ],
)
def test_heads_that_are_never_cached(data: bytes) -> None:
    cache = CountingCache(keep=("HTTP_COOKIE",))
    for times in (1, 2, 3):
        assert isinstance(outcome(cache, data), dict)
        assert cache.decisions == times
    assert not cache._cache


def test_heads_from_a_trusted_proxy_are_never_cached() -> None:
    own_policy = policy.HandshakePolicy(
        ("json",), trusted=lambda address: address == "::1"
    )
    cache = CountingCache(own_policy)
    for address in ("192.0.2.7", "192.0.2.8"):
        found = cache.read(head(b"X-Forwarded-For: " + address.encode()), "::1", 1)
        assert isinstance(found, SessionRequest)
        assert found.variables["REMOTE_ADDR"] == address
    data = head(b"X-Forwarded-For: 192.0.2.9")
    for peer in (PEER, ("::1", 1), PEER, ("::1", 1)):
        assert outcome(cache, data, peer) == outcome(
            cache, data, peer, without_cache=True
        )
    assert len(cache._cache) == 1


def test_the_cache_is_bounded() -> None:
    cache = CountingCache()
    for number in range(request_cache.MAX_ENTRIES + 1):
        outcome(cache, head(target=b"/%d" % number))
    assert len(cache._cache) == request_cache.MAX_ENTRIES
    outcome(cache, head(target=b"/%d" % request_cache.MAX_ENTRIES))
    assert cache.decisions == request_cache.MAX_ENTRIES + 1, "the last is cached"
    outcome(cache, head(target=b"/0"))
    assert cache.decisions == request_cache.MAX_ENTRIES + 2, "the first is evicted"


def test_no_extension_is_negotiated() -> None:
    cache, offer = CountingCache(), b"Sec-WebSocket-Extensions: permessage-deflate"
    for lines in ((), (offer,), (offer + b"; client_max_window_bits", offer)):
        found = cache.read(head(*lines), *PEER)
        assert isinstance(found, SessionRequest)
        answer = found.response()
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in answer.lower()


def test_an_incomplete_head_is_neither_cached_nor_refused() -> None:
    cache = CountingCache()
    whole = head()
    outcome(cache, whole)
    for size in range(len(whole)):
        part = whole[:size]
        assert outcome(cache, part) == outcome(cache, part, without_cache=True) is None
    assert list(cache._cache) == [whole[:-4].replace(KEY, b"")]


FIELD = st.sampled_from(
    [
        *LINES,
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Key: " + OTHER,
        b"Sec-WebSocket-Key:" + KEY,
        b"Sec-WebSocket-Key:  " + KEY,
        b"Sec-WebSocket-Key: " + KEY + b" ",
        b"Sec-WebSocket-Key: " + KEY[:-1],
        b"Sec-WebSocket-Key: ",
        b"Sec-WebSocket-Key: ====" + KEY,
        b"sec-websocket-key: " + OTHER,
        b"X: Sec-WebSocket-Key: " + KEY,
        b"X: \tSec-WebSocket-Key: " + OTHER,
        b" Sec-WebSocket-Key: " + KEY,
        b"Host: [::1]:80",
        b"Origin: http://localhost",
        b"Sec-WebSocket-Protocol: chimirror.lines.v1",
        b"X-Forwarded-For: 192.0.2.77",
        b"X: \xff",
        b"Cookie: a",
        b"Content-Length: 0",
        b"",
    ]
)
BASE = (b"GET / HTTP/1.1", *LINES, b"Sec-WebSocket-Key: " + KEY)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Valid heads, with fields added, removed and exchanged."""
    lines = list(BASE)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines)))
        lines[at : at + draw(st.integers(0, 1))] = [draw(FIELD)]
    joined = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n"])).join(lines)
    return joined + draw(st.sampled_from([b"\r\n\r\n"] * 5 + [b"\r\n", b""]))


@given(
    st.lists(st.tuples(heads(), st.sampled_from([PEER, ("::1", 9), ("", 0)]))),
    st.sampled_from([KEY, OTHER, b"x" * 24, KEY[:-1] + b"A"]),
    st.sampled_from([b"", b"\x81\x80", BASE[0] + b"\r\n\r\n", b"\r\n" + BASE[-1]]),
)
def test_the_cache_changes_nothing(
    visits: list[tuple[bytes, tuple[str, int]]], key: bytes, behind: bytes
) -> None:
    own_policy = policy.HandshakePolicy(
        ("json", "lines"), trusted=lambda peer: peer == "::1"
    )
    cache = RequestCache(own_policy, "x")
    for data, peer in visits:
        for whole in (data + behind, data.replace(KEY, key) + behind, data):
            assert outcome(cache, whole, peer) == outcome(
                cache, whole, peer, without_cache=True
            )
