"""Writes and reads usage texts. docopt-ng is the authority on them.

For the programs that serve, the text is written from the option table, and docopt reads
the text. The other programs hold a usage text, and `read_options` reads the table from
it. The programs that serve load this module only for help, version and errors. Knows
the shape of a table, and not the meaning of any option.
"""

from __future__ import annotations

import os
import re

from docopt import DocoptExit, DocoptLanguageError, docopt

from chimirror.config.options import SHORT, Option
from chimirror.text import similar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COLUMN = 27
_WIDTH = 80
_ENTRY = re.compile(r"^  (--[a-z-]+)(?: ([A-Z][A-Z=]*))?(?:, (-[a-z]))?(?= |$)", re.M)
_REPEATED = re.compile(r"\[(--[a-z-]+)[^]\n]*\]\.\.\.")

_SYNOPSES = {
    "chimirror-bridge": ("[--] [COMMAND [ARG...]]",),
    "chimirror-server": ("[--] [COMMAND [ARG...]]",),
    "chimirror-zygote": ("MODULE:FUNCTION", "-- COMMAND [ARG...]"),
}


def synopses(program: str) -> list[str]:
    """List the usage lines of a program that serves."""
    return [f"{program} [options]... {rest}" for rest in _SYNOPSES[program]]


def synopsis(program: str) -> str:
    """The first usage line, for error messages."""
    return synopses(program)[0]


def render(
    program: str, purpose: str, table: Sequence[Option], notes: Sequence[str] = ()
) -> str:
    """Write the text that --help prints and that docopt reads.

    Args:
        program: The name of the program.
        purpose: What the program does.
        table: Its options.
        notes: Lines to print after the options.
    """
    from textwrap import wrap

    usage = [f"  {line}" for line in synopses(program)]
    lines = [*wrap(purpose, _WIDTH), "", "Usage:", *usage, "", "Options:"]
    for option in table:
        lines += _entry(option)
    if notes:
        lines += ["", *notes]
    lines += ["", f"See {program}(1)."]
    return "\n".join(lines) + "\n"


def _entry(option: Option) -> list[str]:
    from textwrap import wrap

    short = [f", {short}" for short, name in SHORT.items() if name == option.name]
    head = f"  {option.name} {option.metavar}".rstrip() + "".join(short)
    default = f" [default: {option.default}]" if option.default else ""
    # docopt finds a default only on one line, so wrap() must not break its spaces.
    words = (option.text + default.replace(": ", ":\0")).strip()
    body = [line.replace("\0", " ") for line in wrap(words, _WIDTH - _COLUMN)]
    if len(head) + 2 > _COLUMN:
        return [head, *(" " * _COLUMN + line for line in body)]
    first = head.ljust(_COLUMN) + body[0]
    return [first, *(" " * _COLUMN + line for line in body[1:])]


def parse(text: str, argv: Sequence[str], version: str) -> dict[str, object] | None:
    """Read a command line with docopt. Returns None where docopt refuses it.

    For help and version, the text is printed on standard output.

    Raises:
        SystemExit: Help or version has been printed. The status is 0.
        OSError: It cannot be printed.
    """
    from contextlib import redirect_stdout
    from io import StringIO

    printed = StringIO()
    try:
        with redirect_stdout(printed):
            return dict(docopt(text, list(argv), version=version, options_first=True))
    except (DocoptExit, DocoptLanguageError):
        return None
    except SystemExit:
        _print(printed.getvalue())
        raise


def _print(text: str) -> None:
    """Write to standard output without a buffer, which would fail at the exit."""
    rest = text.encode()
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError as error:
        text = f"cannot write standard output: {error.strerror}"
        raise OSError(error.errno, text) from None


def read_options(text: str) -> tuple[list[Option], dict[str, str]]:
    """Read the options from a usage text.

    Returns:
        The options, in the order of the text, and the short names with the names that
        they stand for.
    """
    repeated = _REPEATED.findall(text)
    found = _ENTRY.findall(text)
    table = [
        Option(name, 0, metavar, repeats=name in repeated) for name, metavar, _ in found
    ]
    return table, {short: name for name, _, short in found if short}


def suggest(name: str, table: Iterable[Option]) -> str:
    """Suggest a known option in place of an unknown one."""
    names = [option.name for option in table]
    close = similar(name, names, cutoff=0.75) if len(name) > 3 else []
    if not close:
        return "--help lists the options"
    return f"write {' or '.join(close)}"
