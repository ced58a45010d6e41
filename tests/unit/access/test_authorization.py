"""The Authorization field: the scheme, and the user of Basic credentials."""

from __future__ import annotations

import base64

import pytest

from chimirror.access.authorization import auth_type_of, basic_user


def credentials(text: str, encoding: str = "utf-8") -> bytes:
    return b"Basic " + base64.b64encode(text.encode(encoding))


@pytest.mark.parametrize(
    ("value", "auth_type"),
    [
        (b"Basic eA==", "Basic"),
        (b"BEARER x", "Bearer"),
        (b"Bearer", "Bearer"),
        (b"Digest username=x", "Authorizer"),
        (b"", "Authorizer"),
    ],
)
def test_the_scheme_is_the_auth_type(value: bytes, auth_type: str) -> None:
    assert auth_type_of([(b"cookie", b"a"), (b"authorization", value)]) == auth_type


def test_two_fields_have_no_scheme() -> None:
    fields = [(b"authorization", credentials("ann:x"))] * 2
    assert auth_type_of(fields) == "Authorizer"
    assert basic_user(fields) is None
    assert auth_type_of([]) == "Authorizer"


@pytest.mark.parametrize(
    ("value", "user"),
    [
        (credentials("ann:a:b"), "ann"),
        (credentials("jörg:"), "jörg"),
        (credentials("jörg:x", "latin-1"), "jörg"),
        (credentials(":x"), ""),
        (credentials("ann"), None),
        (b"Basic  " + base64.b64encode(b"ann:x"), "ann"),
        (b"Basic !!!!", None),
        (b"Basic YW5uOng", None),
        (b"Bearer YW5uOng=", None),
    ],
)
def test_the_user_of_basic_credentials(value: bytes, user: str | None) -> None:
    assert basic_user([(b"authorization", value)]) == user
