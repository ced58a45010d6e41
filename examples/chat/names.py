"""Names of users: what is a name, and which names are equal.

A name has up to 32 letters, digits, combining marks and `-_.`, in the normal form NFKC.
Names that differ only in case are equal. Letters of two scripts can look the same, so
a name proves nothing: fingerprints do.
"""

from __future__ import annotations

import re
import unicodedata

from chat.limits import MAX_NAME

# Marks are drawn over the letter before them, and many over other lines.
MARKED_LETTERS = re.compile(r"[LN](M{0,2}[LNP])*M{0,2}")
PUNCTUATION = "-_."


class InvalidName(ValueError):
    """What is wrong with a name. The text is fit for a terminal."""


def normalize_name(text: str) -> str:
    """Return the form of a name that is sent and shown.

    Raises:
        InvalidName: for a text that is no name.
    """
    if len(text) > 4 * MAX_NAME:  # normalizing shortens a text by less
        raise InvalidName(f"a name has at most {MAX_NAME} characters")
    name = unicodedata.normalize("NFKC", text.strip())
    if not name:
        raise InvalidName("a name has at least one character")
    if len(name) > MAX_NAME:
        raise InvalidName(f"a name has at most {MAX_NAME} characters")
    if not MARKED_LETTERS.fullmatch("".join(map(kind_of, name))):
        raise InvalidName(
            "a name begins with a letter or digit, and has letters, digits and -_."
        )
    return name


def kind_of(character: str) -> str:
    """Return L for a letter, N for a digit, M for a mark, P for -_. or X."""
    if character in PUNCTUATION:
        return "P"
    kind = unicodedata.category(character)[0]
    return kind if kind in "LNM" else "X"


def name_key(name: str) -> str:
    """Return a text that is the same for equal names."""
    return unicodedata.normalize("NFKC", name.casefold())
