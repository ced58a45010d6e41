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
    """

    verdict: str
    about: str
    text: str
    advice: str = ""


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Give each item one verdict: the worst, with the texts of all faults."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.about, []).append(finding)
    return [_worst(each) for each in found.values()]


def _worst(found: list[Finding]) -> Finding:
    faults = [finding for finding in found if finding.verdict != GOOD] or found[:1]
    verdict = (
        BAD if any(fault.verdict == BAD for fault in faults) else faults[0].verdict
    )
    texts = dict.fromkeys(fault.text for fault in faults)
    advice = dict.fromkeys(fault.advice for fault in faults)
    return Finding(verdict, found[0].about, "; ".join(texts), "; ".join(advice))
