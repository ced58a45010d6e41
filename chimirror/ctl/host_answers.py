"""The answers of other hosts: the output, or the error with its evidence and cure.

Everything in an answer is text of a peer, so it is escaped and cut. ssh(1) exits with
255 if it fails itself, and a shell with 126 or 127 if it cannot start a program.
"""

from __future__ import annotations

import os

from chimirror.ctl.messages import CommandError
from chimirror.protocol import json_text
from chimirror.text import escape, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from chimirror.ctl.remote_hosts import Answer

    Value = TypeVar("Value")

MAX_SHOWN = 200  # bytes of an unusable answer that an error shows
MAX_LINES = 20  # lines of standard error
MAX_LINE = 1000  # bytes of each
SSH_FAILED = 255
NOT_EXECUTABLE, NOT_FOUND = 126, 127


def value(answer: Answer, check: Callable[[object], Value]) -> Value:
    """Return the JSON value of an answer.

    Args:
        answer: That of a command with --json.
        check: Returns the value with the right type, or raises ValueError.

    Raises:
        CommandError: The host has failed, or the answer is another one.
    """
    _raise_fault(answer)
    if answer.status and not answer.output:
        raise _failure(answer)
    try:
        return check(json_text.parse(answer.output))
    except ValueError as error:
        found = escape(answer.output[:MAX_SHOWN].strip(), MAX_SHOWN) or "nothing"
        text = f"this is no answer of chimirror-ctl ({escape(str(error))}): {found};"
        text += f" ssh {answer.host} has to print nothing at login, and the versions"
        raise CommandError(os.EX_UNAVAILABLE, f"{text} have to fit") from None


def lines(answer: Answer) -> str:
    """Return the lines of an answer, each behind the name of its host.

    Raises:
        CommandError: The host has failed.
    """
    _raise_fault(answer)
    if answer.status and not answer.output:
        raise _failure(answer)
    shown = printable(answer.output, "\n").splitlines()
    return "".join(f"{answer.host}: {line}\n" for line in shown)


def messages(answer: Answer) -> list[str]:
    """Return the last lines of standard error, without the name of the program."""
    found = answer.errors.decode(errors="replace").splitlines()
    shown = [escape(line.removeprefix("chimirror-ctl: "), MAX_LINE) for line in found]
    return [line for line in shown if line][-MAX_LINES:]


def exit_status(answer: Answer) -> int:
    """Return the exit status of an answer: sysexits(3), or EX_UNAVAILABLE."""
    if answer.status in (os.EX_OK, *range(os.EX_USAGE, os.EX_CONFIG + 1)):
        return answer.status
    return os.EX_UNAVAILABLE


def _raise_fault(answer: Answer) -> None:
    """Raise CommandError if chimirror-ctl has not run to its end there."""
    host, reported = answer.host, "; ".join(messages(answer)[-2:])
    if answer.fault:
        text = f"{answer.fault}; ssh {host} chimirror-ctl --version shows if it answers"
    elif answer.status < 0:
        text = f"ssh was killed by signal {-answer.status}; try it again"
    elif answer.status == SSH_FAILED:
        text = f"{reported or 'ssh failed'}; ssh {host} has to log in with no question"
    elif answer.status in (NOT_EXECUTABLE, NOT_FOUND):
        text = f"{reported}; install chimirror there, or add it to the PATH of ssh"
    else:
        return
    raise CommandError(os.EX_UNAVAILABLE, text)


def _failure(answer: Answer) -> CommandError:
    """Return the error of a chimirror-ctl that has failed, as it has reported it."""
    text = "; ".join(messages(answer)) or f"exit status {answer.status}"
    if answer.status == os.EX_NOPERM and "@" not in answer.host:
        text += f": --host root@{answer.host}"
    if answer.status == os.EX_USAGE:
        text += "; its version may be another one"
    return CommandError(exit_status(answer), text)
