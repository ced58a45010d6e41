"""What an operator types, and reads: chimirror-ctl on a machine of the tests.

Ignorance: which test asks, and how the machine came to be (machine.py).
"""

from __future__ import annotations

import json
from typing import Any

from machine import Machine
from settling import until


def ctl(machine: Machine, *words: str) -> str:
    return machine.do("chimirror-ctl", *words)


def told(machine: Machine, *words: str) -> Any:
    return json.loads(ctl(machine, *words, "--json"))


def refused(machine: Machine, *words: str) -> tuple[int, str]:
    done = machine.run("chimirror-ctl", *words)
    return done.returncode, done.stdout


def open_all(machine: Machine, count: int) -> list[Any]:
    """The sessions, once each of them has told how it is."""
    found: list[Any] = []

    def ask() -> bool:
        found[:] = told(machine, "sessions")
        states = [one["state"] for one in found]
        return states == ["open"] * count

    until(ask, f"{count} open sessions")
    return found


def past(machine: Machine, *words: str) -> dict[str, Any]:
    """What history says, by session."""
    return {one["id"]: one for one in told(machine, "history", *words)}
