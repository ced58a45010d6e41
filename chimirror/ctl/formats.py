"""Formats numbers for people: sizes, counts, times.

What was measured is rounded. What was set, a limit, is not: it has the form in which
systemd reads it. Pure.
"""

from __future__ import annotations

import time

_SIZES = "KMGTPE"
_TIMES = (
    (86_400_000_000, "d"),
    (3_600_000_000, "h"),
    (60_000_000, "min"),
    (1_000_000, "s"),
    (1000, "ms"),
    (1, "us"),
)


def size(count: float) -> str:
    """Format a measured size: `512`, `1.5K`, `64M`. Whole numbers have no fraction."""
    number, unit = float(count), ""
    for larger in _SIZES:
        if number < 1000 or (number < 1024 and not unit):
            break
        number, unit = number / 1024, larger
    if number >= 9.95 or number.is_integer():
        return f"{number:.0f}{unit}"
    return f"{number:.1f}{unit}"


def exact_size(count: float) -> str:
    """Format the size of a limit as systemd reads it, unrounded: `256M`, `1536M`."""
    number, unit = int(count), ""
    for larger in _SIZES:
        if number % 1024 or not number:
            break
        number, unit = number // 1024, larger
    return f"{number}{unit}"


def number(count: float) -> str:
    """Format a count."""
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """Format a time in its two largest units: `3s`, `2min 5s`, `4h 1min`, `12d 3h`."""
    left = int(seconds)
    for unit, smaller, name, next_name in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if left >= unit:
            return f"{left // unit}{name} {left % unit // smaller}{next_name}"
    return f"{left}s"


def exact_duration(seconds: float) -> str:
    """Format the time of a limit, unrounded: `1h`, `1h 30min`, `500ms`."""
    left, parts = round(seconds * 1e6), []
    for usec, name in _TIMES:
        count, left = divmod(left, usec)
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts) or "0s"


def cpu(seconds: float) -> str:
    """Format CPU time: `0.12s`, and from one minute on as a duration."""
    return f"{seconds:.2f}s" if seconds < 60 else duration(seconds)


def local_time(usec: float) -> str:
    """Format a local time. The argument is in microseconds since 1970."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(usec / 1e6))


def short_time(usec: float) -> str:
    """Format a local time without its year."""
    return local_time(usec).partition("-")[2]
