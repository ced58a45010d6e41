"""Tests the names of examples/chat."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.limits import MAX_NAME
from chat.names import InvalidName, name_key, normalize_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ada", "ada"),
        (" Ada\n", "Ada"),
        ("7of9", "7of9"),
        ("anna-lena_k.", "anna-lena_k."),
        ("ne\N{COMBINING ACUTE ACCENT}", "n\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("\N{FULLWIDTH LATIN SMALL LETTER A}", "a"),
        ("हिन्दी", "हिन्दी"),
        ("名前", "名前"),
        ("a" * MAX_NAME, "a" * MAX_NAME),
    ],
)
def test_names(text: str, name: str) -> None:
    assert normalize_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "ada lovelace",
        "-ada",
        "ada\nb",
        "ada\x1b[31m",
        "\N{RIGHT-TO-LEFT OVERRIDE}ada",
        "\N{ZERO WIDTH JOINER}",
        "a\N{ZERO WIDTH SPACE}",
        "a" + "\N{COMBINING CYRILLIC MILLIONS SIGN}" * 3,
        "\N{COMBINING ACUTE ACCENT}",
        "\N{PILE OF POO}",
        "a" * (MAX_NAME + 1),
        "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 9,
        "a" * 100_000,
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^a name (has|begins)"):
        normalize_name(text)


@given(st.text(max_size=40))
def test_a_name_is_printable_and_stays_the_same(text: str) -> None:
    try:
        name = normalize_name(text)
    except InvalidName:
        return
    assert name.isprintable()
    assert not name.isspace()
    assert len(name) <= MAX_NAME
    assert normalize_name(name) == name
    assert name_key(name) == name_key(unicodedata.normalize("NFD", name))


def test_case_makes_no_difference() -> None:
    assert name_key("STRASSE") == name_key("straße")
    assert name_key("Ada") == name_key("aDA") != name_key("adam")
