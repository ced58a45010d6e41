"""Errors, warnings and findings of chimirror-ctl: one line each.

Exit statuses follow sysexits(3). Knows nothing of the commands.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = "chimirror-ctl"


class CommandError(Exception):
    """A command that failed, with its message.

    Attributes:
        status: The exit status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def warn(text: str) -> None:
    """Write one line to standard error. A closed standard error is ignored."""
    line = printable(f"{PROGRAM}: {text}", "\n") + "\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # the exit status reports the failure too


# The words are output of `check`: chimirror-ctl(1).
GOOD, WARNING, BAD = "good", "doubtful", "bad"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        verdict: GOOD, WARNING or BAD.
        about: The unit, file or part that was checked.
        text: The state that was found.
        advice: The command or change that corrects it. Empty if none is needed.
        file: The file that causes the finding, or None.
        line: The line in it, from 1 on, or None for all of the file.
        sessions: The numbers of sessions that resources allow, by their names.
    """

    verdict: str
    about: str
    text: str
    advice: str = ""
    file: str | None = None
    line: int | None = None
    sessions: dict[str, int] | None = None

    @property
    def located_text(self) -> str:
        """The text as `FILE:LINE: text`, unless the finding is about the file."""
        if self.file is None or self.file == self.about:
            return self.text
        line = "" if self.line is None else f":{self.line}"
        return f"{self.file}{line}: {self.text}"


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Give each item one verdict: the worst, with the texts of all faults.

    The text of a fault begins with its file and line. The fields of an item name those
    of its first fault with that verdict.
    """
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.about, []).append(finding)
    return [_worst(each) for each in found.values()]


def _worst(found: list[Finding]) -> Finding:
    faults = [finding for finding in found if finding.verdict != GOOD] or found[:1]
    worst = next((fault for fault in faults if fault.verdict == BAD), faults[0])
    if worst.verdict == GOOD:
        return worst
    texts = dict.fromkeys(fault.located_text for fault in faults)
    advice = dict.fromkeys(fault.advice for fault in faults)
    return worst._replace(text="; ".join(texts), advice="; ".join(advice))
