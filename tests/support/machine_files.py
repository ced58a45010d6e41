"""Files that an installation has written to a machine of systemd_machine."""

from __future__ import annotations

import os

from systemd_machine import Machine

WRITTEN = "/run/with-systemd.written"
# Files that a running system writes by itself, and apt(8) on a desktop.
THEIRS = ("/run", "/tmp", "/var/lib/PackageKit", "/var/log", "/var/tmp")


def files(machine: Machine) -> set[str]:
    """Return the files inside that do not exist on the host, its lower layer."""
    pruned = [word for path in THEIRS for word in ("-path", f".{path}", "-prune", "-o")]
    find = ("find", ".", "-mindepth", "1", *pruned)
    said = machine.do("env", "-C", WRITTEN, *find, "-print").splitlines()
    gone = machine.do("env", "-C", WRITTEN, *find, "-type", "c", "-print").splitlines()
    return {
        name
        for name in (line.removeprefix(".") for line in {*said} - {*gone})
        if "__pycache__" not in name and not name.startswith("/etc/.pwd")
        if not os.path.lexists(name)
    }


def removed(machine: Machine) -> str:
    """Return the files of the host that are no longer visible inside."""
    find = ("find", WRITTEN, "-type", "c", "-printf", "%P\\n")
    return "\n".join(sorted(machine.do(*find).splitlines()))
