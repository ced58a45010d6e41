"""Processes as proc(5) shows them: whose they are, and what a process group uses.

For sessions that have no control group of their own. Knows no session.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chimirror.ctl.cgroups import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """Of /proc/PID/stat."""

    pid: int
    name: str
    parent: int
    group: int
    cpu: float  # seconds
    tasks: int
    memory: int  # bytes


def stat(proc: str, pid: int) -> Stat | None:
    """A process; None for one that has gone."""
    head, _, tail = read(f"{proc}/{pid}/stat").rpartition(b")")
    words = tail.split()
    if len(words) < 22:
        return None
    return Stat(
        pid,
        head.partition(b"(")[2].decode("utf-8", "backslashreplace"),
        int(words[1]),
        int(words[2]),
        (int(words[11]) + int(words[12])) / TICKS,
        int(words[17]),
        int(words[21]) * PAGE,
    )


def groups(proc: str, wanted: Container[int]) -> dict[int, list[Stat]]:
    """The members of process groups, in one sweep over all processes."""
    found: dict[int, list[Stat]] = {}
    for name in os.listdir(proc):
        member = stat(proc, int(name)) if name.isdigit() else None
        if member is not None and member.group in wanted:
            found.setdefault(member.group, []).append(member)
    return found


def usage(members: list[Stat]) -> Usage:
    """What they use together; memory that they share counts for each."""
    return Usage(
        sum(one.cpu for one in members),
        sum(one.memory for one in members),
        sum(one.tasks for one in members),
    )


def is_ours(proc: str, pid: int, uid: int) -> bool:
    """Whether a process is one of chimirror's and of this user's."""
    try:
        owner = os.stat(f"{proc}/{pid}").st_uid
    except OSError:
        return False
    return owner == uid and b"chimirror" in read(f"{proc}/{pid}/cmdline")


def files(proc: str) -> set[tuple[int, int]] | None:
    """Device and inode of what chimirror's processes have open.

    None where we may not look at all of them.
    """
    found = set()
    for name in filter(str.isdigit, os.listdir(proc)):
        if b"chimirror" not in read(f"{proc}/{name}/cmdline"):
            continue
        try:
            numbers = os.listdir(f"{proc}/{name}/fd")
        except PermissionError:
            return None
        except OSError:
            continue  # it has gone
        for fd in numbers:
            try:
                status = os.stat(f"{proc}/{name}/fd/{fd}")
            except OSError:
                continue  # it has been closed
            found.add((status.st_dev, status.st_ino))
    return found


def words(proc: str, pid: int) -> list[str]:
    """The command line; nothing of a process that has gone."""
    text = read(f"{proc}/{pid}/cmdline").decode("utf-8", "backslashreplace")
    return text.rstrip("\0").split("\0") if text else []


def command(proc: str, pid: int) -> str:
    """The same as one line."""
    return " ".join(words(proc, pid))


def variables(proc: str, pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    pairs = read(f"{proc}/{pid}/environ").decode("utf-8", "replace").split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def read(path: str) -> bytes:
    """A file of a process, which may be going, or not for our eyes."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
