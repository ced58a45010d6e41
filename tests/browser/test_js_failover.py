"""chimirror.js with several URLs: which one it takes, and when it gives up.

A browser hides the status of a server with another origin, so some tests are for Node.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from js_cases import CaseRunner, address, cases, runner
from js_runners import Node
from serve import server
from status_server import StatusServer, connect, dead
from tls_servers import certificate, server_context

__all__ = ["cases", "certificate", "dead", "runner"]  # fixtures


@contextmanager
def fakes(*statuses: int, retry_after: str = "") -> Iterator[list[str]]:
    """Servers that refuse a handshake, and the GET that asks for the reason."""
    servers = [StatusServer([status, status], retry_after) for status in statuses]
    yield [each.url for each in servers]
    for each in servers:
        each.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"


def test_the_first_that_answers(cases: CaseRunner, dead: str, silent: str) -> None:
    with cases.serve(["cat"]) as service, cases.serve(["cat"]) as other:
        urls = dead, silent, address(service), address(other)
        result = connect(cases.runner, *urls, timeout=5000)
    assert (result["url"], result["exit"]["reason"]) == (address(service), "exit 0")


def test_all_fail(cases: CaseRunner, dead: str, silent: str) -> None:
    secret = f"{silent}game?token=secret"
    result = connect(cases.runner, dead, secret, timeout=2000)
    first, second, third = result["message"].split("\n")
    assert first == "no session at any of 2 URLs:"
    assert second.startswith(f"  {dead}: ")
    host = silent.split("/")[2]
    assert third == f"  {silent}game: {host} has not answered within 2000 ms"
    assert result["kind"] == "refused"
    assert [kind for kind, _, _ in result["errors"]] == ["refused", "refused"]


def test_no_url(cases: CaseRunner) -> None:
    result = connect(cases.runner)
    assert result["name"] == "TypeError"
    assert result["message"] == "there is no URL to connect to"


def test_statuses_of_a_server_lead_to_the_next(dead: str, tmp_path: Path) -> None:
    with fakes(408, 429, 500) as urls, server(tmp_path, ["cat"]) as service:
        result = connect(Node(), *urls, dead, address(service))
    assert result["url"] == address(service)


def test_statuses_of_a_request_are_final(tmp_path: Path) -> None:
    with fakes(503, 404, retry_after="1") as urls, server(tmp_path, ["cat"]) as service:
        result = connect(Node(), *urls, address(service))
    host = urls[1].split("/")[2]
    assert [each[1] for each in result["errors"]] == [503, 404]
    assert result["message"].endswith(f"\n  {urls[1]}: {host} answers: full")


def test_one_url_tells_its_status() -> None:
    with fakes(503, retry_after="7") as (url,):
        result = connect(Node(), url)
    assert (result["status"], result["retryAfter"]) == (503, 7)
    assert result["message"] == f"{url.split('/')[2]} answers: full"


def test_retry_after(dead: str) -> None:
    """All are tried once more, after the time that a server names."""
    busy = StatusServer([503, 503, 101], "0")
    result = connect(Node(), dead, busy.url)
    busy.join()
    assert (result["url"], result["exit"]["reason"]) == (busy.url, "exit 0")


@pytest.mark.parametrize("retry_after", ["31", "", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_no_second_attempt(dead: str, retry_after: str) -> None:
    with fakes(503, retry_after=retry_after) as urls:
        result = connect(Node(), dead, *urls)
    assert [each[1] for each in result["errors"]] == [None, 503]


def test_an_untrusted_certificate_is_final(certificate: Path, tmp_path: Path) -> None:
    secret = StatusServer([101, 101], context=server_context(certificate))
    url = secret.url.replace("ws", "wss")
    with server(tmp_path, ["cat"]) as service:
        result = connect(Node(), url, address(service))
    secret.join()
    ((_, _, message),) = result["errors"]
    place = url.split("/")[2]
    assert message.startswith(f"the certificate of {place} is not trusted: it is self-")
