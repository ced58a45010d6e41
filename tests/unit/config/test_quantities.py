"""Times, sizes, counts, rates and modes: good texts, and errors for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.config import quantities

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 20),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("250 us", 0.00025),
        ("2min", 120),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        (" 1h 30 ", 3630),
        ("2d 1w", 777600),
        ("1M", 2629800),
        ("1y", 31557600),
        ("0.25s", 0.25),
    ],
)
def test_times_are_those_of_systemd(text: str, seconds: float) -> None:
    assert quantities.parse_timeout(text) == pytest.approx(seconds)
    assert quantities.parse_grace(text) == pytest.approx(seconds)
    assert quantities.parse_deadline(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["0", "off", "infinity", "0s", "0.0"])
def test_timeouts_can_be_off(text: str) -> None:
    assert quantities.parse_timeout(text) is None
    with pytest.raises(ValueError, match=r"leaves no time|is not a time"):
        quantities.parse_deadline(text)


def test_grace_can_be_zero() -> None:
    assert quantities.parse_grace("0") == 0


BAD_TIMES = ["", " ", "x", "20x", "-1", "1.", ".5", "1..5", "1 30 s", "1e3", "٣", "1S"]


@pytest.mark.parametrize("text", [*BAD_TIMES, "nan", "inf", "1m s", "1_0", "s"])
@pytest.mark.parametrize(
    "parse",
    [quantities.parse_timeout, quantities.parse_deadline, quantities.parse_grace],
)
def test_texts_that_are_no_time(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; write 20, 500ms, 2min or"):
        parse(text)


def test_long_texts_are_no_times() -> None:
    """The work is quadratic in the length of the text."""
    assert quantities.parse_timeout("1us" * 300) == pytest.approx(0.0003)
    with pytest.raises(ValueError, match='…" is not a time') as caught:
        quantities.parse_timeout("1us" * 400)
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize("text", ["101y", "9" * 400, "99y 99y"])
def test_times_have_a_maximum(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 100 years"):
        quantities.parse_timeout(text)


@given(st.text())
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    parsers = (
        quantities.parse_timeout,
        quantities.message_size,
        quantities.limit,
        quantities.rate,
        quantities.mode,
    )
    for parse in parsers:
        said = ""
        try:
            parse(text)
        except ValueError as error:
            said = str(error)
        assert not said or "write " in said


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("65536", 65536), ("64K", 65536), ("1M", 1 << 20), ("1G", 1 << 30)],
)
def test_sizes(text: str, size: int) -> None:
    assert quantities.message_size(text) == size


def test_sizes_of_output_messages() -> None:
    assert quantities.output_message_size("1K") == 1024
    assert quantities.output_message_size("32K") == 32768
    with pytest.raises(ValueError, match="write a size from 1K to 1G"):
        quantities.output_message_size("1023")


@pytest.mark.parametrize("text", ["", "K", "64k", "64KB", "1.5M", "-1", "1 M", "off"])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write 65536, 64K, 1M or 1G"):
        quantities.message_size(text)


@pytest.mark.parametrize("text", ["0", "2G", "1073741825"])
def test_sizes_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="is out of range; write a size from 1 to 1G"):
        quantities.message_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10", 10),
        ("10/s", 10),
        ("90/min", 1.5),
        ("36/h", 0.01),
        ("0.5", 0.5),
        ("off", None),
    ],
)
def test_rates(text: str, rate: float | None) -> None:
    assert quantities.rate(text) == (None if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("text", ["", "0", "10/", "10/d", "x/s", "-1", "1/s/s"])
def test_texts_that_are_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate; write 10, 10/s"):
        quantities.rate(text)


def test_counts() -> None:
    assert quantities.count("1") == 1
    assert quantities.limit("7") == 7
    assert quantities.limit("off") is None
    assert quantities.workers("1024") == 1024
    for text in ("0", "-1", "", "x", "1.5", "9" * 30):
        for parse in (quantities.count, quantities.limit, quantities.workers):
            with pytest.raises(ValueError, match="write"):
                parse(text)
    with pytest.raises(ValueError, match="is not from 1 to 1024"):
        quantities.workers("1025")


def test_memory_of_a_session() -> None:
    assert quantities.memory("1048576") == quantities.memory("1M") == 1 << 20
    assert quantities.memory("65536G") == 1 << 46
    assert quantities.memory("off") is quantities.memory("infinity") is None
    for text in ("", "M", "1.5G", "-1", "1T", "1 M", "64m"):
        with pytest.raises(ValueError, match="is not a size; write 512M, 2G or off"):
            quantities.memory(text)
    for text in ("1023K", "0", "65537G"):
        with pytest.raises(ValueError, match=r"out of range; .* from 1M to 65536G"):
            quantities.memory(text)


def test_weights() -> None:
    assert [quantities.weight(text) for text in ("1", "10000", "off")] == [
        *(1, 10000, None)
    ]
    for text in ("", "0", "10001", "x", "1.5"):
        with pytest.raises(ValueError, match="is not from 1 to 10000; write 50, 200"):
            quantities.weight(text)


def test_modes() -> None:
    assert quantities.mode("0600") == 0o600
    assert quantities.mode("660") == 0o660
    for text in ("", "6", "0o600", "1777", "0888", "rw-", "00600"):
        with pytest.raises(ValueError, match="is not a file mode; write it in octal"):
            quantities.mode(text)


@pytest.mark.parametrize(
    ("texts", "found"),
    [([], ()), (["0"], (0,)), (["1000,1001", "5"], (1000, 1001, 5))],
)
def test_uids(texts: list[str], found: tuple[int, ...]) -> None:
    assert quantities.uids(texts) == found


@pytest.mark.parametrize("text", ["", "root", "-1", "1.5", "4294967295", "1,,2"])
def test_texts_that_are_no_uid(text: str) -> None:
    with pytest.raises(ValueError, match="is not a user id; write 1000"):
        quantities.uids([text])


def test_user_ranges() -> None:
    assert quantities.user_range("100000-104095") == (100000, 104095)
    assert quantities.user_range("7-7") == (7, 7)


@pytest.mark.parametrize(
    "text", ["", "5", "5-", "-5", "7-5", "0-5", "a-b", "5-4294967295", "1-2-3"]
)
def test_texts_that_are_no_user_range(text: str) -> None:
    with pytest.raises(ValueError, match="write 100000-104095"):
        quantities.user_range(text)
