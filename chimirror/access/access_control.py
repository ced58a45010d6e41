"""Decides who a client is: asks the sources in their order.

Any source is enough, unless all have to say yes. Those that answer at once come first,
an authorizer is asked last. A source of failed attempts has to wait before it is asked
again. Knows no session and starts nothing.
"""

from __future__ import annotations

from chimirror.access import (
    ALLOWED,
    FAILED,
    FORBIDDEN,
    UNKNOWN,
    Answer,
    Identity,
)
from chimirror.access.failure_limiter import FailureLimiter
from chimirror.protocol.http import HTTPError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from chimirror.access import Question
    from chimirror.access.authorizer import Authorizer, PendingQuestion
    from chimirror.access.local_sources import Client, Source
    from chimirror.protocol.http import HTTPRequest


AUTHORIZER = "authorizer"
UNAUTHENTICATED = "this service has to know who you are"
RETRY_AFTER = "5"  # seconds, once an authorizer has failed
# RFC 9110, section 11.6.1: a 401 names a scheme, and these sources may have none.
_CHALLENGE = 'Chimirror sources="{}"'


class AccessControl:
    """The sources of one process.

    Args:
        sources: by name, those that answer at once, in their order.
        authorizer: the one that is asked, or None.
        required: names of the sources that all have to say yes. The last one names the
            user. Empty: any source is enough.
        allow_anonymous: a client that no source knows has no name.
        clock: monotonic time in seconds.

    Attributes:
        challenges: what the authorizer has asked a client for, WWW-Authenticate. An
            anonymous client learns it with the first application that needs a name.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        authorizer: Authorizer | None,
        required: tuple[str, ...],
        clock: Callable[[], float],
        *,
        allow_anonymous: bool,
    ) -> None:
        self._sources = sources
        self._authorizer = authorizer
        self._required = required
        self._allow_anonymous = allow_anonymous
        self._failures = FailureLimiter(clock)
        self.challenges: tuple[str, ...] = ()

    def identify(
        self,
        client: Client,
        question: Question,
        source: Hashable,
        on_decision: Callable[[Identity | HTTPError | None], None],
    ) -> PendingIdentity | None:
        """Find out who a client is.

        Args:
            client: what its connection and request tell.
            question: for an authorizer.
            source: key of the address that failed attempts are counted for. None: they
                are not.
            on_decision: called once with the identity, None for an anonymous client, or
                the response. Perhaps at once.

        Returns:
            The question of an authorizer, to be cancelled if the client goes before
            the decision. None if it is decided.
        """
        answers: dict[str, Answer | None] = {}
        for name, each in self._sources.items():
            answers[name] = answer = each.ask(client)
            is_enough = answer is not None and answer.status == ALLOWED
            if is_enough and not self._required:
                on_decision(self._decide(answers, client.request))
                return None
            if not is_enough and self._required:
                break
        else:
            if self._authorizer is not None:
                return self._ask(client, question, source, on_decision, answers)
        on_decision(self._decide(answers, client.request))
        return None

    def close(self) -> None:
        """Called at the end. Ends the helper process of an authorizer."""
        if self._authorizer is not None:
            self._authorizer.close()

    def _ask(
        self,
        client: Client,
        question: Question,
        source: Hashable,
        on_decision: Callable[[Identity | HTTPError | None], None],
        answers: dict[str, Answer | None],
    ) -> PendingIdentity | None:
        wait = 0 if source is None else self._failures.retry_after(source)
        if wait:
            on_decision(_too_many_failures(wait))
            return None
        assert self._authorizer is not None
        request = client.request

        def on_answer(answer: Answer) -> None:
            if source is not None and _is_failed_attempt(answer, request):
                self._failures.on_failure(source)
            if answer.status == UNKNOWN:
                self.challenges = answer.challenges
            answers[AUTHORIZER] = answer
            decision: Identity | HTTPError | None = _internal_error()
            try:
                decision = self._decide(answers, request)
            finally:  # an internal error is no yes, and nobody waits for ever
                on_decision(decision)

        counted = source if has_credentials(request) else None
        pending = self._authorizer.ask(question, on_answer)
        return PendingIdentity(pending, self._failures, counted)

    def _decide(
        self, answers: Mapping[str, Answer | None], request: HTTPRequest
    ) -> Identity | HTTPError | None:
        """Join the answers to an identity, or to a response."""
        given = [answer for answer in answers.values() if answer is not None]
        known = {
            name: answer.identity
            for name, answer in answers.items()
            if answer is not None and answer.identity is not None
        }
        if self._required and not set(self._required) - set(known):
            return _join([known[name] for name in self._required])
        if known and not self._required:
            return next(iter(known.values()))
        for status in (FAILED, FORBIDDEN):
            for answer in given:
                if answer.status == status:
                    return _refuse(answer)
        if self._allow_anonymous and not has_credentials(request):
            return None
        unknown = [answer for answer in given if answer.status == UNKNOWN]
        return _refuse(unknown[0]) if unknown else self._unauthenticated()

    def _unauthenticated(self) -> HTTPError:
        names = ", ".join(self._required or self._sources)
        return _refuse(Answer(UNKNOWN, challenges=(_CHALLENGE.format(names),)))


class PendingIdentity:
    """A client about whom an authorizer is asked.

    Args:
        question: the question, without an answer yet.
        failures: limits failed attempts.
        source: as in `AccessControl.identify`. None: the client sends no login.
    """

    __slots__ = ("_failures", "_question", "_source")

    def __init__(
        self, question: PendingQuestion, failures: FailureLimiter, source: Hashable
    ) -> None:
        self._question = question
        self._failures = failures
        self._source = source

    def cancel(self) -> None:
        """Called when the client goes before the answer. Counts as a failed attempt.

        Authorizers say no late, so that passwords cannot be guessed fast. A client that
        does not wait for it could try as often as it likes.
        """
        if self._source is not None:
            self._failures.on_failure(self._source)
        self._question.cancel()


def has_credentials(request: HTTPRequest) -> bool:
    """Return True if the client tries to say who it is.

    A cookie is no sign of that: other services of the same host set cookies too.
    """
    return bool(request.get(b"authorization"))


def _is_failed_attempt(answer: Answer, request: HTTPRequest) -> bool:
    return answer.status == FORBIDDEN or (
        answer.status == UNKNOWN and has_credentials(request)
    )


def _join(identities: Collection[Identity]) -> Identity:
    """Return the last identity with the groups of all, and what all of them allow."""
    *_, last = identities
    groups = dict.fromkeys([name for each in identities for name in each.groups])
    allowed = [
        each.applications for each in identities if each.applications is not None
    ]
    applications: tuple[str, ...] | None = None
    if allowed:
        common = set(allowed[0]).intersection(*allowed)
        applications = tuple(sorted(common))
    return Identity(last.user, last.auth_type, tuple(groups), applications)


def _refuse(answer: Answer) -> HTTPError:
    """Return the response to a client that may not use this service."""
    if answer.status == FAILED:
        text = "it cannot be found out who you are; try again later"
        headers: tuple[tuple[str, str], ...] = (("Retry-After", RETRY_AFTER),)
        return HTTPError(503, text, headers, cause="authorizer", detail=answer.text)
    challenges = answer.challenges
    if answer.status == UNKNOWN and not challenges:
        challenges = (_CHALLENGE.format(AUTHORIZER),)
    headers = tuple([("WWW-Authenticate", each) for each in challenges])
    if answer.status == FORBIDDEN:
        text = answer.text or "you may not use this service"
        return HTTPError(403, text, headers, cause="forbidden")
    text = UNAUTHENTICATED + (f": {answer.text}" if answer.text else "")
    return HTTPError(401, text, headers, cause="unauthenticated")


def _internal_error() -> HTTPError:
    return HTTPError(500, "an internal error", cause="internal")


def _too_many_failures(seconds: int) -> HTTPError:
    text = f"too many failed attempts of this address; try again in {seconds} s"
    headers = (("Retry-After", str(seconds)),)
    return HTTPError(429, text, headers, cause="too-many-failures")


def check_application(
    identity: Identity | None,
    name: str,
    users: Collection[str],
    groups: Collection[str],
    challenges: Collection[str] = (),
) -> HTTPError | None:
    """Check that a client may use an application.

    Args:
        identity: the client, None if it is anonymous.
        name: the application's name, "" for one without.
        users, groups: those that may use it. Both empty: everybody.
        challenges: ways to log in, for an anonymous client.

    Returns:
        401 if it may help to have a name, 403 if this name does not.
    """
    if identity is not None and not _names_application(identity, name):
        text = f"you may use {_list(identity.applications or ())} alone"
        return HTTPError(403, text, cause="forbidden")
    if not users and not groups:
        return None
    if identity is None:
        text = "this application is not for everybody"
        wanted = tuple(challenges) or (_CHALLENGE.format("any"),)
        return _refuse(Answer(UNKNOWN, challenges=wanted, text=text))
    if identity.user in users or not set(groups).isdisjoint(identity.groups):
        return None
    shown = identity.user or "a client without a name"
    text = f"{shown} is not one of the users of this application"
    if groups:
        text += f", and in none of its groups ({', '.join(groups)})"
    return HTTPError(403, text, cause="forbidden")


def _names_application(identity: Identity, name: str) -> bool:
    return identity.applications is None or name in identity.applications


def _list(names: Collection[str]) -> str:
    return ", ".join(names) or "no application"
