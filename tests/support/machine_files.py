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


class MachineState:
    """What a machine has before an installation.

    Attributes:
        files: the files that it does not share with the host.
    """

    def __init__(self, machine: Machine) -> None:
        self.files = files(machine)
        self._removed = _removed(machine)
        self._accounts = _accounts(machine)

    def compare(self, machine: Machine, kept: set[str]) -> None:
        """Check that an installation has left these files of the operator alone.

        Args:
            machine: the same machine, without the installation.
            kept: the files. Their directories stay too.
        """
        now = files(machine)
        assert now - self.files == kept | {os.path.dirname(path) for path in kept}
        assert not self.files - now
        assert _removed(machine) == self._removed
        assert _accounts(machine) == self._accounts
        assert not machine.path("/run/chimirror").exists()
        listed = machine.do("systemctl", "list-units", "--all", "chimirror*")
        assert "\n0 loaded units" in listed


def _accounts(machine: Machine) -> str:
    return machine.do("getent", "passwd")


def _removed(machine: Machine) -> str:
    """Return the files of the host that are no longer visible inside."""
    find = ("find", WRITTEN, "-type", "c", "-printf", "%P\\n")
    return "\n".join(sorted(machine.do(*find).splitlines()))
