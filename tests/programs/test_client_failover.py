"""Several URLs: the client library finds the server that accepts, in both APIs."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

import serve
from chimirror.client import ConnectTimeout, NotConnected, Refused
from chimirror.ctl.paths import HostPaths
from client_apis import APIS, Connect
from ctl_process import connected, host, service
from fake_host import ctl
from tls_servers import server_url

__all__ = ["host", "service"]


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


def url_of(bound: socket.socket) -> str:
    return f"ws://127.0.0.1:{bound.getsockname()[1]}/"


def test_drained_dead_and_silent_servers_are_left_out(
    connect: Connect, service: serve.Service, host: HostPaths, tmp_path: Path
) -> None:
    """The session, and its control connection, are on the first server that accepts."""
    (tmp_path / "living").mkdir()
    with ExitStack() as stack:
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # nothing listens
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        living = stack.enter_context(serve.server(tmp_path / "living", ["cat"]))
        stack.enter_context(connected(service))
        ctl(host, "drain")
        drained, dead = server_url(service), url_of(closed)
        urls = [drained, dead, url_of(silent), server_url(living)]
        with connect(urls, timeout=5) as session:
            assert session.url == server_url(living)
            assert session.control.pause("stdin") == ["stdin"]
            assert session.control.resume("stdin") == []
            assert session.communicate(b"here").stdout == b"here"
        with pytest.raises(Refused) as caught, connect(drained):
            pass
        assert (caught.value.status, caught.value.retry) == (503, True)
        text = f"none of 2 servers is available: {dead}: .*; {url_of(silent)}: .*"
        with (
            pytest.raises(NotConnected, match=text) as failed,
            connect([dead, url_of(silent)], timeout=0.1),
        ):
            pass
    kinds = [type(failure) for failure in failed.value.failures]
    assert kinds == [NotConnected, ConnectTimeout]
