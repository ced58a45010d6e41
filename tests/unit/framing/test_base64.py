"""Base64: small and large pieces follow the same RFC 4648."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.framing import json_framing

SIZES = (
    0,
    1,
    2,
    3,
    4,
    json_framing.MIN_PYBASE64 - 1,
    json_framing.MIN_PYBASE64,
    json_framing.MIN_PYBASE64 + 1,
    json_framing.MIN_PYBASE64 + 2,
    65536,
)
WRONG = (
    "=",
    "A",
    "AA",
    "AAA",
    "AA=",
    "AAAAA",
    "AAA==",
    "AA=A",
    "A===",
    "====",
    "AAAA=",
    "AAAA====",
    "AA==AAAA",
    "AA==\n",
    "AAAA\n",
    "AAAA\r\nAAAA",
    " AAAA",
    "AAAA ",
    "AA AA",
    "AA-_",
    "AA\0A",
    "AAAä",
    "AA\ud800A",
    "AAAA\u3000",
)


@pytest.mark.parametrize("size", SIZES)
def test_round_trip(size: int) -> None:
    data = bytes(i * 31 % 256 for i in range(size))
    text = json_framing.encode_base64(data)
    assert text == base64.b64encode(data)
    assert json_framing.decode_base64(text) == data
    assert json_framing.decode_base64(text.decode()) == data


@pytest.mark.parametrize("wrong", WRONG)
def test_junk_is_refused(wrong: str) -> None:
    for text in (wrong, "AAAA" * json_framing.MIN_PYBASE64 + wrong):
        with pytest.raises(ValueError):
            json_framing.decode_base64(text)


ALPHABET = "AB/+09az=-_ \n\r\t\0é"


@given(st.text(ALPHABET, max_size=12))
@example("AB==")
@example("AAB=")
@example("AAAA=")
@example("AAAA====")
def test_both_decoders_agree(text: str) -> None:
    def outcome(start: str) -> bytes | None:
        try:
            return json_framing.decode_base64(start + text)[-9:]
        except ValueError:
            return None

    whole = "AAAA" * json_framing.MIN_PYBASE64
    assert outcome("AAAAAAAAAAAA") == outcome(whole)
