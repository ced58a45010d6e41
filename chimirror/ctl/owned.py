"""The units that sessions have: the shipped ones, or those of one application.

Which applications have units of their own is seen by the first line of their sockets,
which `ownunits` has written. systemd.unit(5), systemd.slice(5).
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from chimirror.ctl.failure import Failure
from chimirror.system.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.host import Host

MARK = "# Copied by chimirror-ctl(1), add, from a unit that comes with chimirror.\n"
_SOCKET = re.compile(r"chimirror-(.+)\.socket")


class Units(NamedTuple):
    """The names of the units of one application."""

    socket: str
    template: str
    slice: str

    @property
    def sample(self) -> str:
        """Any instance does to see what the template says."""
        return self.template.replace("@", "@chimirror-ctl")

    @property
    def group(self) -> str:
        """The control group of the slice: a dash is a step down."""
        words = self.slice.removesuffix(".slice").split("-")
        steps = range(1, len(words) + 1)
        return "/".join("-".join(words[:step]) + ".slice" for step in steps)

    def has(self, unit: str) -> bool:
        """Whether it is an instance of the template."""
        return unit.startswith(self.template.removesuffix(".service"))


def units(name: str) -> Units:
    """Those of an application; the shipped ones, if the name is empty."""
    stem = f"chimirror-{name}" if name else "chimirror"
    return Units(f"{stem}.socket", f"{stem}@.service", f"{stem}.slice")


def place(host: Host) -> str:
    """Where an operator's units are."""
    return f"{host.etc}/systemd/system"


def names(host: Host) -> list[str]:
    """The applications that have units of their own."""
    try:
        files = os.listdir(place(host))
    except OSError:
        return []
    found = (_SOCKET.fullmatch(file) for file in sorted(files))
    return [one[1] for one in found if one and _is_ours(f"{place(host)}/{one[0]}")]


def _is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline() == MARK
    except OSError:
        return False  # a link to nowhere, or not for our eyes


def need(host: Host, name: str | None) -> None:
    """Raises Failure where it has none of its own; None stands for the shipped."""
    if name is not None and name not in names(host):
        text = f"no application {escape(name)} has units of its own; chimirror-ctl add"
        text += " --own-socket makes them, a file of chimirror-apps(5) has max-sessions"
        raise Failure(os.EX_NOINPUT, text)
