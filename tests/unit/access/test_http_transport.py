"""Questions over HTTP: the request, the response, and connections that are kept."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authorizers import (
    Asked,
    AuthorizerHarness,
    AuthorizerServer,
    authorizer_harness,
    authorizer_server,
    question,
    read_head,
)
from chimirror.access import ALLOWED, FAILED, FORBIDDEN, UNKNOWN, Answer
from chimirror.access.authorizer import MAX_ASKED, Authorizer
from chimirror.access.endpoint import Endpoint
from chimirror.access.http_connection import MAX_BODY, MAX_HEAD
from chimirror.access.http_transport import IDLE_TIMEOUT
from loops import FakeTimeWithPoller, event_loop, turn_until

YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nRemote-User: ann\r\n\r\n"
BASIC = (b"authorization", b"Basic " + base64.b64encode("jörg:x".encode("latin-1")))


@pytest.fixture
def harness() -> Iterator[AuthorizerHarness]:
    with authorizer_harness() as made:
        yield made


@pytest.fixture(params=["tcp", "unix"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[AuthorizerServer]:
    path = tmp_path / "socket" if request.param == "unix" else None
    with authorizer_server(path) as made:
        yield made


def respond(
    harness: AuthorizerHarness, server: AuthorizerServer, response: bytes
) -> Answer:
    """Ask over a new connection, which ends with this response."""
    asked = Asked(harness.open(server.endpoint), question(BASIC))
    connection = accept(harness, server)
    connection.sendall(response)
    connection.close()
    return harness.wait(asked)


def accept(harness: AuthorizerHarness, server: AuthorizerServer) -> socket.socket:
    """Accept the connection of a question. Its request has arrived."""
    turn_until(harness.loop, server.accepts)
    connection = server.connections[-1]
    connection.setblocking(False)
    turn_until(harness.loop, lambda: peek(connection))
    connection.setblocking(True)
    return connection


def peek(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def response(head: str, body: bytes = b"") -> bytes:
    lines = [*head.split("\n"), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def test_a_request_has_the_fields_of_the_question(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    cookie, forged = (b"cookie", b"a=1"), (b"x_forwarded_uri", b"/other")
    length = (b"content-length", b"5")
    asked = Asked(harness.open(server.endpoint), question(cookie, forged, length))
    connection = accept(harness, server)
    assert read_head(connection) == [
        "GET /auth?x=1 HTTP/1.1",
        "Host: localhost:80",
        "X-Forwarded-Method: GET",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: example.org",
        "X-Forwarded-Uri: /shell?x=1",
        "X-Forwarded-For: 192.0.2.1",
        "X-Original-URI: /shell?x=1",
        "X-Original-Method: GET",
        "Chimirror-Application: shell",
        "cookie: a=1",
    ]
    connection.sendall(YES)
    answer = harness.wait(asked)
    assert answer.identity
    assert (answer.status, answer.identity.user) == (ALLOWED, "ann")
    assert answer.identity.auth_type == "Authorizer"


def test_an_answer_names_groups_and_applications(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    answer = respond(
        harness,
        server,
        response(
            "HTTP/1.1 204 No Content\nREMOTE-USER: ann\nRemote-Groups: a, b,,a"
            "\nChimirror-Applications: shell\nCache-Control: private, max-age=60"
        ),
    )
    assert answer.identity
    assert answer.identity.groups == ("a", "b")
    assert answer.identity.applications == ("shell",)
    assert answer.max_age == 60
    assert answer.identity.auth_type == "Basic"


def test_without_a_user_basic_credentials_name_it(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    answer = respond(harness, server, response("HTTP/1.1 200 OK"))
    assert answer.identity
    assert answer.identity.user == "jörg"
    assert answer.identity.applications is None


@pytest.mark.parametrize("status", [UNKNOWN, FORBIDDEN])
def test_refusals_are_passed_on(
    harness: AuthorizerHarness, server: AuthorizerServer, status: int
) -> None:
    answer = respond(
        harness,
        server,
        response(
            f'HTTP/1.1 {status} No\nWWW-Authenticate: Basic realm="x"'
            "\nWWW-Authenticate: Bearer",
            b"<html>",
        ),
    )
    assert answer.status == status
    assert answer.challenges == ('Basic realm="x"', "Bearer")


WRONG: dict[str, tuple[bytes, str]] = {
    "redirect": (response("HTTP/1.1 302 Found\nLocation: /"), "answered 302"),
    "error": (response("HTTP/1.1 500 Oops"), "answered 500"),
    "two users": (response("HTTP/1.1 200 OK\nRemote-User: a\nRemote-User: b"), "more"),
    "comma": (response("HTTP/1.1 200 OK\nRemote-User: a,b"), "not a valid name"),
    "group": (response("HTTP/1.1 200 OK\nRemote-Groups: " + 300 * "g"), "groups"),
    "half a head": (b"HTTP/1.1 200 OK\r\nRemote-User: ann\r\n", "not valid HTTP"),
    "half a body": (YES.replace(b": 0", b": 9") + b"1234", "not valid HTTP"),
    "half a chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n1234",
        "not valid HTTP",
    ),
    "two lengths": (YES.replace(b"Remote", b"Content-Length: 1\r\nRemote"), "valid"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", "not valid HTTP"),
    "folded": (YES.replace(b"ann", b"a\0nn"), "not valid HTTP"),
    "large head": (
        b"HTTP/1.1 200 OK\r\nRemote-User: ann\r\nX: " + b"x" * (2 * MAX_HEAD),
        "not valid HTTP",
    ),
    "sent back": (
        b"HTTP/1.1 200 OK\r\nAuthorization Bearer sesame\r\n\r\n",
        "not valid HTTP: illegal header line",
    ),
    "nothing": (b"", "closed the connection without a response"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_response_is_no_answer(
    harness: AuthorizerHarness, server: AuthorizerServer, name: str
) -> None:
    sent, reason = WRONG[name]
    answer = respond(harness, server, sent)
    assert answer.status == FAILED
    assert answer.text.startswith("http://authorizer: ")
    assert reason in answer.text
    assert "sesame" not in answer.text


GOOD: dict[str, bytes] = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nab\r\n0\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + YES,
    "until the end": b"HTTP/1.0 200 OK\r\n\r\nbody",
    "large body": response("HTTP/1.1 200 OK", bytes(MAX_BODY)),
    "very large body": response("HTTP/1.1 200 OK", bytes(MAX_BODY + 1)),
}


@pytest.mark.parametrize("name", GOOD)
def test_other_responses_are_answers(
    harness: AuthorizerHarness, server: AuthorizerServer, name: str
) -> None:
    assert respond(harness, server, GOOD[name]).status == ALLOWED


def test_a_response_may_come_byte_by_byte(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    asked = Asked(harness.open(server.endpoint), question())
    connection = accept(harness, server)
    for byte in YES[:-1]:
        connection.sendall(bytes((byte,)))
        harness.loop.run_once()
    assert not asked.answers
    connection.sendall(YES[-1:])
    assert harness.wait(asked).status == ALLOWED


def test_a_connection_is_used_again(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    authorizer, connection = kept(harness, server)
    asked = Asked(authorizer, question())
    read_request(harness, connection)
    connection.sendall(YES)
    assert harness.wait(asked).status == ALLOWED


def kept(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> tuple[Authorizer, socket.socket]:
    """An authorizer with one connection, over which it has been asked."""
    authorizer = harness.open(server.endpoint)
    asked = Asked(authorizer, question())
    connection = accept(harness, server)
    read_head(connection)
    connection.sendall(YES)
    harness.wait(asked)
    return authorizer, connection


def read_request(harness: AuthorizerHarness, connection: socket.socket) -> None:
    connection.setblocking(False)
    turn_until(harness.loop, lambda: peek(connection))
    connection.setblocking(True)
    read_head(connection)


def test_a_stale_connection_is_replaced_once(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    authorizer, connection = kept(harness, server)
    asked = Asked(authorizer, question())
    read_request(harness, connection)
    connection.close()
    connection = accept(harness, server)
    connection.close()
    answer = harness.wait(asked)
    assert answer.status == FAILED
    assert "closed the connection" in answer.text


def test_a_kept_connection_that_is_closed_is_forgotten(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    authorizer, connection = kept(harness, server)
    transport = authorizer._transport
    connection.close()
    turn_until(harness.loop, lambda: not transport._idle)  # type: ignore[attr-defined]
    asked = Asked(authorizer, question())
    accept(harness, server).sendall(YES)
    assert harness.wait(asked).status == ALLOWED


def test_an_answer_that_was_not_asked_for_is_never_used(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    authorizer, connection = kept(harness, server)
    transport = authorizer._transport
    connection.sendall(YES)
    turn_until(harness.loop, lambda: not transport._idle)  # type: ignore[attr-defined]


def test_a_connection_with_two_responses_is_not_used_again(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    authorizer = harness.open(server.endpoint)
    asked = Asked(authorizer, question())
    connection = accept(harness, server)
    read_head(connection)
    connection.sendall(YES + YES.replace(b"ann", b"eve"))
    harness.wait(asked)
    assert not authorizer._transport._idle  # type: ignore[attr-defined]


def test_kept_connections_are_closed_after_some_time() -> None:
    with event_loop(FakeTimeWithPoller) as loop, authorizer_server() as server:
        clock = loop._poller
        assert isinstance(clock, FakeTimeWithPoller)
        loop.clock = clock
        loop.now = clock()
        with authorizer_harness(loop) as harness:
            _, connection = kept(harness, server)
            before = clock()
            connection.setblocking(False)
            turn_until(loop, lambda: is_closed(connection))
            assert IDLE_TIMEOUT <= clock() - before < IDLE_TIMEOUT + 1


def is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def test_a_client_that_goes_closes_the_connection(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    authorizer = harness.open(server.endpoint)
    gone = Asked(authorizer, question())
    connection = accept(harness, server)
    read_head(connection)
    gone.pending.cancel()
    connection.setblocking(False)
    turn_until(harness.loop, lambda: is_closed(connection))
    assert not gone.answers


def test_a_hung_server_fails_in_time(harness: AuthorizerHarness) -> None:
    with authorizer_server() as server:
        authorizer = harness.open(server.endpoint, timeout=0.1)
        answer = harness.answer(authorizer, question())
    assert answer.text == "http://authorizer: no answer within 0.1 s"


def test_nothing_listens(
    harness: AuthorizerHarness, server: AuthorizerServer, tmp_path: Path
) -> None:
    endpoint = server.endpoint
    server.listener.close()
    answer = harness.answer(harness.open(endpoint), question())
    assert answer.text.endswith("cannot be reached: Connection refused")


def test_the_next_address_is_tried(harness: AuthorizerHarness) -> None:
    with authorizer_server() as dead:
        refused = dead.endpoint.addresses
    with authorizer_server() as server:
        found = server.endpoint
        endpoint = Endpoint(
            found.name,
            addresses=(*refused, *found.addresses),
            authority=found.authority,
            uri=found.uri,
        )
        asked = Asked(harness.open(endpoint), question())
        accept(harness, server).sendall(YES)
        assert harness.wait(asked).status == ALLOWED


def test_a_full_queue_is_tried_again(
    harness: AuthorizerHarness, tmp_path: Path
) -> None:
    with authorizer_server(tmp_path / "socket") as server:
        server.listener.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(server.listener.getsockname())
            asked = Asked(harness.open(server.endpoint), question())
            harness.loop.run_once()
            assert server.accepts()
            accept(harness, server).sendall(YES)
            assert harness.wait(asked).status == ALLOWED


def test_two_hundred_questions_at_once(harness: AuthorizerHarness) -> None:
    with authorizer_server() as server:
        server.listener.listen(256)
        authorizer = harness.open(server.endpoint)
        asked = [Asked(authorizer, question(target=f"/{n}")) for n in range(200)]
        connections = [accept(harness, server) for _ in range(MAX_ASKED)]
        assert not server.accepts()
        for number in range(200):
            connection = connections[number % MAX_ASKED]
            read_request(harness, connection)
            connection.sendall(YES)
        assert all(harness.wait(one).status == ALLOWED for one in asked)


def test_no_descriptor_is_left(
    harness: AuthorizerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chimirror.access import connector

    class NoSocket:
        AF_UNIX, SOCK_STREAM = socket.AF_UNIX, socket.SOCK_STREAM

        @staticmethod
        def socket(*arguments: object) -> object:
            raise OSError(24, os.strerror(24))

    with authorizer_server() as server:
        monkeypatch.setattr(connector, "socket", NoSocket)
        answer = harness.answer(harness.open(server.endpoint), question())
    assert answer.text.endswith("cannot be reached: Too many open files")


CHECKS: dict[str, Callable[[Answer], bool]] = {
    "max-age=60, no-store": lambda answer: answer.max_age == 0,
    "max-age=no": lambda answer: answer.max_age == 0,
    'max-age="7"': lambda answer: answer.max_age == 7,
    "s-maxage=9": lambda answer: answer.max_age == 0,
}


@pytest.mark.parametrize("value", CHECKS)
def test_only_a_clear_max_age_counts(harness: AuthorizerHarness, value: str) -> None:
    with authorizer_server() as server:
        answer = respond(
            harness, server, response(f"HTTP/1.1 200 OK\nCache-Control: {value}")
        )
    assert CHECKS[value](answer)


def test_an_address_that_does_not_answer_is_left(
    harness: AuthorizerHarness,
) -> None:
    """The kernel drops the connection requests to a listener with a full queue."""
    with authorizer_server() as silent, authorizer_server() as server:
        silent.listener.listen(0)
        with socket.create_connection(silent.listener.getsockname()):
            found = server.endpoint
            endpoint = Endpoint(
                found.name,
                addresses=(*silent.endpoint.addresses, *found.addresses),
                authority=found.authority,
                uri=found.uri,
            )
            asked = Asked(harness.open(endpoint), question())
            accept(harness, server).sendall(YES)
            assert harness.wait(asked).status == ALLOWED


def test_a_client_that_goes_ends_the_attempt_to_connect(
    harness: AuthorizerHarness,
) -> None:
    with authorizer_server() as silent:
        silent.listener.listen(0)
        with socket.create_connection(silent.listener.getsockname()):
            asked = Asked(harness.open(silent.endpoint), question())
            asked.pending.cancel()
            assert not harness.made[0]._transport._busy  # type: ignore[attr-defined]


def test_a_field_that_http_does_not_allow(
    harness: AuthorizerHarness, server: AuthorizerServer
) -> None:
    answer = harness.answer(harness.open(server.endpoint), question((b"a b", b"")))
    assert answer.text.endswith("the request has a field that HTTP does not allow")


def test_an_internal_error_fails_one_question(
    harness: AuthorizerHarness,
    server: AuthorizerServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chimirror.access import http_transport

    def fail(*arguments: object) -> Answer:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(http_transport, "to_answer", fail)
        asked = Asked(harness.open(server.endpoint), question())
        accept(harness, server).sendall(YES)
        turn_until(harness.loop, lambda: harness.host.errors)
    harness.host.errors.clear()
    assert harness.wait(asked).text.endswith(": an internal error")
    assert respond(harness, server, YES).status == ALLOWED
