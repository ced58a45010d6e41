"""systemd, as far as ctl needs it: `systemctl` for what is done, /run for what is.

Which invocation a unit is, is a symbolic link that systemd keeps for the journal: one
readlink(2), where a question over D-Bus takes a millisecond. systemd.unit(5).
"""

from __future__ import annotations

import os
import re
import subprocess

from chimirror.ctl.failure import Failure
from chimirror.system.escape import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.ctl.host import Host

# chimirror@.service, and chimirror-NAME@.service beside it for another application.
SESSION_UNIT = re.compile(r"chimirror(?:-(?P<name>[^@]+))?@.*\.service")
SOCKET = "chimirror.socket"
TEMPLATE = "chimirror@.service"
SERVER = "chimirror-server.service"
SERVER_SOCKET = "chimirror-server.socket"
ZYGOTE = "chimirror-zygote.service"
INSTANCES = "chimirror@*.service"
# Any instance does to see what the template says.
SAMPLE = "chimirror@chimirror-ctl.service"
MOST = 500  # units on one command line


def need(host: Host) -> None:
    """Raises Failure where systemd is not process 1."""
    if not host.booted:
        text = "systemd is not running here; a chimirror-server has its own options"
        raise Failure(os.EX_UNAVAILABLE, text)


def invocation(host: Host, unit: str) -> str:
    """The invocation id of a running unit; empty where there is none."""
    try:
        return os.readlink(f"{host.run}/systemd/units/invocation:{unit}")
    except OSError:
        return ""


def application(unit: str) -> str:
    """The NAME of chimirror-NAME@.service; empty for the default one."""
    found = SESSION_UNIT.fullmatch(unit)
    return (found["name"] or "") if found else ""


def systemctl(*words: str) -> str:
    """Run it; what it printed.

    Raises:
        Failure: it did not do it, or is not there.
    """
    done = attempt("systemctl", *words)
    if done.returncode == 0:
        return done.stdout
    said = printable(done.stderr.strip() or f"systemctl {words[0]} failed", "\n")
    denied = re.search(r"[Aa]ccess denied|authenti|[Pp]ermission|privileged", said)
    raise Failure(os.EX_NOPERM if denied else os.EX_UNAVAILABLE, said)


def attempt(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd's, whatever becomes of it."""
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            env=os.environ | {"LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            check=False,
        )
    except FileNotFoundError:
        text = f"{words[0]} is not in PATH; it comes with systemd"
        raise Failure(os.EX_UNAVAILABLE, text) from None


def on_units(words: Sequence[str], units: Sequence[str]) -> None:
    """One command for many units, or for none.

    Raises:
        Failure: it was not done to one of them; to the others it was.
    """
    failed = None
    for start in range(0, len(units), MOST):
        try:
            systemctl(*words, "--", *units[start : start + MOST])
        except Failure as failure:
            failed = failure
    if failed is not None:
        raise failed


def properties(units: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
    """Properties of a few units, in one question for all of them.

    Returns:
        For each unit its properties; the values of a repeated one are lines of one.
    """
    wanted = ",".join(["Id", *names])
    shown = systemctl("show", f"--property={wanted}", "--", *units)
    return [_properties(block) for block in shown.rstrip("\n").split("\n\n")]


def _properties(block: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found
