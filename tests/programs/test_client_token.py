"""Tokens of the client library, in both APIs: which one is sent where, and refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import serve
from chimirror.client import Forbidden, NotConnected, Refused, Unauthorized
from client_apis import APIS, Connect
from connect_process import bare_server, request
from fake_server import Remote, exited, fake
from tls_servers import server_url

TOKEN = "s3cret.t0ken"


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


def sent(connect: Connect, **options: Any) -> list[str]:
    """Return the Authorization fields of a handshake."""
    asked = []

    def handler(ws: Remote) -> None:
        asked.append(ws.request)
        ws.send(exited())

    with fake(handler) as server, connect(server.url, **options) as session:
        session.wait()
    (head,) = asked
    return head.headers.get_all("Authorization")


def test_a_token_is_a_field(connect: Connect) -> None:
    assert sent(connect, token=TOKEN) == [f"Bearer {TOKEN}"]
    assert sent(connect, token=lambda: TOKEN) == [f"Bearer {TOKEN}"]
    assert sent(connect) == []


def test_an_awaitable_token() -> None:
    async def token() -> str:
        return TOKEN

    assert sent(APIS["asyncio"], token=token) == [f"Bearer {TOKEN}"]


def test_each_connection_asks_for_a_token(connect: Connect, tmp_path: Path) -> None:
    """Those of the session and of its control connection."""
    tokens = iter(["first", "second", "third"])
    given: list[str] = []

    def token() -> str:
        given.append(next(tokens))
        return given[-1]

    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service), token=token) as session,
    ):
        assert given == ["first"]
        assert session.control.pause("stdin") == ["stdin"]
        assert given == ["first", "second"]


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("ws://x/", {"token": "a b"}, "token: it has letters, digits and"),
        ("ws://u:p@x/", {"token": "a"}, "token: the URL authorizes too; give one"),
        (
            "ws://x/",
            {"token": "a", "headers": {"authorization": "b"}},
            "token: headers authorizes too; give one of them",
        ),
        (["ws://x/", "ws://u:p@y/"], {"token": str}, "token: the URL authorizes too"),
    ],
)
def test_invalid_arguments(
    connect: Connect, url: str, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text), connect(url, **options):
        pass


def test_a_function_that_fails(connect: Connect) -> None:
    def fail(error: Exception) -> Callable[[], str]:
        def token() -> str:
            raise error

        return token

    with bare_server() as (url, _):
        for error in (OSError("no token"), KeyError("token"), NotConnected("none")):
            with (
                pytest.raises(type(error)) as caught,
                connect([url], token=fail(error)),
            ):
                pass
            assert caught.value is error
        with pytest.raises(ValueError, match="token"), connect(url, token=lambda: ""):
            pass
        with pytest.raises(TypeError, match="not int"), connect(url, token=lambda: 7):
            pass


# Refusals.


@contextmanager
def refusing(head: str, text: str) -> Iterator[str]:
    """A server that answers one request. Yields its URL."""
    with bare_server() as (url, take):

        def refuse() -> None:
            with take() as peer:
                request(peer)
                peer.send_raw(f"HTTP/1.1 {head}\r\n\r\n{text}\n".encode())
                peer.half_close()

        server = threading.Thread(target=refuse)
        server.start()
        try:
            yield url
        finally:
            server.join()


def test_unauthorized(connect: Connect) -> None:
    head = (
        '401 Unauthorized\r\nWWW-Authenticate: Basic realm="a, b", charset="UTF-8"\r\n'
        'WWW-Authenticate: Bearer realm="a"'
    )
    with (
        refusing(head, "wrong token") as url,
        pytest.raises(Unauthorized) as caught,
        connect(url, token=TOKEN),
    ):
        pass
    error = caught.value
    assert str(error) == (
        "401 Unauthorized: wrong token (it asks for a user and a password (Basic) or "
        "a token (Bearer))"
    )
    assert (error.status, error.schemes) == (401, ("Basic", "Bearer"))
    assert not error.retry


def test_forbidden(connect: Connect) -> None:
    with (
        refusing("403 Forbidden", "not for you") as url,
        pytest.raises(Forbidden, match=r"^403 Forbidden: not for you$") as caught,
        connect(url),
    ):
        pass
    assert (caught.value.status, caught.value.retry) == (403, False)


def test_no_challenge(connect: Connect) -> None:
    with (
        refusing("401 Unauthorized", "who are you?") as url,
        pytest.raises(Refused, match=r"^401 Unauthorized: who are you\?$") as caught,
        connect(url),
    ):
        pass
    assert isinstance(caught.value, Unauthorized)
    assert caught.value.schemes == ()
