"""The decision about a client: any source, all that are required, or none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimirror.access import (
    ALLOWED,
    FAILED,
    FORBIDDEN,
    UNKNOWN,
    Answer,
    Identity,
    Question,
)
from chimirror.access.access_control import AccessControl, check_application
from chimirror.access.failure_limiter import BURST, INTERVAL
from chimirror.access.local_sources import Client
from chimirror.protocol.http import HTTPError, HTTPRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    Decision = Identity | HTTPError | None

BASIC = ((b"authorization", b"Basic QTpC"),)
CHALLENGES = ('Basic realm="a"', "Bearer")
QUESTION = Question(
    application="shell",
    method="GET",
    target="/shell",
    scheme="http",
    host="localhost",
    address="192.0.2.1",
    port=4711,
    fields=(),
)


class FakeSource:
    """A source, or an authorizer that answers at once or later."""

    def __init__(self, answer: Answer | None, *, answers_late: bool = False) -> None:
        self.answer = answer
        self.answers_late = answers_late
        self.asked = 0
        self.cancelled = 0
        self.on_answer: Callable[[Answer], None] = lambda _: None

    def ask(
        self,
        question: Client | Question,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> FakeSource | Answer | None:
        self.asked += 1
        if on_answer is None:
            return self.answer
        self.on_answer = on_answer
        if not self.answers_late and self.answer is not None:
            on_answer(self.answer)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def yes(user: str, *groups: str, of: tuple[str, ...] | None = None) -> FakeSource:
    return FakeSource(Answer(ALLOWED, Identity(user, "Basic", groups, of)))


def no(text: str = "") -> FakeSource:
    return FakeSource(Answer(FORBIDDEN, text=text))


def unknown(text: str = "") -> FakeSource:
    return FakeSource(Answer(UNKNOWN, challenges=CHALLENGES, text=text))


class Access:
    """An AccessControl with a clock of the test."""

    def __init__(
        self,
        authorizer: FakeSource | None = None,
        required: tuple[str, ...] = (),
        *,
        allow_anonymous: bool = False,
        **sources: FakeSource,
    ) -> None:
        self.now = 1000.0
        self.access = AccessControl(
            sources,  # type: ignore[arg-type]
            authorizer,  # type: ignore[arg-type]
            required,
            lambda: self.now,
            allow_anonymous=allow_anonymous,
        )

    def ask(
        self,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        source: str | None = "a",
    ) -> Decision:
        request = HTTPRequest("GET", "/shell", list(fields))
        client = Client(request, is_proxied=False, uid=-1, fd=-1, certificate=None)
        decisions: list[Decision] = []
        self.access.identify(client, QUESTION, source, decisions.append)
        [decision] = decisions
        return decision

    def user(self, fields: tuple[tuple[bytes, bytes], ...] = ()) -> str:
        decision = self.ask(fields)
        assert isinstance(decision, Identity)
        return decision.user

    def error(self, fields: tuple[tuple[bytes, bytes], ...] = ()) -> HTTPError:
        decision = self.ask(fields)
        assert isinstance(decision, HTTPError)
        return decision


def test_the_first_source_that_knows_the_client_is_enough() -> None:
    last, authorizer = yes("eve"), yes("mallory")
    access = Access(authorizer, proxy=FakeSource(None), certificate=yes("ann"), z=last)
    assert access.user() == "ann"
    assert last.asked == authorizer.asked == 0


def test_an_authorizer_is_asked_last() -> None:
    assert Access(yes("ann"), proxy=FakeSource(None), certificate=no()).user() == "ann"


def test_without_a_yes_it_is_401() -> None:
    error = Access(proxy=FakeSource(None), local=FakeSource(None)).error()
    assert (error.status, error.cause) == (401, "unauthenticated")
    assert error.text == "this service has to know who you are"
    assert error.headers == (("WWW-Authenticate", 'Chimirror sources="proxy, local"'),)


def test_a_challenge_is_passed_on() -> None:
    error = Access(unknown("wrong password"), proxy=FakeSource(None)).error(BASIC)
    assert error.status == 401
    assert error.text == "this service has to know who you are: wrong password"
    assert error.headers == tuple([("WWW-Authenticate", each) for each in CHALLENGES])


def test_a_401_always_has_a_challenge() -> None:
    error = Access(FakeSource(Answer(UNKNOWN))).error()
    assert error.headers == (("WWW-Authenticate", 'Chimirror sources="authorizer"'),)


def test_a_no_is_403() -> None:
    error = Access(
        unknown(), local=no("the local user eve is not allowed here")
    ).error()
    assert (error.status, error.cause) == (403, "forbidden")
    assert error.text == "the local user eve is not allowed here"


def test_an_authorizer_that_fails_is_503_with_the_reason_in_the_log_alone() -> None:
    error = Access(FakeSource(Answer(FAILED, text="timed out")), local=no()).error()
    assert (error.status, error.cause) == (503, "authorizer")
    assert "timed out" not in error.text
    assert error.detail == "timed out"
    assert error.headers == (("Retry-After", "5"),)


# All of them


def test_all_required_sources_have_to_know_the_client() -> None:
    required = ("certificate", "authorizer")
    assert Access(yes("ann"), required, certificate=yes("laptop")).user() == "ann"
    required = ("authorizer", "certificate")
    assert Access(yes("ann"), required, certificate=yes("laptop")).user() == "laptop"


def test_what_required_sources_tell_is_joined() -> None:
    certificate = yes("laptop", "devices", "staff", of=("shell", "log"))
    authorizer = yes("ann", "staff", "ops", of=("log", "edit"))
    access = Access(authorizer, ("certificate", "authorizer"), certificate=certificate)
    found = access.ask()
    assert isinstance(found, Identity)
    assert found.groups == ("devices", "staff", "ops")
    assert found.applications == ("log",)


def test_one_required_source_that_knows_nothing_is_401() -> None:
    authorizer = yes("ann")
    access = Access(
        authorizer, ("certificate", "authorizer"), certificate=FakeSource(None)
    )
    assert access.error().status == 401
    assert authorizer.asked == 0


def test_one_required_source_that_says_no_is_403() -> None:
    access = Access(yes("ann"), ("local", "authorizer"), local=no())
    assert access.error().status == 403
    access = Access(unknown(), ("local", "authorizer"), local=yes("ann"))
    assert access.error(BASIC).status == 401


# Anonymous clients


def test_a_client_without_credentials_may_be_anonymous() -> None:
    access = Access(unknown(), allow_anonymous=True, local=FakeSource(None))
    assert access.ask() is None
    assert access.error(BASIC).status == 401
    assert access.ask(((b"cookie", b"a=b"),)) is None, "of another service"


def test_a_no_is_no_anonymous_client() -> None:
    assert Access(allow_anonymous=True, local=no()).error().status == 403
    failed = FakeSource(Answer(FAILED))
    assert Access(failed, allow_anonymous=True).error().status == 503


# Failed attempts


@pytest.mark.parametrize("answer", [unknown("wrong"), no()])
def test_failed_attempts_are_limited(answer: FakeSource) -> None:
    access = Access(answer)
    for _ in range(BURST):
        assert access.error(BASIC).status in (401, 403)
    error = access.error(BASIC)
    assert (error.status, error.cause) == (429, "too-many-failures")
    assert error.headers == (("Retry-After", f"{INTERVAL:g}"),)
    assert answer.asked == BURST
    other = access.ask(BASIC, "b")
    assert isinstance(other, HTTPError)
    assert other.status in (401, 403)
    access.now += INTERVAL
    assert access.error(BASIC).status in (401, 403)
    assert access.error(BASIC).status == 429


def test_an_internal_error_refuses_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    authorizer = FakeSource(None, answers_late=True)
    access = Access(authorizer, allow_anonymous=True).access
    request = HTTPRequest("GET", "/shell", [])
    client = Client(request, is_proxied=False, uid=-1, fd=-1, certificate=None)
    decisions: list[Decision] = []
    access.identify(client, QUESTION, "a", decisions.append)
    monkeypatch.setattr(AccessControl, "_decide", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        authorizer.on_answer(Answer(ALLOWED))
    [decision] = decisions
    assert isinstance(decision, HTTPError)
    assert decision.status == 500


def test_a_client_that_goes_before_the_answer_has_failed() -> None:
    authorizer = FakeSource(Answer(UNKNOWN), answers_late=True)
    access = Access(authorizer).access
    for fields in (), BASIC:
        request = HTTPRequest("GET", "/shell", list(fields))
        client = Client(request, is_proxied=False, uid=-1, fd=-1, certificate=None)
        decisions: list[Decision] = []
        for _ in range(BURST):
            pending = access.identify(client, QUESTION, "a", decisions.append)
            assert pending is not None
            pending.cancel()
        assert not decisions
    assert authorizer.cancelled == 2 * BURST
    assert access.identify(client, QUESTION, "a", decisions.append) is None
    assert isinstance(decisions[0], HTTPError)
    assert decisions[0].status == 429


def test_a_request_without_credentials_is_no_attempt() -> None:
    access = Access(unknown())
    for _ in range(BURST + 1):
        assert access.error().status == 401


def test_success_and_failure_of_the_authorizer_are_no_attempts() -> None:
    for answer in (yes("ann"), FakeSource(Answer(FAILED))):
        access = Access(answer)
        for _ in range(BURST + 1):
            access.ask(BASIC)
        assert answer.asked == BURST + 1


def test_a_source_without_a_key_is_not_limited() -> None:
    access = Access(unknown())
    for _ in range(BURST + 1):
        error = access.ask(BASIC, None)
        assert isinstance(error, HTTPError)
        assert error.status == 401


def test_a_late_answer_decides_and_can_be_cancelled() -> None:
    authorizer = FakeSource(None, answers_late=True)
    access, decisions = Access(authorizer).access, list[object]()
    client = Client(
        HTTPRequest("GET", "/", []), is_proxied=False, uid=-1, fd=-1, certificate=None
    )
    pending = access.identify(client, QUESTION, None, decisions.append)
    assert not decisions
    assert pending is not None
    pending.cancel()
    assert authorizer.cancelled == 1
    authorizer.on_answer(Answer(ALLOWED, Identity("ann", "Basic")))
    [decision] = decisions
    assert isinstance(decision, Identity)


# Applications


ANN = Identity("ann", "Basic", ("staff",))


@pytest.mark.parametrize(
    ("users", "groups"),
    [((), ()), (("ann", "bob"), ()), ((), ("staff", "ops")), (("bob",), ("staff",))],
)
def test_users_and_groups_may_use_an_application(
    users: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    assert check_application(ANN, "shell", users, groups) is None


def test_others_get_403_that_says_what_is_missing() -> None:
    error = check_application(ANN, "shell", ("bob",), ("ops", "admin"))
    assert error is not None
    assert (error.status, error.cause) == (403, "forbidden")
    assert error.text == (
        "ann is not one of the users of this application, and in none of its groups "
        "(ops, admin)"
    )
    nameless = check_application(Identity("", "Basic"), "", ("bob",), ())
    assert nameless is not None
    assert nameless.text == (
        "a client without a name is not one of the users of this application"
    )


def test_an_anonymous_client_may_give_its_name() -> None:
    assert check_application(None, "shell", (), ()) is None
    error = check_application(None, "shell", ("ann",), ())
    assert error is not None
    assert error.status == 401
    assert error.headers[0][0] == "WWW-Authenticate"


def test_an_identity_for_other_applications_is_refused() -> None:
    limited = Identity("ann", "Bearer", (), ("log", "edit"))
    assert check_application(limited, "log", (), ()) is None
    for name in ("shell", ""):
        error = check_application(limited, name, ("ann",), ())
        assert error is not None
        assert (error.status, error.text) == (403, "you may use log, edit alone")
    error = check_application(Identity("ann", "Bearer", (), ()), "log", (), ())
    assert error is not None
    assert error.text == "you may use no application alone"


def test_variables_are_utf_8_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity("日本", "Basic", ("é", "b"))
    for encoding in ("utf-8", "latin-1", "ascii"):
        monkeypatch.setattr("chimirror.access._ENCODING", encoding)
        encoded = {
            name: value.encode(encoding, "surrogateescape").decode()
            for name, value in identity.variables().items()
        }
        assert encoded == {
            "AUTH_TYPE": "Basic",
            "REMOTE_USER": "日本",
            "REMOTE_GROUPS": "é,b",
        }
