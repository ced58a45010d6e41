"""Runs chimirror-ctl on a systemd machine of the tests and reads its output.

Knows neither the tests nor how the machine was booted (systemd_machine).
"""

from __future__ import annotations

import json
from typing import Any

from processes import until
from systemd_machine import Machine


def ctl(machine: Machine, *words: str) -> str:
    return machine.do("chimirror-ctl", *words)


def ctl_json(machine: Machine, *words: str) -> Any:
    return json.loads(ctl(machine, *words, "--json"))


def ctl_failure(machine: Machine, *words: str) -> tuple[int, str]:
    done = machine.run("chimirror-ctl", *words)
    return done.returncode, done.stdout


def await_open_sessions(machine: Machine, count: int) -> list[Any]:
    """Wait until there are `count` sessions, all open, and return them."""
    found: list[Any] = []

    def ask() -> bool:
        found[:] = ctl_json(machine, "sessions")
        states = [one["state"] for one in found]
        return states == ["open"] * count

    until(ask, f"{count} open sessions")
    return found


def ctl_history(machine: Machine, *words: str) -> dict[str, Any]:
    """Return the rows of `chimirror-ctl history` by session id."""
    return {one["id"]: one for one in ctl_json(machine, "history", *words)}
