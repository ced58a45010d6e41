"""Arbitrary bytes of clients, servers and files raise only known errors."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.authorize import LoginAttempt, credentials
from chimirror.authorize.htpasswd import read_passwords
from chimirror.authorize.json_front import MalformedQuestion, read_question
from chimirror.authorize.key_set import read_keys
from chimirror.authorize.tokens import make_token, read_tokens

LATIN_1 = st.text(st.characters(max_codepoint=255))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(["Basic", "bearer", ""]), LATIN_1, LATIN_1)
def test_fields_of_clients(scheme: str, rest: str, cookie: str) -> None:
    attempt = LoginAttempt(f"{scheme} {rest}", cookie)
    with suppress(credentials.MalformedCredentials):
        credentials.basic(attempt)
    with suppress(credentials.MalformedCredentials):
        credentials.token(attempt, "sid")


@given(st.binary())
def test_any_password(data: bytes) -> None:
    field = f"Basic {base64.b64encode(data).decode()}"
    with suppress(credentials.MalformedCredentials):
        found = credentials.basic(LoginAttempt(field))
        assert found is not None
        user, password = found
        assert f"{user}:{password}" in (
            data.decode(errors="replace"),
            data.decode("latin-1"),
        )


@given(st.binary() | JSON.map(repr).map(str.encode))
def test_lines_of_servers(line: bytes) -> None:
    with suppress(MalformedQuestion):
        read_question(line)


@pytest.mark.parametrize("read", [read_passwords, read_tokens, read_keys])
@given(data=st.data())
def test_files(read: object, data: st.DataObject) -> None:
    lines = st.lists(st.text() | st.from_regex(r"[a-z]+[: ]\S+( [a-z]+=\S*)?"))
    text = data.draw(st.binary() | lines.map("\n".join).map(lambda t: t.encode()))
    assert callable(read)
    try:
        read(text)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1


@given(st.text(), st.none() | st.text(), st.lists(st.text()))
def test_a_token_that_is_made_can_be_read(
    user: str, expires: str | None, applications: list[str]
) -> None:
    try:
        _, line = make_token(user, expires, applications)
    except ValueError:
        return
    (found,) = read_tokens(line.encode())
    assert found.user == user
    assert found.applications == (tuple(applications) or None)
