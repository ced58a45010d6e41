"""The JSON lines between this process and a helper (chimirror-protocol(7)).

One question and one answer is one line, and an answer has the id of its question. Pure:
knows no process.
"""

from __future__ import annotations

from _json import encode_basestring_ascii as quote

from chimirror.access import (
    ALLOWED,
    FAILED,
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
from chimirror.access.authorization import auth_type_of, basic_user
from chimirror.protocol import json_text
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access import Fields, Question

    Members = dict[str, object]

MAX_LINE = 64 * 1024  # bytes of an answer


def encode_question(number: int, question: Question) -> bytes:
    """Return the line of a question, with its line end.

    Args:
        number: its id.
        question: the question.
    """
    members = {
        "application": quote(question.application),
        "method": quote(question.method),
        "path": quote(question.target),
        "scheme": quote(question.scheme),
        "host": quote(question.host),
        "address": quote(question.address),
        "port": str(question.port),
        "headers": _encode_fields(question.fields),
    }
    rest = "".join([f',"{name}":{value}' for name, value in members.items()])
    return f'{{"id":{number}{rest}}}\n'.encode()


def _encode_fields(fields: Fields) -> str:
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        separator = b"; " if name == b"cookie" else b", "
        values[name] = values[name] + separator + value if name in values else value
    pairs = [f"{_quote(name)}:{_quote(value)}" for name, value in values.items()]
    return "{" + ",".join(pairs) + "}"


def _quote(text: bytes) -> str:
    return quote(text.decode("latin-1"))


def read_line(line: bytes) -> tuple[int, Members]:
    """Return the id and all members of the line of an answer.

    Raises:
        WrongAnswerError: It is not a JSON object with an id.
    """
    try:
        members = json_text.parse(line)
    except ValueError:
        text = f"it wrote a line of {len(line)} bytes that is not JSON"
        raise WrongAnswerError(text) from None
    if not isinstance(members, dict):
        raise WrongAnswerError("it wrote a line that is not a JSON object")
    number = members.get("id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise WrongAnswerError('its answer has no "id" of a question')
    return number, members


def to_answer(members: Members, question: Question) -> Answer:
    """Return the answer that a line gives.

    Raises:
        WrongAnswerError: A member is missing or has another form.
    """
    status, max_age = members.get("status"), _max_age(members)
    text = members.get("text", "")
    if not isinstance(text, str):
        raise WrongAnswerError('its answer has a "text" that is not a text')
    if type(status) is int and status == ALLOWED:
        return Answer(ALLOWED, _identity(members, question), max_age=max_age)
    if type(status) is int and status in (UNKNOWN, FORBIDDEN):
        challenges, line = _challenges(members), escape_line(text)
        return Answer(status, challenges=challenges, text=line, max_age=max_age)
    if type(status) is int and status == FAILED:
        return Answer(FAILED, text=escape_line(text) or "it cannot tell")
    raise WrongAnswerError('its answer has no "status" of 200, 401, 403 or 503')


def _max_age(members: Members) -> float:
    value = members.get("max_age", 0)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf"):  # type: ignore[operator]
        raise WrongAnswerError('its answer has a "max_age" that is not a time')
    return float(value)  # type: ignore[arg-type]


def _identity(members: Members, question: Question) -> Identity:
    applications = members.get("applications")
    return Identity(
        _user(members, question),
        auth_type_of(question.fields),
        _names(members.get("groups", []), "groups"),
        None if applications is None else _names(applications, "applications"),
    )


def _user(members: Members, question: Question) -> str:
    """Return the user, by default that of Basic. Empty without either."""
    if "user" in members:
        return check_user(members["user"])
    name = basic_user(question.fields)
    return "" if name is None else check_user(name)


def _names(names: object, kind: str) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise WrongAnswerError(f'its answer has "{kind}" that are not a list')
    return check_names(names, kind)


def _challenges(members: Members) -> tuple[str, ...]:
    found = members.get("challenge", [])
    return check_challenges(found if isinstance(found, list) else [found])
