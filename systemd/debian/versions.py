#!/usr/bin/python3
"""versions activate | remove: the versions of chimirror that this host runs.

A running process imports modules when it first needs them. So an upgrade must not
replace the files of a running version. dpkg(1) replaces those of `master`, which no
process uses. `activate` makes a copy of it by hard links, with compiled modules, in a
directory of its own, and then lets the link `current` point to it. The programs in
/usr/bin are reached through this link. They name the directory of their version.

A copy without a process of its version is removed by the next `activate`. A process may
use a copy if it maps a library of it, or if it is a program of chimirror that was
started before the next version became current. `remove` removes all copies.
"""

import compileall
import os
import shutil
import sys
from pathlib import Path

TOP = Path("/usr/lib/chimirror")
PROC = Path("/proc")
START_TIME = 19  # in /proc/PID/stat, counted after the name: proc(5)
MARK = "replaced"  # in a copy: the boot, and the time since then in ticks


def activate(top: Path, proc: Path) -> None:
    """Make a copy of the master and let `current` point to it."""
    version = (top / "master" / "version").read_text().strip()
    current = top / "current"
    before = os.readlink(current) if current.is_symlink() else None
    if not (top / version).is_dir():
        copy(top / "master", top / version)
    if before != version:
        if before is not None and (top / before).is_dir():
            mark_as_replaced(top / before, proc)
        (top / version / MARK).unlink(missing_ok=True)
        point(current, version)
    for each in copies(top):
        if each.name != version and not is_used(each, proc):
            shutil.rmtree(each)


def remove(top: Path) -> None:
    """Remove all copies."""
    (top / "current").unlink(missing_ok=True)
    for each in copies(top):
        shutil.rmtree(each)


def copies(top: Path) -> list[Path]:
    """Return the directories of versions, and of copies that were interrupted."""
    return [
        each
        for each in sorted(top.iterdir())
        if each.is_dir() and not each.is_symlink() and each.name != "master"
    ]


def copy(master: Path, to: Path) -> None:
    """Copy by hard links, compile the modules, and then give the copy its name."""
    new = to.with_name(f"{to.name}.new")
    if new.exists():
        shutil.rmtree(new)
    shutil.copytree(master, new, symlinks=True, copy_function=link)
    compileall.compile_dir(new, quiet=1, stripdir=str(new), prependdir=str(to))
    new.rename(to)


def link(source: str, to: str) -> None:
    """Link a file, or copy it where the file system has no hard links."""
    try:
        os.link(source, to, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, to, follow_symlinks=False)


def point(current: Path, version: str) -> None:
    """Replace the link at once: no start of a program misses it."""
    new = current.with_name("current.new")
    new.unlink(missing_ok=True)
    new.symlink_to(version)
    new.rename(current)


def boot_id(proc: Path) -> str:
    """Return the identifier of this boot. Empty where no proc(5) is mounted."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""


def mark_as_replaced(copy: Path, proc: Path) -> None:
    """Write down when a copy was replaced, unless no process can be running."""
    if not boot_id(proc):
        return
    seconds = float((proc / "uptime").read_text().split()[0])
    ticks = int((seconds + 1) * os.sysconf("SC_CLK_TCK"))
    (copy / MARK).write_text(f"{boot_id(proc)} {ticks}\n")


def is_used(copy: Path, proc: Path) -> bool:
    """Return whether a process may still import modules of a copy."""
    try:
        boot, ticks = (copy / MARK).read_text().split()
    except FileNotFoundError:  # never current, or an interrupted copy
        return False
    if boot != boot_id(proc):  # no process has survived
        return False
    return any(
        uses(process, copy, int(ticks))
        for process in proc.iterdir()
        if process.name.isdecimal()
    )


def uses(process: Path, copy: Path, ticks: int) -> bool:
    """Return whether one process may use a copy that was replaced at this time."""
    try:
        stat = (process / "stat").read_bytes()
        maps = (process / "maps").read_bytes()
    except OSError:  # it has ended
        return False
    name = stat.partition(b"(")[2].rpartition(b")")[0]
    started = int(stat.rpartition(b")")[2].split()[START_TIME])
    ours = name.startswith(b"chimirror-") and started <= ticks
    return ours or f" {copy}/".encode() in maps


def main() -> None:
    """Do what the only argument says."""
    if sys.argv[1:] == ["activate"]:
        activate(TOP, PROC)
    elif sys.argv[1:] == ["remove"]:
        remove(TOP)
    else:
        sys.exit("Usage: versions activate | remove")


if __name__ == "__main__":
    main()
