"""Requests to an authorizer over HTTP, and the meaning of its responses.

The semantics are those of nginx's auth_request and of Envoy's ext_authz over HTTP. 2xx
is yes. 401 and 403 are passed on with their challenges. Any other status is no answer.
Pure: knows no connection.
"""

from __future__ import annotations

from chimirror.access import (
    ALLOWED,
    FORBIDDEN,
    UNKNOWN,
    Answer,
    Identity,
)
from chimirror.access.answer_fields import (
    WrongAnswerError,
    check_challenges,
    check_names,
    check_user,
)
from chimirror.access.authorization import auth_type_of, basic_user, decode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access import Fields, Question

APPLICATION = b"chimirror-application"
APPLICATIONS = b"chimirror-applications"
# Fields of a client that concern its own connection and body, or that are set here.
_OWN_FIELDS = frozenset(
    b"connection content-length expect host keep-alive proxy-connection te trailer "
    b"transfer-encoding upgrade x-forwarded-method x-forwarded-proto x-forwarded-host "
    b"x-forwarded-uri x-forwarded-for x-original-uri x-original-method "
    b"chimirror-application".split()
)
MAX_DIGITS = 9  # of a max-age


def request_fields(question: Question, authority: str) -> list[tuple[bytes, bytes]]:
    """Return the header fields of the request that asks a question.

    Args:
        question: the question.
        authority: Host of the authorizer.
    """
    added = {
        b"X-Forwarded-Method": question.method,
        b"X-Forwarded-Proto": question.scheme,
        b"X-Forwarded-Host": question.host,
        b"X-Forwarded-Uri": question.target,
        b"X-Forwarded-For": question.address,
        b"X-Original-URI": question.target,
        b"X-Original-Method": question.method,
        b"Chimirror-Application": question.application,
    }
    # CGI and WSGI read `_` in the name of a field as `-`.
    passed = [
        (name, value)
        for name, value in question.fields
        if name.replace(b"_", b"-") not in _OWN_FIELDS
    ]
    own = [(name, value.encode()) for name, value in added.items() if value]
    return [(b"Host", authority.encode()), *own, *passed]


def to_answer(
    status: int, fields: Fields, question: Question, names: tuple[str, str]
) -> Answer:
    """Return the answer that a response gives.

    Args:
        status: of the response.
        fields: of the response, names in lower case.
        question: that was asked.
        names: of the fields that hold the user and the groups.

    Raises:
        WrongAnswerError: It is no answer, or breaks a rule.
    """
    if 200 <= status < 300:
        identity = _identity(fields, question, names)
        return Answer(ALLOWED, identity, max_age=_max_age(fields))
    if status in (UNKNOWN, FORBIDDEN):
        texts = [
            value.decode("latin-1") for value in _values(fields, "www-authenticate")
        ]
        return Answer(
            status, challenges=check_challenges(texts), max_age=_max_age(fields)
        )
    hint = "; let it answer 401 instead of a redirect" if 300 <= status < 400 else ""
    raise WrongAnswerError(f"it answered {status}, which is neither yes nor no{hint}")


def _identity(fields: Fields, question: Question, names: tuple[str, str]) -> Identity:
    users = _values(fields, names[0])
    if len(users) > 1:
        raise WrongAnswerError("its answer names more than one user")
    name = decode_name(users[0]) if users else basic_user(question.fields)
    user = "" if name is None else check_user(name)
    groups = _names(fields, names[1], "groups") if names[1] else ()
    applications = None
    if any(name == APPLICATIONS for name, _ in fields):
        applications = _names(fields, APPLICATIONS.decode(), "applications")
    return Identity(user, auth_type_of(question.fields), groups, applications)


def _values(fields: Fields, wanted: str) -> list[bytes]:
    """Return the values of a field that are not empty."""
    name = wanted.encode()
    return [value for other, value in fields if other == name and value]


def _names(fields: Fields, wanted: str, kind: str) -> tuple[str, ...]:
    items = b",".join(_values(fields, wanted)).split(b",")
    stripped = [item.strip(b" \t") for item in items]
    return check_names([decode_name(item) for item in stripped if item], kind)


def _max_age(fields: Fields) -> float:
    """Return the max-age of Cache-Control (RFC 9111), 0 if nothing may be kept."""
    text = b",".join(_values(fields, "cache-control")).decode("latin-1").lower()
    directives = [part.strip() for part in text.split(",")]
    seconds = 0
    for directive in directives:
        name, _, value = directive.partition("=")
        if name in ("no-store", "no-cache"):
            return 0.0
        digits = value.strip('"')
        if name == "max-age" and digits.isascii() and digits.isdecimal():
            seconds = int(digits[:MAX_DIGITS])
    return float(seconds)
