"""Tokens, and the schemes that a server asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.client import credentials


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([], ()),
        (["Basic"], ("Basic",)),
        (['Basic realm="a, b", charset="UTF-8"'], ("Basic",)),
        (['Basic realm="a\\", Evil x", Bearer realm="b"'], ("Basic", "Bearer")),
        (["Bearer", 'Basic realm="x"', "bearer"], ("Bearer", "Basic")),
        (["Negotiate YWJj==, DPoP algs=x"], ("Negotiate", "DPoP")),
        (["Basic realm = x , charset = UTF-8"], ("Basic",)),
        (['Basic realm="open'], ("Basic",)),
        ([", ,,"], ()),
        (['=x, "Basic"'], ()),
        ([", ".join(f"s{n}" for n in range(99))], tuple(f"s{n}" for n in range(8))),
    ],
)
def test_schemes(fields: list[str], names: tuple[str, ...]) -> None:
    assert credentials.schemes(fields) == names


@given(st.lists(st.text()))
def test_schemes_of_any_text(fields: list[str]) -> None:
    assert credentials.wanted(credentials.schemes(fields)).isprintable()


def test_wanted() -> None:
    text = credentials.wanted(["basic", "Bearer", "Negotiate"])
    assert text == "a user and a password (Basic) or a token (Bearer) or Negotiate"


def test_authorization() -> None:
    assert credentials.authorization("a.b-c~+/_==") == "Bearer a.b-c~+/_=="


@pytest.mark.parametrize(
    "token", ["", "se cret", "secret\n", "sécret", "secret:", "=secret"]
)
def test_a_token_that_cannot_be_sent(token: str) -> None:
    with pytest.raises(ValueError, match="token: it has letters, digits") as caught:
        credentials.authorization(token)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("token", [b"secret", None, 7])
def test_another_type(token: object) -> None:
    with pytest.raises(TypeError, match="token: a str is needed") as caught:
        credentials.authorization(token)
    assert "secret" not in str(caught.value)
