"""Questions about clients: no forged field, no path of two meanings, no secret."""

from __future__ import annotations

import pytest

from chimirror.access import ALLOWED, FORBIDDEN, Answer, Identity
from chimirror.access.access_control import AccessControl
from chimirror.access.local_sources import LocalSource
from chimirror.session import Peer as Address
from identified_session import Asking, get, offer
from session_harness import SessionHarness
from websocket_peer import upgrade

TOKEN = "chimirror.bearer.c2VjcmV0LXRva2Vu"  # secret-token


@pytest.mark.parametrize(
    "field",
    [
        *("Host: localhost", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        *("X-Forwarded-For: 1", "X-Original-URI: /", "Remote-User: root"),
        *("Remote-Groups: wheel", "Chimirror-Application: a", "Forwarded: for=a"),
        *("Remote_User: root", "X_Forwarded_User: root", "X.Forwarded.User: root"),
        *("X-Real-IP: 192.0.2.1", "If-None-Match: *", "Range: bytes=0-"),
    ],
)
def test_a_question_has_no_field_that_says_what_only_a_proxy_may(field: str) -> None:
    with Asking() as session:
        is_there = field.startswith(("Host", "Upgrade", "Sec-"))
        session.ask(upgrade("/", "json", () if is_there else (field,)))
        assert session.field(field.partition(":")[0].lower().encode()) is None
        session.answer(Answer(FORBIDDEN))


def test_a_question_names_the_client_behind_the_proxy() -> None:
    options = ("--trusted-proxy", "192.0.2.0/24", "--host", "a.example")
    fields = ("X-Forwarded-For: 9.9.9.9, 198.51.100.7", "X-Forwarded-Host: a.example")
    for request in (upgrade("/a", "json", fields), get("/asyncapi.json", *fields)):
        with Asking(*options, "--base-path", "/term") as session:
            session.ask(request)
            [question] = session.authorizer.questions
            assert (question.host, question.address) == ("a.example", "198.51.100.7")
            assert question.target in ("/term/a", "/term/asyncapi.json")
            session.answer(Answer(FORBIDDEN))
            [refused] = session.event_log.of("refused")
            assert refused["peer"] == "198.51.100.7"


@pytest.mark.parametrize(
    "path", ["/a/../b", "/./a", "/a/..", "/a/%2e%2E/b", "/a/..%2fb", "/a/..%5Cb"]
)
def test_no_path_has_two_meanings(path: str) -> None:
    with Asking() as session:
        session.ask(upgrade(path, "json", ()))
        assert session.peer.head().status == 400
        assert not session.authorizer.questions


def test_dots_elsewhere_have_one_meaning() -> None:
    with Asking() as session:
        session.ask(upgrade("/a.b/..c/.d?/../", "json", ()))
        session.answer(Answer(FORBIDDEN))
        assert session.peer.head().status == 403


def test_two_logins_in_one_request_are_refused() -> None:
    fields = ("Authorization: Bearer a", "Authorization: Bearer b")
    with Asking() as session:
        session.ask(upgrade("/", "json", fields))
        assert session.peer.head().status == 400
        assert not session.authorizer.questions


@pytest.mark.parametrize(
    ("options", "header"),
    [
        (("--trusted-proxy", "unix", "--user-header", "Remote-User"), b""),
        (("--proxy-protocol", "--user-certificate", "cn"), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_a_local_proxy_is_not_the_client(
    options: tuple[str, ...], header: bytes
) -> None:
    with SessionHarness(*options) as session:
        session.context.access = AccessControl(
            {"local": LocalSource([0], [])},
            None,
            (),
            session.clock,
            allow_anonymous=False,
        )
        session.session.peer = Address("", 0, uid=0)
        session.ask(header + upgrade("/", "json", ()))
        assert session.peer.head().status == 401
        assert session.application.started == 0


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_a_login_in_a_place_is_in_no_log(name: str) -> None:
    value = f"{'https://' if name == 'Origin' else ''}ann:secret@evil.example"
    fields = {"Host": "localhost", name: value}
    with Asking() as session:
        request = upgrade("/", "json", ())
        lines = "".join(f"{key}: {text}\r\n" for key, text in fields.items())
        session.ask(request.replace(b"Host: localhost\r\n", lines.encode()))
        assert session.peer.head().status in (400, 403)
        [refused] = session.event_log.of("refused")
        assert "...@evil.example" in refused["detail"]
        assert "secret" not in refused["detail"]


# Tokens of browsers


def test_a_token_in_the_offer_is_a_bearer_token() -> None:
    with Asking() as session:
        session.ask(offer(f"{TOKEN}, chimirror.json.v1"))
        assert session.field(b"authorization") == b"Bearer secret-token"
        assert session.field(b"sec-websocket-protocol") is None
        session.answer(Answer(ALLOWED, Identity("ann", "Bearer")))
        head = session.peer.head()
        assert head.status == 101
        assert head.fields["sec-websocket-protocol"] == "chimirror.json.v1"
        environment = session.application.environment
        assert environment["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "chimirror.json.v1"
        values = " ".join(environment.values())
        assert "secret" not in values
        assert "bearer" not in values
        session.exit()


@pytest.mark.parametrize("arguments", [(), ("--pass-env", "HTTP_AUTHORIZATION")])
def test_a_token_reaches_no_application_that_does_not_ask(
    arguments: tuple[str, ...],
) -> None:
    with SessionHarness(*arguments) as session:
        session.ask(offer(f"chimirror.json.v1, {TOKEN}"))
        assert session.peer.head().status == 101
        environment = session.application.environment
        assert environment["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "chimirror.json.v1"
        expected = "Bearer secret-token" if arguments else None
        assert environment.get("HTTP_AUTHORIZATION") == expected


@pytest.mark.parametrize(
    "offered",
    [
        f"{TOKEN}, {TOKEN}, chimirror.json.v1",
        "chimirror.bearer., chimirror.json.v1",
        "chimirror.bearer.a, chimirror.json.v1",
        "chimirror.bearer.AAAA, chimirror.json.v1",
        "chimirror.bearer.c2VjcmV0LXRva2Vu==, chimirror.json.v1",
    ],
)
def test_a_malformed_token_is_refused_and_quoted_nowhere(offered: str) -> None:
    with Asking() as session:
        session.ask(offer(offered))
        reply = session.peer.refusal()
        assert reply.status == 400
        [refused] = session.event_log.of("refused")
        for shown in (str(reply), refused["detail"]):
            assert "c2Vj" not in shown
            assert "secret" not in shown
        assert not session.authorizer.questions


def test_a_token_replaces_the_login_of_the_browser() -> None:
    with Asking() as session:
        session.ask(offer(f"{TOKEN}, chimirror.json.v1", "Authorization: Basic QTpC"))
        [question] = session.authorizer.questions
        logins = [value for name, value in question.fields if name == b"authorization"]
        assert logins == [b"Bearer secret-token"]
        session.answer(Answer(FORBIDDEN))
