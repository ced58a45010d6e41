"""Requests that are remembered get what they would get without memory, to the byte."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.wire import handshake, http, opening
from chimirror.wire.opening import Opening, Openings
from chimirror.wire.visit import Visit

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OTHER = b64encode(bytes(range(16)))
LINES = (
    b"Host: localhost",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
)
PEER = ("192.0.2.1", 4711)
POLICY = handshake.Policy(("json", "lines"))


def head(*lines: bytes, key: bytes = KEY, target: bytes = b"/") -> bytes:
    lines = (*LINES, b"Sec-WebSocket-Key: " + key, *lines)
    return b"\r\n".join([b"GET %s HTTP/1.1" % target, *lines, b"", b""])


def asked(
    ask: Openings, data: bytes, peer: tuple[str, int] = PEER, *, plainly: bool = False
) -> object:
    """Everything that a request leads to, for comparison."""
    try:
        found = (ask.judge if plainly else ask.read)(data, *peer)
    except http.Refusal as refusal:
        return refusal.response()
    if isinstance(found, Opening):
        variables = list(found.variables.items())
        values = {name: getattr(found, name) for name in Opening.__slots__}
        return {**values, "variables": variables, "response": found.response()}
    return found and (found.sight, found.url)


class Counting(Openings):
    """Knows how often it had to judge."""

    __slots__ = ("judged",)

    def __init__(self, policy: handshake.Policy = POLICY, keep: tuple[str, ...] = ()):
        super().__init__(policy, "x", keep)
        self.judged = 0

    def judge(
        self, data: bytes, peer_address: str, peer_port: int
    ) -> Opening | Visit | None:
        self.judged += 1
        return super().judge(data, peer_address, peer_port)


def test_a_head_is_judged_once() -> None:
    ask = Counting()
    for key in (KEY, OTHER, KEY):
        for peer in (PEER, ("::1", 1), ("", 0), ("192.0.2.2", 0)):
            data = head(key=key) + b"behind"
            once = asked(ask, data, peer)
            assert once == asked(Openings(POLICY, "x"), data, peer, plainly=True)
    assert ask.judged == 1


def test_what_is_handed_out_is_nobody_elses() -> None:
    ask = Counting()
    for _ in range(3):
        found = ask.read(head(), *PEER)
        assert isinstance(found, Opening)
        assert "MINE" not in found.variables
        found.variables["MINE"] = "x"
        found.variables["HTTP_HOST"] = "x"
    assert ask.judged == 1


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
def test_refusals_are_not_remembered(data: bytes) -> None:
    ask = Counting()
    for times in (1, 2, 3):
        assert isinstance(asked(ask, data), bytes)
        assert ask.judged == times
    assert not ask._known


@pytest.mark.parametrize(
    "data",
    [
        head(key=b" " + KEY),
        head().replace(b"Key: ", b"Key:"),
        head().replace(b"Sec-WebSocket-Key", b"sec-websocket-key"),
        head(b"Cookie: a=b"),
        head(b"AUTHORIZATION: Basic eDp5"),
        head(b"Proxy-Authorization:Basic eDp5"),
        head(b"X: " + b"x" * opening.LONGEST),
    ],
)
def test_heads_that_are_judged_each_time(data: bytes) -> None:
    ask = Counting(keep=("HTTP_COOKIE",))
    for times in (1, 2, 3):
        assert isinstance(asked(ask, data), dict)
        assert ask.judged == times
    assert not ask._known


def test_what_a_trusted_proxy_passes_on_is_judged_each_time() -> None:
    policy = handshake.Policy(("json",), trusted=lambda address: address == "::1")
    ask = Counting(policy)
    for address in ("192.0.2.7", "192.0.2.8"):
        found = ask.read(head(b"X-Forwarded-For: " + address.encode()), "::1", 1)
        assert isinstance(found, Opening)
        assert found.variables["REMOTE_ADDR"] == address
    data = head(b"X-Forwarded-For: 192.0.2.9")
    for peer in (PEER, ("::1", 1), PEER, ("::1", 1)):
        assert asked(ask, data, peer) == asked(ask, data, peer, plainly=True)
    assert len(ask._known) == 1


def test_only_so_many_are_remembered() -> None:
    ask = Counting()
    for number in range(opening.MOST + 1):
        asked(ask, head(target=b"/%d" % number))
    assert len(ask._known) == opening.MOST
    asked(ask, head(target=b"/%d" % opening.MOST))
    assert ask.judged == opening.MOST + 1, "the last is known"
    asked(ask, head(target=b"/0"))
    assert ask.judged == opening.MOST + 2, "the first is forgotten"


def test_no_extension_is_negotiated() -> None:
    ask, offer = Counting(), b"Sec-WebSocket-Extensions: permessage-deflate"
    for lines in ((), (offer,), (offer + b"; client_max_window_bits", offer)):
        found = ask.read(head(*lines), *PEER)
        assert isinstance(found, Opening)
        answer = found.response()
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in answer.lower()


def test_an_unfinished_head_is_neither() -> None:
    ask = Counting()
    whole = head()
    asked(ask, whole)
    for size in range(len(whole)):
        part = whole[:size]
        assert asked(ask, part) == asked(ask, part, plainly=True) is None
    assert list(ask._known) == [whole[:-4].replace(KEY, b"")]


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
    """Good heads, with fields put in, taken out and exchanged."""
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
def test_memory_changes_nothing(
    visits: list[tuple[bytes, tuple[str, int]]], key: bytes, behind: bytes
) -> None:
    policy = handshake.Policy(("json", "lines"), trusted=lambda peer: peer == "::1")
    ask = Openings(policy, "x")
    for data, peer in visits:
        for whole in (data + behind, data.replace(KEY, key) + behind, data):
            assert asked(ask, whole, peer) == asked(ask, whole, peer, plainly=True)
