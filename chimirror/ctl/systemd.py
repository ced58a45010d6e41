"""Runs `systemctl`, and reads the state that systemd keeps in /run: systemd.unit(5).

systemd keeps the invocation id of a unit as a symbolic link for the journal. It costs
one readlink(2), where a D-Bus request takes a millisecond.
"""

from __future__ import annotations

import os
import re

from chimirror.ctl.messages import CommandError
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from chimirror.ctl.paths import HostPaths

# chimirror@.service, or chimirror-NAME@.service of an application with its own units.
# chimirror-agent@.service serves no sessions.
SESSION_UNIT = re.compile(r"chimirror(?:-(?!agent@)(?P<name>[^@]+))?@.*\.service")
SOCKET = "chimirror.socket"
TEMPLATE = "chimirror@.service"
SERVER = "chimirror-server.service"
SERVER_SOCKET = "chimirror-server.socket"
ZYGOTE = "chimirror-zygote.service"
ZYGOTE_SOCKET = "chimirror-zygote.socket"
INSTANCES = "chimirror@*.service"
# A template cannot be queried, but any instance of it can.
SAMPLE = "chimirror@chimirror-ctl.service"
# Signals by which an operator ends the session of a bridge: chimirror-bridge(1).
CLOSE = ("kill", "--kill-whom=main", "--signal=USR2")
KILL = ("kill", "--kill-whom=main", "--signal=USR1")
RUNNING = ("active", "activating", "reloading")  # values of ActiveState
MAX_UNITS = 500  # units on one command line


def require(host: HostPaths) -> None:
    """Raise CommandError if systemd is not process 1."""
    if not host.booted:
        text = "systemd is not running here; a chimirror-server has its own options"
        raise CommandError(os.EX_UNAVAILABLE, text)


def invocation(host: HostPaths, unit: str) -> str:
    """Return the invocation id of a running unit, empty if there is none."""
    try:
        return os.readlink(f"{host.run}/systemd/units/invocation:{unit}")
    except OSError:
        return ""


def application(unit: str) -> str:
    """Return the NAME of chimirror-NAME@.service, empty for chimirror@.service."""
    found = SESSION_UNIT.fullmatch(unit)
    return (found["name"] or "") if found else ""


def systemctl(*words: str) -> str:
    """Run systemctl. Returns its standard output.

    Raises:
        CommandError: It failed, or is not installed.
    """
    result = run("systemctl", *words)
    if result.returncode == 0:
        return result.stdout
    message = printable(result.stderr.strip() or f"systemctl {words[0]} failed", "\n")
    denied = re.search(r"[Aa]ccess denied|authenti|[Pp]ermission|privileged", message)
    if denied:
        raise CommandError(os.EX_NOPERM, f"{message.rstrip('.')}; run it as root")
    raise CommandError(os.EX_UNAVAILABLE, message)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd. The caller checks its exit status.

    Raises:
        CommandError: The program is not installed.
    """
    import subprocess  # 9 ms, and not all verbs need it

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
        raise CommandError(os.EX_UNAVAILABLE, text) from None


def on_units(words: Sequence[str], units: Sequence[str]) -> None:
    """Run one systemctl command for any number of units, even for none.

    Raises:
        CommandError: The command failed for at least one unit. The others are done.
    """
    failed = None
    for start in range(0, len(units), MAX_UNITS):
        try:
            systemctl(*words, "--", *units[start : start + MAX_UNITS])
        except CommandError as failure:
            failed = failure
    if failed is not None:
        raise failed


def properties(units: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
    """Query properties of a few units in one request.

    Returns:
        The properties of each unit. The values of a repeated property are joined by
        newlines.
    """
    selected = ",".join(["Id", *names])
    shown = systemctl("show", f"--property={selected}", "--", *units)
    return [_properties(block) for block in shown.rstrip("\n").split("\n\n")]


def _properties(block: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found
