"""One thing that check has looked at: what is so, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        advice: what to do about it; empty where nothing is to be done.
    """

    verdict: str
    about: str
    text: str
    advice: str = ""
