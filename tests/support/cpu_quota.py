"""Reads from the kernel how the CPU quota of chimirror.slice is enforced.

Works on the cgroups of a `Machine` (systemd_machine), v1 and v2.
"""

from __future__ import annotations

from pathlib import Path

from processes import until
from systemd_machine import Machine

SPINNER = "while True: pass\n"

TOLERANCE = 0.2


def controller(machine: Machine, name: str) -> Path:
    """Return the cgroup of the slice in the hierarchy of a controller."""
    tree = "" if machine.cgroups == "unified" else f"/{name}"
    return machine.path(f"/sys/fs/cgroup{tree}/chimirror.slice")


def enforced(machine: Machine, least: int) -> tuple[int, int, float]:
    """Return the growth of `bandwidth` over this number of periods, or more.

    A tenth of them are throttled. Beside busy processes, the sessions may use less than
    their quota for any number of periods.
    """
    until(lambda: bandwidth(machine)[1] > 0, "a first throttling")
    before = bandwidth(machine)

    def ask() -> bool:
        periods, throttled, _ = bandwidth(machine)
        is_throttled = throttled >= before[1] + least // 10
        return is_throttled and periods >= before[0] + least

    until(ask, f"{least} periods")
    after = bandwidth(machine)
    return after[0] - before[0], after[1] - before[1], after[2] - before[2]


def bandwidth(machine: Machine) -> tuple[int, int, float]:
    """Return the periods, the throttled periods, and the CPU time in seconds."""
    lines = (controller(machine, "cpu") / "cpu.stat").read_text().splitlines()
    found = {name: int(number) for name, number in map(str.split, lines)}
    # CPU time is counted in each v2 group, even if the controller belongs to v1.
    words = (machine.slice() / "cpu.stat").read_text().split()
    spent = int(words[words.index("usage_usec") + 1]) / 1e6
    return found["nr_periods"], found["nr_throttled"], spent
