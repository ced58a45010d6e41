"""Places with a fault of TLS, and how the clients fail there."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import pytest

from chimirror.client import NotConnected
from client_apis import APIS
from connect_process import connect, error_text
from tls_authority import Authority, authority, stranger, tls_server

__all__ = ["authority", "stranger"]


class Place(NamedTuple):
    """A server, and the options of TLS with which the client comes."""

    port: int
    options: dict[str, Any]
    host: str = "127.0.0.1"
    scheme: str = "wss"


class Authorities(NamedTuple):
    known: Authority
    other: Authority


Server = Callable[[Authorities], AbstractContextManager[Place]]


@contextmanager
def serving(context: ssl.SSLContext, **options: Any) -> Iterator[Place]:
    with tls_server(context) as port:
        yield Place(port, options)


def url_of(place: Place) -> str:
    return f"{place.scheme}://{place.host}:{place.port}/"


def failure(place: Place, api: str, *more_urls: str) -> NotConnected:
    urls = [url_of(place), *more_urls]
    with (
        pytest.raises(NotConnected) as caught,
        APIS[api](urls if more_urls else urls[0], **place.options),
    ):
        pass
    return caught.value


def report(place: Place) -> str:
    """Return what chimirror-connect prints."""
    options: list[str] = []
    for name, value in place.options.items():
        options += [f"--{name}", str(value)]
    done = connect(*options, url_of(place))
    assert (done.returncode, done.stdout) == (255, b"")
    return error_text(done)


@pytest.fixture
def by(authority: Authority, stranger: Authority) -> Authorities:
    return Authorities(authority, stranger)
