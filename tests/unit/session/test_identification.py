"""The identity of a client: asked before a start, and passed on to the application."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chimirror.access import (
    ALLOWED,
    FAILED,
    FORBIDDEN,
    UNKNOWN,
    Answer,
    Identity,
)
from identified_session import ANN, Asking, get
from session_harness import SessionHarness
from websocket_peer import stdin, text, upgrade

PROXY = ("--trusted-proxy", "192.0.2.0/24", "--user-header", "Remote-User")


# A source that answers at once


def test_the_application_gets_the_name() -> None:
    with SessionHarness(*PROXY, "--groups-header", "Remote-Groups") as session:
        session.open("json", "Remote-User: ann", "Remote-Groups: staff,ops")
        environment = session.application.environment
        assert environment["REMOTE_USER"] == "ann"
        assert environment["REMOTE_GROUPS"] == "staff,ops"
        assert environment["AUTH_TYPE"] == "Proxy"
        session.wait(1)
        [start] = session.event_log.of("start")
        assert start["user"] == "ann"


def test_without_a_name_nothing_starts() -> None:
    with SessionHarness(*PROXY) as session:
        session.ask(upgrade("/", "json", ()))
        head = session.peer.head()
        assert head.status == 401
        assert head.fields["www-authenticate"] == 'Chimirror sources="proxy"'
        assert session.application.started == 0
        [refused] = session.event_log.of("refused")
        assert (refused["status"], refused["cause"]) == (401, "unauthenticated")


def test_a_field_of_another_is_removed() -> None:
    with SessionHarness(
        *("--trusted-proxy", "198.51.100.1", "--user-header", "Remote-User"),
        "--allow-anonymous",
    ) as session:
        session.open("json", "Remote-User: root")
        environment = session.application.environment
        assert "HTTP_REMOTE_USER" not in environment
        assert "REMOTE_USER" not in environment
        assert "AUTH_TYPE" not in environment


def test_without_a_source_no_field_is_removed() -> None:
    with SessionHarness() as session:
        session.open("json", "Remote-User: root")
        assert session.application.environment["HTTP_REMOTE_USER"] == "root"
        assert "AUTH_TYPE" not in session.application.environment


@pytest.mark.parametrize("option", [("--users", "ann"), ("--groups", "staff")])
def test_others_may_not_use_the_application(option: tuple[str, str]) -> None:
    fields = ("Remote-User: ann", "Remote-Groups: staff")
    with SessionHarness(*PROXY, "--groups-header", "Remote-Groups", *option) as session:
        session.open("json", *fields)
    with SessionHarness(*PROXY, *option) as session:
        session.ask(upgrade("/", "json", ("Remote-User: bob",)))
        assert session.peer.head().status == 403
        assert session.application.started == 0
        [refused] = session.event_log.of("refused")
        assert (refused["cause"], refused["user"]) == ("forbidden", "bob")


# An authorizer


def test_nothing_starts_before_the_answer() -> None:
    with Asking() as session:
        session.ask(upgrade("/a?b", "json", ("Authorization: Basic QTpC", "X-A: 1")))
        assert session.application.started == 0
        [question] = session.authorizer.questions
        assert (question.application, question.method) == ("", "GET")
        assert (question.target, question.scheme) == ("/a?b", "http")
        assert (question.address, question.port) == ("192.0.2.7", 4711)
        assert session.field(b"authorization") == b"Basic QTpC"
        assert session.field(b"x-a") == b"1"
        session.wait(60)  # its own time limit counts, not that of the handshake
        session.answer(Answer(ALLOWED, ANN))
        assert session.peer.head().status == 101
        assert session.application.environment["REMOTE_USER"] == "ann"
        assert session.application.environment["AUTH_TYPE"] == "Basic"
        assert "HTTP_AUTHORIZATION" not in session.application.environment
        session.exit()


def test_frames_that_follow_the_request_wait_for_the_answer() -> None:
    with Asking() as session:
        session.ask(upgrade("/", "stdio", ()) + text(stdin(b"early\n")))
        session.say(text(stdin(b"late\n")))
        session.answer(Answer(ALLOWED, ANN))
        assert session.peer.head().status == 101
        assert session.application.read_stdin() == b"early\nlate\n"
        session.exit()


@pytest.mark.parametrize(
    ("answer", "status", "cause"),
    [
        (Answer(UNKNOWN, challenges=("Bearer",)), 401, "unauthenticated"),
        (Answer(FORBIDDEN, text="no shell for you"), 403, "forbidden"),
        (Answer(FAILED, text="timed out"), 503, "authorizer"),
    ],
)
def test_no_other_answer_starts_anything(
    answer: Answer, status: int, cause: str
) -> None:
    with Asking() as session:
        session.ask(upgrade("/", "json", ()))
        session.answer(answer)
        assert session.peer.head().status == status
        assert session.application.started == 0
        [refused] = session.event_log.of("refused")
        assert (refused["status"], refused["cause"]) == (status, cause)


def test_an_anonymous_client_learns_how_to_log_in() -> None:
    for options, status in ((), 101), (("--users", "ann"), 401):
        with Asking(*options, allow_anonymous=True) as session:
            session.ask(upgrade("/", "json", ()))
            session.answer(Answer(UNKNOWN, challenges=("Basic realm=x",)))
            head = session.peer.head()
            assert head.status == status
            if status == 401:
                assert head.fields["www-authenticate"] == "Basic realm=x"
            else:
                session.exit()


def test_a_client_that_goes_cancels_the_question() -> None:
    with Asking() as session:
        session.ask(upgrade("/", "json", ()))
        session.peer.close()
        session.settle()
        assert session.authorizer.cancelled == 1
        session.answer(Answer(ALLOWED, ANN))
        assert session.application.started == 0
        assert session.context.is_idle


def test_the_end_of_a_client_is_noticed_in_the_next_turn() -> None:
    """An answer of that turn comes too late: answers follow all events of a turn."""
    with Asking() as session:
        session.ask(upgrade("/", "json", ()))
        session.peer.half_close()  # as TCP shows it: no input follows
        session.loop.run_once()
        assert session.authorizer.cancelled == 1


def test_a_drain_cancels_the_question() -> None:
    from chimirror.protocol import DRAIN

    with Asking() as session:
        session.ask(upgrade("/", "json", ()))
        session.session.close(DRAIN)
        session.settle()
        assert session.peer.head().status == 503
        assert session.authorizer.cancelled == 1
        session.answer(Answer(ALLOWED, ANN))
        assert session.application.started == 0


def test_a_newer_handshake_may_take_the_place_of_a_question() -> None:
    with Asking() as session:
        session.ask(upgrade("/", "json", ()))
        session.session.give_way()
        assert session.authorizer.cancelled == 1
        assert session.context.is_idle


# Documents


@pytest.mark.parametrize("path", ["/", "/.well-known/chimirror.js"])
def test_what_is_the_same_everywhere_is_public(path: str) -> None:
    with Asking("--console") as session:
        session.ask(get(path))
        assert session.peer.head().status == 200
        assert not session.authorizer.questions


def test_a_health_check_asks_nobody() -> None:
    with Asking() as session:
        session.ask(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert session.peer.head().status == 204
        assert not session.authorizer.questions


@pytest.mark.parametrize("path", ["/asyncapi.json", "/.well-known/chimirror"])
def test_what_tells_of_applications_is_not(path: str) -> None:
    with Asking() as session:
        session.ask(get(path))
        session.answer(Answer(UNKNOWN, challenges=("Bearer",)))
        assert session.peer.head().status == 401
    with Asking() as session:
        session.ask(get(path))
        session.answer(Answer(ALLOWED, Identity("änn", "Basic")))
        head = session.peer.head()
        assert head.status == 200
        assert head.fields["chimirror-user"] == "%C3%A4nn"
        assert head.fields["cache-control"] == "private, no-cache"


def test_a_check_of_a_handshake_asks_too() -> None:
    check = get("/", "Chimirror-Subprotocol: chimirror.json.v1")
    with Asking("--users", "ann") as session:
        session.ask(check)
        session.answer(Answer(ALLOWED, Identity("bob", "Basic")))
        assert session.peer.head().status == 403
        assert session.application.started == 0


def test_the_list_shows_what_one_may_use(tmp_path: Path) -> None:
    files = {
        "all": "",
        "anns": 'users = ["ann"]',
        "bobs": 'users = "bob"',
        "staffs": 'groups = ["staff"]',
    }
    for name, line in files.items():
        (tmp_path / f"{name}.toml").write_text(f'command = ["cat"]\n{line}\n')
    expected = {
        Identity("ann", "Basic", ("staff",)): ["all", "anns", "staffs"],
        Identity("bob", "Basic"): ["all", "bobs"],
        Identity("eve", "Bearer", (), ("bobs",)): [],
        Identity("ann", "Bearer", (), ("anns", "bobs")): ["anns"],
        None: ["all"],
    }
    for identity, names in expected.items():
        with Asking("--apps", str(tmp_path), allow_anonymous=True) as session:
            session.ask(get("/.well-known/chimirror"))
            status = UNKNOWN if identity is None else ALLOWED
            session.answer(Answer(status, identity))
            reply = session.peer.refusal()
            assert reply.status == 200
            entries = json.loads(reply.body)["applications"]
            assert [entry["name"] for entry in entries] == names


def test_a_missing_application_tells_no_names(tmp_path: Path) -> None:
    (tmp_path / "shell.toml").write_text('command = ["cat"]\n')
    with Asking("--apps", str(tmp_path)) as session:
        session.ask(upgrade("/shel", "json", ()))
        reply = session.peer.refusal()
        assert reply.status == 404
        assert b"/shell" not in reply.body
