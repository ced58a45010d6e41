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

from chimirror.ctl import app_files, systemd
from chimirror.ctl.messages import BAD, GOOD, WARNING, CommandError, Finding
from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Place = tuple[str | None, int | None]  # a file, and the number of a line

TIMEOUT = 60  # seconds
RUN = (
    *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--no-ask-password"),
    "--description=chimirror-ctl: a command line is checked",
)
PROBE = ("-I", "-m", "chimirror.ctl.unit_probe")
PROGRAMS = ("chimirror-bridge", "chimirror-server", "chimirror-zygote")
# Of ExecStart=. The last one holds the command.
VARIABLES = ("$CHIMIRROR_OPTIONS", "$CHIMIRROR_ZYGOTE", "$CHIMIRROR_COMMAND")
# Exit statuses of systemd for a process that it cannot set up: systemd.exec(5).
SETUP_FAILED = range(200, 256)
# Settings that cause some of these.
CAUSES = {200: "WorkingDirectory", 216: "Group", 217: "User", 243: "LoadCredential"}
# A line of `systemctl cat` that names the file which follows.
HEADER = re.compile(r"# (/\S+(?:\.service|\.socket|\.slice|\.mount|\.d/\S+\.conf))")
NOWHERE: Place = (None, None)
SETTINGS = re.compile(
    r"(Dynamic)?User|(Supplementary)?Groups?|(Root|Working)Directory|RootImage"
    r"|(Pass|Unset)?Environment|EnvironmentFile|Protect\w+|Private\w+|\w+Paths"
    r"|TemporaryFileSystem|ProcSubset|CapabilityBoundingSet|AmbientCapabilities"
    r"|NoNewPrivileges|(Load|Set)Credential(Encrypted)?"
)


class UnitSettings:
    """The settings of a unit and its drop-ins that a probe needs, with their places.

    Args:
        text: The output of `systemctl cat`.

    Attributes:
        properties: Assignments, in order. An empty one resets the earlier ones.
        program: The name of the program of ExecStart=.
        words: The words after it.
        places: The file and line of the last assignment of each setting.
    """

    def __init__(self, text: str) -> None:
        self.properties: list[str] = []
        self.program = ""
        self.words: list[str] = []
        self.places: dict[str, Place] = {}
        self._variables: dict[str, Place] = {}
        self._files: list[str] = []
        section = ""
        for place, line in _logical_lines(text):
            name, equals, value = line.strip().partition("=")
            if name.startswith("["):
                section = name
            elif equals and name[0] not in "#;":
                self.places[name.rstrip()] = place
                if section == "[Service]":
                    self._set(name.rstrip(), value.strip())
                    self._set_variables(name.rstrip(), value.strip(), place)

    def _set_variables(self, name: str, value: str, place: Place) -> None:
        if name == "Environment":
            for word in shlex.split(value):
                self._variables[word.partition("=")[0]] = place
        elif name == "EnvironmentFile":
            self._files = [*self._files, value.removeprefix("-")] if value else []

    def place_of_variable(self, name: str) -> Place:
        """Return the place that sets a variable: a file of variables, or a unit."""
        for path in reversed(self._files):
            line = app_files.variable_line(path, name)
            if line is not None:
                return path, line
        return self._variables.get(name, self.places.get("ExecStart", NOWHERE))

    def place_of_fault(self, text: str) -> Place:
        """Return the place of a fault in the command line, from the text about it.

        A text about an option begins with the option. Other ones are about the command.
        """
        variables = [word for word in VARIABLES if word in self.words]
        found = re.match(r"--[a-z-]+", text)
        if found is None:
            return self.place_of_variable(variables[-1][1:] if variables else "")
        for variable in variables:
            path, line = place = self.place_of_variable(variable[1:])
            if path and line and found[0] in _line(path, line):
                return place
        words = [*self.words, ""]
        if found[0] in words:
            value = words[words.index(found[0]) + 1]
            return self.place_of_variable(value.strip("${}"))
        return self.places.get("ExecStart", NOWHERE)

    def _set(self, name: str, value: str) -> None:
        if SETTINGS.fullmatch(name):
            self.properties.append(f"--property={name}={value.replace('%%', '%')}")
        elif name == "ExecStart" and value:
            program, *self.words = shlex.split(value.replace("%%", "%"))
            self.program = os.path.basename(program.lstrip("@-:+!"))


def _logical_lines(text: str) -> Iterator[tuple[Place, str]]:
    """Yield the lines of `systemctl cat`, continued ones joined: systemd.syntax(7)."""
    file: str | None = None
    number = 0
    joined: list[str] = []
    place: Place = NOWHERE
    for line in text.splitlines():
        header = HEADER.fullmatch(line)
        if header:
            file, number = header[1], 0
            continue
        number += 1
        if joined and line[:1] in ("#", ";"):
            continue
        if not joined:
            place = (file, number) if file else NOWHERE
        joined.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield place, " ".join(joined)
            joined = []


def _line(path: str, number: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()[number - 1]
    except (OSError, IndexError):
        return ""


def find_settings(unit: str) -> UnitSettings:
    """Read the settings of a unit and its drop-ins."""
    return UnitSettings(systemd.systemctl("cat", "--", unit))


def probe(unit: str, words: Sequence[str] | None = None) -> Iterator[Finding]:
    """Find whether the applications of a unit can be served.

    Args:
        unit: The service, or an instance of a template.
        words: Options and command, in place of those of its variables.
    """
    settings = find_settings(unit)
    shown = unit.replace("@chimirror-ctl.", "@.")
    if settings.program not in PROGRAMS:
        text = f"{shown}: not tried: ExecStart= starts {settings.program or 'nothing'}"
        advice = f"systemctl cat {shown} shows it"
        place = settings.places.get("ExecStart", NOWHERE)
        yield Finding(WARNING, "application", text, advice, *place)
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
        place = settings.places.get(CAUSES.get(result.returncode, ""), NOWHERE)
        yield Finding(BAD, "application", text, advice, *place)
    elif result.returncode != 0:
        lines = result.stderr.splitlines() or [f"status {result.returncode}"]
        advice = "run it as root; otherwise systemctl cat shows the settings"
        yield Finding(
            WARNING, "application", f"{shown}: not tried: {escape(lines[-1])}", advice
        )
    else:
        for line in result.stdout.splitlines():
            try:
                found = json.loads(line)
            except ValueError:  # --help or --version
                text = f"{shown}: its command line prints a text: {escape(line)}"
                place = settings.place_of_fault("--help")
                yield Finding(BAD, "application", text, "leave --help out", *place)
                return
            if words is not None and "about" in found:
                continue  # a certificate or the authorizer, whatever the application is
            finding = _finding(shown, found)
            place = found.get("file"), found.get("line")
            if "setting" in found:
                place = settings.places.get(found["setting"], NOWHERE)
            elif place[0] is None and words is None:
                about_command = "cure" not in found or found["absent"]
                place = settings.place_of_fault("" if about_command else found["text"])
            yield finding._replace(file=place[0], line=place[1])


def _finding(unit: str, found: dict[str, Any]) -> Finding:
    """Compare what the unit sees with what is there."""
    name, text = found["name"], found["text"]
    about = f"application {name}" if name else found.get("about", "application")
    hidden = [path for path in found["absent"] if path and os.path.exists(path)]
    if hidden:
        is_needed = "cure" in found or found["script"] in hidden
        text = f"{unit}: its user cannot see or read {', '.join(hidden)}"
        advice = f"move it to /opt, or see ProtectHome= in systemctl cat {unit}"
        return Finding(BAD if is_needed else WARNING, about, text, advice)
    if "cure" in found:
        verdict = WARNING if found.get("is_warning") else BAD
        return Finding(verdict, about, f"{unit}: {text}", found["cure"])
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
