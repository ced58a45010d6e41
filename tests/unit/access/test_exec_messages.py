"""The JSON lines of a helper, in both directions."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from authorizers import question
from chimirror.access import ALLOWED, FAILED, FORBIDDEN, UNKNOWN, Answer
from chimirror.access.answer_fields import WrongAnswerError
from chimirror.access.exec_messages import encode_question, read_line, to_answer

BEARER = (b"authorization", b"bearer x")


def answer(**members: Any) -> Answer:
    line = json.dumps({"id": 1, **members}).encode()
    number, found = read_line(line)
    assert number == 1
    return to_answer(found, question(BEARER))


def test_a_question_is_one_line() -> None:
    line = encode_question(
        7,
        question(
            (b"cookie", b"a=1"),
            (b"accept", b"x"),
            (b"cookie", b'"\xfc"'),
            (b"accept", b"y"),
        ),
    )
    assert line.endswith(b"\n")
    assert line.isascii()
    assert json.loads(line) == {
        "id": 7,
        "application": "shell",
        "method": "GET",
        "path": "/shell?x=1",
        "scheme": "https",
        "host": "example.org",
        "address": "192.0.2.1",
        "port": 4711,
        "headers": {"cookie": 'a=1; "ü"', "accept": "x, y"},
    }


def test_a_yes_has_all_members() -> None:
    found = answer(
        status=200,
        user="jörg",
        groups=["a", "b", "a"],
        applications=["shell"],
        max_age=1.5,
        unknown={"member": None},
    )
    assert found.identity
    assert (found.status, found.max_age) == (ALLOWED, 1.5)
    assert (found.identity.user, found.identity.groups) == ("jörg", ("a", "b"))
    assert found.identity.applications == ("shell",)
    assert found.identity.auth_type == "Bearer"


def test_optional_members_may_be_absent() -> None:
    found = answer(status=200, user="ann")
    assert found.identity
    assert found.identity.groups == ()
    assert found.identity.applications is None
    assert found.max_age == 0


def test_without_a_user_basic_credentials_name_it() -> None:
    text = base64.b64encode(b"ann:x")
    _, members = read_line(b'{"id":1,"status":200}')
    found = to_answer(members, question((b"authorization", b"Basic " + text)))
    assert found.identity
    assert (found.identity.user, found.identity.auth_type) == ("ann", "Basic")
    nameless = answer(status=200)
    assert nameless.identity
    assert nameless.identity.user == ""
    invalid = base64.b64encode(b"a,b:x")
    with pytest.raises(WrongAnswerError):
        to_answer(members, question((b"authorization", b"Basic " + invalid)))


def test_a_user_may_use_no_application() -> None:
    found = answer(status=200, user="ann", applications=[])
    assert found.identity
    assert found.identity.applications == ()


def test_refusals() -> None:
    found = answer(status=401, challenge=["Basic", "Bearer"], text="two\nlines")
    assert (found.status, found.challenges) == (UNKNOWN, ("Basic", "Bearer"))
    assert "\n" not in found.text
    assert answer(status=403).status == FORBIDDEN
    assert answer(status=503, text="no database").text == "no database"
    assert answer(status=503).status == FAILED


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"status": True},
        {"status": 200.0, "user": "ann"},
        {"status": "200", "user": "ann"},
        {"status": 302},
        {"status": 200, "user": ""},
        {"status": 200, "user": None},
        {"status": 200, "user": "a\nb"},
        {"status": 200, "user": "a,b"},
        {"status": 200, "user": 257 * "a"},
        {"status": 200, "user": ["ann"]},
        {"status": 200, "user": "ann", "groups": "staff"},
        {"status": 200, "user": "ann", "groups": [1]},
        {"status": 200, "user": "ann", "groups": ["a,b"]},
        {"status": 200, "user": "ann", "groups": [str(n) for n in range(1025)]},
        {"status": 200, "user": "ann", "applications": "all"},
        {"status": 200, "user": "ann", "max_age": -1},
        {"status": 200, "user": "ann", "max_age": True},
        {"status": 200, "user": "ann", "max_age": "60"},
        {"status": 401, "challenge": "Basic\r\nSet-Cookie: a"},
        {"status": 401, "challenge": ["Basic", 1]},
        {"status": 401, "challenge": ""},
        {"status": 401, "challenge": ["Basic"] * 17},
        {"status": 401, "text": 1},
    ],
)
def test_all_else_is_wrong(members: dict[str, Any]) -> None:
    with pytest.raises(WrongAnswerError) as caught:
        answer(**members)
    assert "ann" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no",
        b"[]",
        b"{}",
        b'{"id":"1"}',
        b'{"id":true}',
        b'{"id":1,"status":NaN}',
        b'{"id":1}{"id":2}',
        b'{"id":1,"x":"\xff"}',
        b'{"id":1,"x":' + b"[" * 60000,
    ],
)
def test_other_lines_are_no_answers(line: bytes) -> None:
    with pytest.raises(WrongAnswerError):
        read_line(line)
