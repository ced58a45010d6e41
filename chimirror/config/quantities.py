"""Reads numbers as people write them: times, sizes, counts, rates, modes.

Each function takes the text of one option and returns its value. A ValueError is one
line, which quotes the text and says how to correct it. Times follow systemd.time(7),
and sizes have base 1024, as in systemd. Knows neither the options nor the programs.
Imports nothing: the bridge loads this module on the way to its first byte.
"""

from __future__ import annotations

_YEAR = 31557600.0
_MAX_TIME = 100 * _YEAR
_MAX_TIME_TEXT = 1000  # characters: the work is quadratic
_SECONDS = (
    (0.000001, ("us", "usec", "µs", "μs")),
    (0.001, ("ms", "msec")),
    (1.0, ("", "s", "sec", "second", "seconds")),
    (60.0, ("m", "min", "minute", "minutes")),
    (3600.0, ("h", "hr", "hour", "hours")),
    (86400.0, ("d", "day", "days")),
    (604800.0, ("w", "week", "weeks")),
    (_YEAR / 12, ("M", "month", "months")),
    (_YEAR, ("y", "year", "years")),
)
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PER = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
_NO_UID = (1 << 32) - 1  # (uid_t) -1
_MAX_MESSAGE = 1 << 30
_MIN_OUTPUT_MESSAGE = 1 << 10  # holds every message other than stdout and stderr
_MIN_MEMORY = 1 << 20  # the arguments and the environment need a quarter of it
_MAX_MEMORY = 1 << 46
_MAX_COUNT = 10**9
_OFF = ("off", "infinity")
_DIGITS = "0123456789"


def parse_timeout(text: str) -> float | None:
    """Read a time in seconds. Returns None for ``0``, ``off`` and ``infinity``."""
    if text in _OFF:
        return None
    return _time(text, "write 20, 500ms, 2min or off") or None


def parse_deadline(text: str) -> float:
    """Read a time in seconds that cannot be switched off and is not 0."""
    seconds = parse_grace(text)
    if not seconds:
        raise ValueError(f'"{text}" leaves no time at all; write 20, 500ms or 2min')
    return seconds


def parse_grace(text: str) -> float:
    """Read a time in seconds that cannot be switched off. 0 means at once."""
    return _time(text, "write 20, 500ms, 2min or 0")


def _time(text: str, hint: str) -> float:
    total, rest = 0.0, text.strip(" ")
    if len(text) > _MAX_TIME_TEXT:
        raise ValueError(f'"{text[:_MAX_TIME_TEXT]}…" is not a time; {hint}')
    while True:
        number, rest = _split(rest)
        unit, rest = _until_digit(rest)
        factor = _factor(unit)
        if not _is_decimal(number) or not factor or (rest and not unit):
            raise ValueError(f'"{text}" is not a time; {hint}')
        total += float(number) * factor
        if total > _MAX_TIME:
            raise ValueError(f'"{text}" is longer than 100 years; {hint}')
        if not rest:
            return total


def _factor(unit: str) -> float:
    for factor, names in _SECONDS:
        if unit in names:
            return factor
    return 0.0


def _split(text: str) -> tuple[str, str]:
    """Split the text after the number at its beginning."""
    rest = text.lstrip(_DIGITS + ".")
    return text[: len(text) - len(rest)], rest.lstrip(" ")


def _until_digit(text: str) -> tuple[str, str]:
    for index, character in enumerate(text):
        if character in _DIGITS:
            return text[:index].rstrip(" "), text[index:]
    return text.rstrip(" "), ""


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _is_decimal(text: str) -> bool:
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    shaped = bool(whole) and bool(fraction) == bool(point)
    return shaped and digits.isascii() and digits.isdigit()


def message_size(text: str) -> int:
    """Read a size in bytes, from 1 to 1G."""
    return _size(text, 1, "1")


def output_message_size(text: str) -> int:
    """Read a size in bytes, from 1K to 1G."""
    return _size(text, _MIN_OUTPUT_MESSAGE, "1K")


def _size(text: str, least: int, least_text: str) -> int:
    number, unit = _split(text)
    if not _is_integer(number) or unit not in _BYTES or " " in text:
        raise ValueError(f'"{text}" is not a size; write 65536, 64K, 1M or 1G')
    size = int(number) * _BYTES[unit]
    if not least <= size <= _MAX_MESSAGE:
        raise ValueError(
            f'"{text}" is out of range; write a size from {least_text} to 1G'
        )
    return size


def count(text: str) -> int:
    """Read a whole number from 1 up."""
    if not _is_integer(text) or not 1 <= int(text) <= _MAX_COUNT:
        raise ValueError(f'"{text}" is not a count; write a whole number from 1 up')
    return int(text)


def limit(text: str) -> int | None:
    """Read a count. Returns None for ``off`` and ``infinity``."""
    if text in _OFF:
        return None
    try:
        return count(text)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None


def memory(text: str) -> int | None:
    """Read a size of memory in bytes. Returns None for ``off`` and ``infinity``."""
    if text in _OFF:
        return None
    number, unit = (text[:-1], text[-1:]) if text[-1:] in "KMG" else (text, "")
    if not _is_integer(number):
        raise ValueError(f'"{text}" is not a size; write 512M, 2G or off')
    size = int(number) * _BYTES[unit]
    if not _MIN_MEMORY <= size <= _MAX_MEMORY:
        raise ValueError(f'"{text}" is out of range; write a size from 1M to 65536G')
    return size


def weight(text: str) -> int | None:
    """Read a weight, from 1 to 10000. Returns None for ``off`` and ``infinity``."""
    if text in _OFF:
        return None
    if not _is_integer(text) or not 1 <= int(text) <= 10_000:
        raise ValueError(f'"{text}" is not from 1 to 10000; write 50, 200 or off')
    return int(text)


def pending(text: str) -> int:
    """Read a number of connections, from 2 to 1000000."""
    if not _is_integer(text) or not 2 <= int(text) <= 1_000_000:
        raise ValueError(f'"{text}" is not from 2 to 1000000; write 512')
    return int(text)


def workers(text: str) -> int:
    """Read a number of processes, from 1 to 1024."""
    if not _is_integer(text) or not 1 <= int(text) <= 1024:
        raise ValueError(f'"{text}" is not from 1 to 1024; write 2, or leave it out')
    return int(text)


def spares(text: str) -> int:
    """Read a number of processes that wait, from 0 to 1024."""
    if not _is_integer(text) or int(text) > 1024:
        raise ValueError(f'"{text}" is not from 0 to 1024; write 4')
    return int(text)


def rate(text: str) -> float | None:
    """Read a rate from ``N``, ``N/s``, ``N/min`` or ``N/h``, or ``off``.

    Returns:
        Events per second. None for ``off`` and ``infinity``.
    """
    if text in _OFF:
        return None
    number, slash, unit = text.partition("/")
    known = unit in _PER and bool(unit) == bool(slash)
    if not known or not _is_decimal(number) or not 0 < float(number) <= _MAX_COUNT:
        raise ValueError(
            f'"{text}" is not a rate; write 10, 10/s, 90/min, 500/h or off'
        )
    return float(number) / _PER[unit]


def mode(text: str) -> int:
    """Read the permission bits of a file, in octal."""
    octal = text.isascii() and text.isdigit() and len(text) in (3, 4)
    if not octal or text.strip("01234567") or int(text, 8) > 0o777:
        raise ValueError(f'"{text}" is not a file mode; write it in octal: 0600, 0660')
    return int(text, 8)


def uids(texts: list[str]) -> tuple[int, ...]:
    """Read user ids from ``1000`` or ``1000,1001``."""
    return _ids(texts, "a user id")


def gids(texts: list[str]) -> tuple[int, ...]:
    """Read group ids from ``100`` or ``100,1000``."""
    return _ids(texts, "a group id")


def _ids(texts: list[str], noun: str) -> tuple[int, ...]:
    found: list[int] = []
    for text in ",".join(texts).split(",") if texts else ():
        if not _is_integer(text) or int(text) >= _NO_UID:
            raise ValueError(f'"{text}" is not {noun}; write 1000')
        found.append(int(text))
    return tuple(found)


def user_range(text: str) -> tuple[int, int]:
    """Read the first and the last of a range of user ids, ``100000-104095``."""
    first, _, last = text.partition("-")
    if not (_is_integer(first) and _is_integer(last)):
        raise ValueError(f'"{text}" is no range of user ids; write 100000-104095')
    if not 0 < int(first) <= int(last) < _NO_UID:
        raise ValueError(f'"{text}" is not from 1 up; write 100000-104095')
    return int(first), int(last)
