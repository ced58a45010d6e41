"""Basic, Bearer and cookies, as clients send them."""

from __future__ import annotations

import base64

import pytest

from chimirror.authorize import LoginAttempt
from chimirror.authorize.credentials import MalformedCredentials, basic, token


def encoded(data: bytes) -> LoginAttempt:
    return LoginAttempt(authorization="Basic " + base64.b64encode(data).decode())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"ann:secret", ("ann", "secret")),
        (b"ann:a:b:c", ("ann", "a:b:c")),
        (b"ann:", ("ann", "")),
        (b":secret", ("", "secret")),
        ("jörg:pä:ß".encode(), ("jörg", "pä:ß")),
        ("jörg:pä:ß".encode("latin-1"), ("jörg", "pä:ß")),
    ],
)
def test_basic(data: bytes, found: tuple[str, str]) -> None:
    assert basic(encoded(data)) == found


@pytest.mark.parametrize("data", [b"ann", b"", b"ann:a\0b", b"an\n:a", b"ann:\x7f"])
def test_no_user_and_password(data: bytes) -> None:
    with pytest.raises(MalformedCredentials, match="not USER:PASSWORD"):
        basic(encoded(data))


@pytest.mark.parametrize("text", ["Basic !", "Basic YQ", "basic \xe4", "BASIC YQ==, a"])
def test_no_base64(text: str) -> None:
    with pytest.raises(MalformedCredentials, match="not base64"):
        basic(LoginAttempt(authorization=text))


@pytest.mark.parametrize("text", ["", "Bearer abc", "Digest username=x", "Basi c"])
def test_other_schemes_are_not_basic(text: str) -> None:
    assert basic(LoginAttempt(authorization=text)) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Bearer abc", "abc"),
        ("bearer  a.b-c_d~e+f/g== ", "a.b-c_d~e+f/g=="),
        ("Basic YTpi", ""),
        ("", ""),
    ],
)
def test_bearer(text: str, found: str) -> None:
    assert token(LoginAttempt(authorization=text), "") == found


@pytest.mark.parametrize(
    "text", ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b"]
)
def test_no_token(text: str) -> None:
    with pytest.raises(MalformedCredentials, match="not a token"):
        token(LoginAttempt(authorization=text), "")


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("sid=abc", "abc"),
        ('a=b; sid="abc"; c=d', "abc"),
        ("xsid=abc; sid2=d", ""),
        ("sid=abc; sid=def", ""),  # another host of the domain may have set one
        ("sid", ""),
        ("", ""),
    ],
)
def test_cookie(field: str, found: str) -> None:
    assert token(LoginAttempt(cookie=field), "sid") == found
    assert not token(LoginAttempt(cookie=field), "")


def test_a_bearer_field_comes_before_a_cookie() -> None:
    assert token(LoginAttempt("Bearer one", "sid=two"), "sid") == "one"
    assert token(LoginAttempt("Basic YTpi", "sid=two"), "sid") == "two"
