"""Reads logs of JSON: what programs write to standard error in a file or a pipe."""

from __future__ import annotations

import json


def messages(log: str) -> list[str]:
    """Return the messages of a log. Fails if a line is not a JSON object."""
    return [json.loads(line)["MESSAGE"] for line in log.splitlines()]


def message(log: str) -> str:
    """Return the only message of a log."""
    (only,) = messages(log)
    return only
