"""chimirror-authorize as the servers ask it: both of its ways have the same answers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest

from authorize_program import ARGV, basic, http_authorizer, run
from authorizers import Asked, AuthorizerHarness, authorizer_harness, question
from chimirror.access import ALLOWED, FORBIDDEN, UNKNOWN, Answer
from chimirror.access.authorizer import Authorizer
from chimirror.access.endpoint import Endpoint
from loops import turn_until
from serve import ROOT

Opener = Callable[..., Authorizer]


@pytest.fixture
def harness() -> Iterator[AuthorizerHarness]:
    with authorizer_harness() as made:
        yield made


@pytest.fixture(params=["exec", "http"])
def opened(
    request: pytest.FixtureRequest, harness: AuthorizerHarness, tmp_path: Path
) -> Iterator[Opener]:
    """Open an authorizer with a command line of the program."""
    with ExitStack() as stack:

        def open_authorizer(*arguments: object) -> Authorizer:
            if request.param == "exec":
                argv = ("env", f"PYTHONPATH={ROOT}", *ARGV, *map(str, arguments))
                return harness.open(Endpoint("exec:", argv=argv), 100.0)
            server = stack.enter_context(http_authorizer(tmp_path, *arguments))
            address = ((socket.AF_UNIX, str(server.path)),)
            return harness.open(
                Endpoint("http", addresses=address, authority="localhost", uri="/"),
                100.0,
            )

        yield open_authorizer


def known(answer: Answer) -> tuple[str, str, tuple[str, ...] | None]:
    assert answer.identity is not None
    identity = answer.identity
    return identity.user, identity.auth_type, identity.applications


def test_passwords(harness: AuthorizerHarness, opened: Opener, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw("pä:ss".encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"jörg:{hashed}\n")
    authorizer = opened("--max-age", "60", "htpasswd", tmp_path / "users")

    def ask(password: str) -> Answer:
        field = basic("jörg", password).encode()
        return harness.answer(authorizer, question((b"authorization", field)))

    answer = ask("pä:ss")
    assert (answer.status, answer.max_age) == (ALLOWED, 60)
    assert known(answer) == ("jörg", "Basic", None)
    refused = ask("wrong")
    assert (refused.status, refused.identity) == (UNKNOWN, None)
    assert refused.challenges == ('Basic realm="chimirror", charset="UTF-8"',)
    assert ask("pä:ss").status == ALLOWED
    assert len(authorizer._cache) == 1


def test_tokens(harness: AuthorizerHarness, opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = run("--application", "shell", "token", path, "ann").stdout.strip()
    authorizer = opened("--cookie", "sid", "tokens", path)

    def ask(name: bytes, value: str, application: str, target: str) -> Answer:
        field = (name, value.encode())
        asked = question(field, application=application, target=target)
        return harness.answer(authorizer, asked)

    for name, value in (
        (b"authorization", f"Bearer {token}"),
        (b"cookie", f"sid={token}"),
    ):
        answer = ask(name, value, "shell", "/shell")
        assert known(answer)[0] == "ann"
        assert known(answer)[2] == ("shell",)
        assert ask(name, value, "log", "/log").status == FORBIDDEN
        listed = ask(name, value, "", "/.well-known/chimirror")
        assert known(listed)[2] == ("shell",)
    wrong = ask(b"authorization", "Bearer x", "shell", "/shell")
    assert wrong.status == UNKNOWN
    assert 'error="invalid_token"' in wrong.challenges[0]
    assert not harness.log


def test_hundreds_of_questions_at_once(
    harness: AuthorizerHarness, opened: Opener, tmp_path: Path
) -> None:
    (tmp_path / "tokens").touch()
    authorizer = opened("tokens", tmp_path / "tokens")
    asked = [
        Asked(authorizer, question((b"authorization", b"Bearer %d" % number)))
        for number in range(300)
    ]
    turn_until(harness.loop, lambda: all(each.answers for each in asked))
    assert {each.answers[0].status for each in asked} == {UNKNOWN}
    assert not harness.log
