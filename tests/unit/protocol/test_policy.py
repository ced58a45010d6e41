"""The path of a proxy, removed from paths and added to targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.protocol.policy import HandshakePolicy, add_base, remove_base
from chimirror.protocol.request_cache import RequestCache, SessionRequest
from websocket_peer import upgrade

BASE = "/a/b"


@pytest.mark.parametrize(
    ("path", "below", "target"),
    [
        ("/a/b", "/", "/a/b"),
        ("/a/b/", "/", "/a/b/"),
        ("/a/b/game", "/game", "/a/b/game"),
        ("/a/b//", "//", "/a/b//"),
        ("/a/b/a/b", "/a/b", "/a/b/a/b"),
        ("/", "/", "/a/b/"),
        ("/game", "/game", "/a/b/game"),
        ("/a", "/a", "/a/b/a"),
        ("/a/bc", "/a/bc", "/a/b/a/bc"),
        ("/a/B", "/a/B", "/a/b/a/B"),
        ("/a%2Fb/x", "/a%2Fb/x", "/a/b/a%2Fb/x"),
    ],
)
def test_paths(path: str, below: str, target: str) -> None:
    assert remove_base(path, BASE) == below
    assert remove_base(path, "") == path
    for query in ("", "?/a/b", "?x=/"):
        assert add_base(path + query, BASE) == target + query
        assert add_base(path + query, "") == path + query


@given(
    base=st.from_regex(r"(/[a-c.]{1,3}){1,3}", fullmatch=True),
    rest=st.from_regex(r"/[a-c./]{0,9}", fullmatch=True),
)
def test_a_proxy_may_remove_the_path(base: str, rest: str) -> None:
    assert remove_base(base + rest, base) == rest
    assert add_base(base + rest, base) == base + rest


def session(cache: RequestCache, target: str) -> SessionRequest:
    found = cache.read(upgrade(target, "json", ()), "192.0.2.7", 4711)
    assert isinstance(found, SessionRequest)
    return found


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        (HandshakePolicy(("json",), base="/a%20b"), ("/a b", "/game/x y")),
        (
            HandshakePolicy(("json",), base="/a%20b", root="/game"),
            ("/a b/game", "/x y"),
        ),
        (HandshakePolicy(("json",)), ("", "/a b/game/x y")),
    ],
)
def test_variables_of_a_session(policy: HandshakePolicy, seen: tuple[str, str]) -> None:
    """Twice: the second decision is from the cache. Records have the whole path."""
    cache = RequestCache(policy, "x")
    for target in ("/a%20b/game/x%20y?q", "/game/x%20y?q") * 2:
        if not policy.base and not target.startswith("/a"):
            continue
        found = session(cache, target)
        variables = found.variables
        assert found.target == target
        assert (variables["SCRIPT_NAME"], variables["PATH_INFO"]) == seen
        assert variables["REQUEST_URI"] == "/a%20b/game/x%20y?q"
        assert variables["QUERY_STRING"] == "q"
