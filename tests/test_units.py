"""Times, sizes, counts, rates and modes: what is read, and what is said of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror import units

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
    assert units.timeout(text) == pytest.approx(seconds)
    assert units.grace(text) == pytest.approx(seconds)
    assert units.deadline(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["0", "off", "infinity", "0s", "0.0"])
def test_timeouts_can_be_off(text: str) -> None:
    assert units.timeout(text) is None
    with pytest.raises(ValueError, match=r"leaves no time|is not a time"):
        units.deadline(text)


def test_grace_can_be_nothing() -> None:
    assert units.grace("0") == 0


BAD_TIMES = ["", " ", "x", "20x", "-1", "1.", ".5", "1..5", "1 30 s", "1e3", "٣", "1S"]


@pytest.mark.parametrize("text", [*BAD_TIMES, "nan", "inf", "1m s", "1_0", "s"])
@pytest.mark.parametrize("parse", [units.timeout, units.deadline, units.grace])
def test_what_is_no_time(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; write 20, 500ms, 2min or"):
        parse(text)


@pytest.mark.parametrize("text", ["101y", "9" * 400, "99y 99y"])
def test_times_end(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 100 years"):
        units.timeout(text)


@given(st.text())
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    parsers = (units.timeout, units.message_size, units.limit, units.rate, units.mode)
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
    assert units.message_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "64k", "64KB", "1.5M", "-1", "1 M", "off"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write 65536, 64K, 1M or 1G"):
        units.message_size(text)


@pytest.mark.parametrize("text", ["0", "2G", "1073741825"])
def test_sizes_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="is out of range; write a size from 1 to 1G"):
        units.message_size(text)


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
    assert units.rate(text) == (None if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("text", ["", "0", "10/", "10/d", "x/s", "-1", "1/s/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate; write 10, 10/s"):
        units.rate(text)


def test_counts() -> None:
    assert units.count("1") == 1
    assert units.limit("7") == 7
    assert units.limit("off") is None
    assert units.workers("1024") == 1024
    for text in ("0", "-1", "", "x", "1.5", "9" * 30):
        for parse in (units.count, units.limit, units.workers):
            with pytest.raises(ValueError, match="write"):
                parse(text)
    with pytest.raises(ValueError, match="is not from 1 to 1024"):
        units.workers("1025")


def test_modes() -> None:
    assert units.mode("0600") == 0o600
    assert units.mode("660") == 0o660
    for text in ("", "6", "0o600", "1777", "0888", "rw-", "00600"):
        with pytest.raises(ValueError, match="is not a file mode; write it in octal"):
            units.mode(text)


@pytest.mark.parametrize(
    ("texts", "found"),
    [([], ()), (["0"], (0,)), (["1000,1001", "5"], (1000, 1001, 5))],
)
def test_uids(texts: list[str], found: tuple[int, ...]) -> None:
    assert units.uids(texts) == found


@pytest.mark.parametrize("text", ["", "root", "-1", "1.5", "4294967295", "1,,2"])
def test_uids_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a user id; write 1000"):
        units.uids([text])


def test_user_ranges() -> None:
    assert units.user_range("100000-104095") == (100000, 104095)
    assert units.user_range("7-7") == (7, 7)


@pytest.mark.parametrize(
    "text", ["", "5", "5-", "-5", "7-5", "0-5", "a-b", "5-4294967295", "1-2-3"]
)
def test_no_user_ranges(text: str) -> None:
    with pytest.raises(ValueError, match="write 100000-104095"):
        units.user_range(text)
