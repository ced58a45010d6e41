"""Runs `unit_probe` in a transient unit with the settings of another: systemd-run(1).

So the command line is split, and the program is found, as by the service itself: with
its variables, its user and its sandbox. No instance of the unit need run. Only settings
that decide about files and variables are taken.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys

from chimirror.ctl import systemd
from chimirror.ctl.messages import BAD, GOOD, WARNING, CommandError, Finding
from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

TIMEOUT = 60  # seconds
RUN = (
    *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--no-ask-password"),
    "--description=chimirror-ctl: a command line is checked",
)
PROBE = ("-I", "-m", "chimirror.ctl.unit_probe")
PROGRAMS = ("chimirror-bridge", "chimirror-server")
VARIABLES = ("$CHIMIRROR_OPTIONS", "$CHIMIRROR_COMMAND")  # of ExecStart=
# Exit statuses of systemd for a process that it cannot set up: systemd.exec(5).
SETUP_FAILED = range(200, 256)
SETTINGS = re.compile(
    r"(Dynamic)?User|(Supplementary)?Groups?|(Root|Working)Directory|RootImage"
    r"|(Pass|Unset)?Environment|EnvironmentFile|Protect\w+|Private\w+|\w+Paths"
    r"|TemporaryFileSystem|ProcSubset|CapabilityBoundingSet|AmbientCapabilities"
    r"|NoNewPrivileges"
)


class UnitSettings:
    """The settings of a service and its drop-ins that a probe needs.

    Args:
        text: The output of `systemctl cat`.

    Attributes:
        properties: Assignments, in order. An empty one resets the earlier ones.
        program: The name of the program of ExecStart=.
        words: The words after it.
    """

    def __init__(self, text: str) -> None:
        self.properties: list[str] = []
        self.program = ""
        self.words: list[str] = []
        section = ""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            name, equals, value = line.strip().partition("=")
            if name.startswith("["):
                section = name
            elif equals and section == "[Service]" and name[0] not in "#;":
                self._set(name.rstrip(), value.strip())

    def _set(self, name: str, value: str) -> None:
        if SETTINGS.fullmatch(name):
            self.properties.append(f"--property={name}={value.replace('%%', '%')}")
        elif name == "ExecStart" and value:
            program, *self.words = shlex.split(value.replace("%%", "%"))
            self.program = os.path.basename(program.lstrip("@-:+!"))


def probe(unit: str, words: Sequence[str] | None = None) -> Iterator[Finding]:
    """Find whether the applications of a unit can be served.

    Args:
        unit: The service, or an instance of a template.
        words: Options and command, in place of those of its variables.
    """
    settings = UnitSettings(systemd.systemctl("cat", "--", unit))
    shown = unit.replace("@chimirror-ctl.", "@.")
    if settings.program not in PROGRAMS:
        text = f"{shown}: not tried: ExecStart= starts {settings.program or 'nothing'}"
        advice = f"systemctl cat {shown} shows it"
        yield Finding(WARNING, "application", text, advice)
        return
    if words is not None:
        kept = [word for word in settings.words if word not in VARIABLES]
        settings.words = [*kept, *(word.replace("$", "$$") for word in words)]
    limit = f"--property=RuntimeMaxSec={TIMEOUT}"
    argv = [*RUN, limit, *settings.properties, "--", sys.executable, *PROBE]
    result = systemd.run(*argv, settings.program, *settings.words)
    if result.returncode in SETUP_FAILED:
        text = f"{shown}: no process starts with its settings"
        advice = f"systemd-run ended with {result.returncode}: systemd.exec(5)"
        yield Finding(BAD, "application", text, advice)
    elif result.returncode != 0:
        lines = result.stderr.splitlines() or [f"status {result.returncode}"]
        advice = "run it as root; otherwise systemctl cat shows the settings"
        yield Finding(
            WARNING, "application", f"{shown}: not tried: {escape(lines[-1])}", advice
        )
    else:
        for line in result.stdout.splitlines():
            try:
                yield _finding(shown, json.loads(line))
            except ValueError:  # --help or --version
                text = f"{shown}: its command line prints a text: {escape(line)}"
                yield Finding(BAD, "application", text, "leave --help out")
                return


def _finding(unit: str, found: dict[str, Any]) -> Finding:
    """Compare what the unit sees with what is there."""
    name, text = found["name"], found["text"]
    about = f"application {name}" if name else "application"
    hidden = [path for path in found["absent"] if path and os.path.exists(path)]
    if hidden:
        is_needed = "cure" in found or found["script"] in hidden
        text = f"{unit}: its user cannot see or read {', '.join(hidden)}"
        advice = f"move it to /opt, or see ProtectHome= in systemctl cat {unit}"
        return Finding(BAD if is_needed else WARNING, about, text, advice)
    if "cure" in found:
        return Finding(BAD, about, f"{unit}: {text}", found["cure"])
    if found["script"]:
        text = f"{unit}: there is no {found['script']}"
        advice = "create it, unless the application does"
        return Finding(WARNING, about, text, advice)
    return Finding(GOOD, about, text)


def refuse_bad(name: str, findings: Iterator[Finding]) -> None:
    """Refuse an application that `check` would call bad.

    Raises:
        CommandError: A finding is bad.
    """
    for finding in findings:
        if finding.verdict == BAD:
            text = f"{name}: {finding.text}; {finding.advice}"
            raise CommandError(os.EX_USAGE, text)
