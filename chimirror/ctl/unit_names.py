"""The names of the units of sessions: the shipped ones, or an application's own.

An application has units of its own if the first line of its socket unit is MARK, which
`unit_files` writes. Follows systemd.unit(5) and systemd.slice(5).
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from chimirror.ctl.messages import CommandError
from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.paths import HostPaths

MARK = "# Copied by chimirror-ctl(1), add, from a unit that comes with chimirror.\n"
_SOCKET = re.compile(r"chimirror-(.+)\.socket")


class UnitNames(NamedTuple):
    """The names of the units of one application."""

    socket: str
    template: str
    slice: str

    @property
    def sample(self) -> str:
        """An instance of the template, since a template cannot be queried."""
        return self.template.replace("@", "@chimirror-ctl")

    @property
    def instances(self) -> str:
        """A pattern of all instances of the template."""
        return self.template.replace("@", "@*")

    @property
    def group(self) -> str:
        """The control group of the slice. Each dash in its name adds a level."""
        words = self.slice.removesuffix(".slice").split("-")
        steps = range(1, len(words) + 1)
        return "/".join("-".join(words[:step]) + ".slice" for step in steps)

    def has(self, unit: str) -> bool:
        """Return whether a unit is an instance of the template."""
        return unit.startswith(self.template.removesuffix(".service"))


def units(name: str) -> UnitNames:
    """Return the units of an application, or the shipped ones if the name is empty."""
    stem = f"chimirror-{name}" if name else "chimirror"
    return UnitNames(f"{stem}.socket", f"{stem}@.service", f"{stem}.slice")


def directory(host: HostPaths) -> str:
    """Return the directory of the units that an operator adds."""
    return f"{host.etc}/systemd/system"


def names(host: HostPaths) -> list[str]:
    """Return the applications that have units of their own."""
    try:
        files = os.listdir(directory(host))
    except OSError:
        return []
    found = (_SOCKET.fullmatch(file) for file in sorted(files))
    return [
        match[1]
        for match in found
        if match and _is_copied(f"{directory(host)}/{match[0]}")
    ]


def _is_copied(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline() == MARK
    except OSError:
        return False  # a dangling link, or this user may not read it


def require(host: HostPaths, name: str | None) -> None:
    """Raise CommandError if an application has no units of its own.

    Args:
        name: The application, or None for the shipped units, which always pass.
    """
    if name is not None and name not in names(host):
        text = f"no application {escape(name)} has units of its own; chimirror-ctl add"
        text += (
            " --own-socket creates them; a file of chimirror-apps(5) has max-sessions"
        )
        raise CommandError(os.EX_NOINPUT, text)
