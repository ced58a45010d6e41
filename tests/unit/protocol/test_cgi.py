"""The environment that a request gives to an application."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.protocol import cgi, handshake, http, policy

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CREDENTIALS = {
    "HTTP_AUTHORIZATION": "Basic eDp5",
    "HTTP_PROXY_AUTHORIZATION": "Basic YTpi",
    "HTTP_COOKIE": "a=b",
}


def accept(
    *lines: bytes, target: str = "/", host: str = "localhost", peer: str = "192.0.2.1"
) -> handshake.AcceptedHandshake:
    data = b"\r\n".join(
        [
            f"GET {target} HTTP/1.1".encode(),
            f"Host: {host}".encode(),
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}".encode(),
            b"Sec-WebSocket-Version: 13",
            *lines,
            b"",
            b"",
        ]
    )
    found = http.parse(data)
    assert found is not None
    own_policy = policy.HandshakePolicy(("json",))
    verdict = handshake.negotiate(found[0], own_policy, peer, 4711 if peer else 0)
    assert isinstance(verdict, handshake.AcceptedHandshake)
    return verdict


def variables(verdict: handshake.AcceptedHandshake, *keep: str) -> dict[str, str]:
    return cgi.variables(verdict, server_software="chimirror/1", keep=frozenset(keep))


def test_all_variables() -> None:
    verdict = accept(
        b"Origin: http://[::1]:30747",
        b"X-Lang: de",
        b"x-lang: en",
        target="/a%20b%2F?c=%20d?",
        host="[::1]:30747",
    )
    assert cgi.variables(verdict, server_software="chimirror/1") == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "chimirror/1",
        "SERVER_NAME": "[::1]",
        "SERVER_PORT": "30747",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a%20b%2F?c=%20d?",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/",
        "QUERY_STRING": "c=%20d?",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "[::1]:30747",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_ORIGIN": "http://[::1]:30747",
        "HTTP_X_LANG": "de, en",
    }


def test_a_unix_peer_has_no_address() -> None:
    found = variables(accept(peer=""))
    assert not [name for name in found if name.startswith("REMOTE_")]


def test_an_unknown_port_is_left_out() -> None:
    verdict = accept()
    verdict.peer_port = 0
    found = variables(verdict)
    assert found["REMOTE_ADDR"] == "192.0.2.1"
    assert "REMOTE_PORT" not in found


@pytest.mark.parametrize("keep", [(), ("HTTP_PROXY",)])
@pytest.mark.parametrize("name", [b"Proxy", b"PROXY", b"proxy"])
def test_httpoxy(name: bytes, keep: tuple[str, ...]) -> None:
    assert "HTTP_PROXY" not in variables(accept(name + b": http://evil/"), *keep)


@pytest.mark.parametrize("keep", [(), ("HTTP_COOKIE",), tuple(CREDENTIALS)])
def test_credentials_pass_only_if_kept(keep: tuple[str, ...]) -> None:
    verdict = accept(
        b"Authorization: Basic eDp5", b"Proxy-Authorization: Basic YTpi", b"Cookie: a=b"
    )
    found = variables(verdict, *keep)
    assert {name: found.get(name) for name in CREDENTIALS} == {
        name: value if name in keep else None for name, value in CREDENTIALS.items()
    }


@pytest.mark.parametrize(
    "line",
    [
        b"X_Forwarded_For: 10.0.0.1",
        b"X_Forwarded-For: 10.0.0.1",
        b"X-Forwarded-For_: 10.0.0.1",
        b"_: 10.0.0.1",
        b"X.Y: 10.0.0.1",
        b"X%: 10.0.0.1",
        b"Content-Type: 10.0.0.1",
    ],
)
def test_field_names_that_never_pass(line: bytes) -> None:
    found = variables(accept(line))
    assert "10.0.0.1" not in found.values()
    assert found == variables(accept())


def test_no_body_no_length() -> None:
    assert variables(accept(b"Content-Length: 0")) == variables(accept())


@given(st.binary().map(lambda raw: raw.translate(None, bytes([*range(32), 127]))))
def test_values_keep_their_bytes(raw: bytes) -> None:
    found = variables(accept(b"X: " + raw))
    assert os.fsencode(found["HTTP_X"]) == raw.strip()


@given(st.binary().map(lambda raw: raw.replace(b"\0", b"")))
def test_paths_keep_their_bytes(raw: bytes) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in raw)
    found = variables(accept(target=f"/{escaped}"))
    assert os.fsencode(found["PATH_INFO"]) == b"/" + raw
    assert found["REQUEST_URI"] == f"/{escaped}"
