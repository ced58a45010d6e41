"""Reads processes from /proc: their owners, files and process groups.

Serves sessions that have no control group of their own. Follows proc(5). Knows nothing
of sessions.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chimirror.ctl.cgroups import ResourceUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessStat(NamedTuple):
    """Fields of /proc/PID/stat."""

    pid: int
    name: str
    parent: int
    group: int
    cpu: float  # seconds
    tasks: int
    memory: int  # bytes


def stat(proc: str, pid: int) -> ProcessStat | None:
    """Return a process, or None if it has ended."""
    head, _, tail = read(f"{proc}/{pid}/stat").rpartition(b")")
    arguments = tail.split()
    if len(arguments) < 22:
        return None
    return ProcessStat(
        pid,
        head.partition(b"(")[2].decode("utf-8", "backslashreplace"),
        int(arguments[1]),
        int(arguments[2]),
        (int(arguments[11]) + int(arguments[12])) / TICKS,
        int(arguments[17]),
        int(arguments[21]) * PAGE,
    )


def groups(proc: str, group_ids: Container[int]) -> dict[int, list[ProcessStat]]:
    """Return the members of process groups. Reads every process of the machine once."""
    found: dict[int, list[ProcessStat]] = {}
    for name in os.listdir(proc):
        member = stat(proc, int(name)) if name.isdigit() else None
        if member is not None and member.group in group_ids:
            found.setdefault(member.group, []).append(member)
    return found


def usage(members: list[ProcessStat]) -> ResourceUsage:
    """Return the total usage of processes. Memory that they share counts for each."""
    return ResourceUsage(
        sum(process.cpu for process in members),
        sum(process.memory for process in members),
        sum(process.tasks for process in members),
    )


def proportional(proc: str, pid: int) -> int:
    """Return bytes of memory: of what processes share, the part of this one.

    Returns 0 if the process has ended or access is denied.
    """
    for line in read(f"{proc}/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def is_chimirror_process(proc: str, pid: int, uid: int) -> bool:
    """Return whether a process is a chimirror program that this user runs."""
    try:
        owner = os.stat(f"{proc}/{pid}").st_uid
    except OSError:
        return False
    return owner == uid and b"chimirror" in read(f"{proc}/{pid}/cmdline")


def open_files(proc: str) -> set[tuple[int, int]] | None:
    """Return device and inode of each file that chimirror's processes have open.

    Returns None if this user may not read all of these processes.
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
            continue  # the process has ended
        for fd in numbers:
            try:
                status = os.stat(f"{proc}/{name}/fd/{fd}")
            except OSError:
                continue  # the descriptor has been closed
            found.add((status.st_dev, status.st_ino))
    return found


def arguments(proc: str, pid: int) -> list[str]:
    """Return the arguments of a process, none if it has ended."""
    text = read(f"{proc}/{pid}/cmdline").decode("utf-8", "backslashreplace")
    return text.rstrip("\0").split("\0") if text else []


def command(proc: str, pid: int) -> str:
    """Return the arguments of a process as one line."""
    return " ".join(arguments(proc, pid))


def environment(proc: str, pid: int) -> dict[str, str]:
    """Return the environment with which a process was started."""
    pairs = read(f"{proc}/{pid}/environ").decode("utf-8", "replace").split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def read(path: str) -> bytes:
    """Read a file in /proc.

    Returns no bytes if the process has ended or access is denied.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
