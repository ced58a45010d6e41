"""The usage text, and docopt-ng, which is the authority on it.

The text is written from the option table, so that the table is the only source; docopt
reads the text.  Loaded only when a command line is unusual: help, version or an error.
Knows the shape of the table and nothing of what the options mean.
"""

from __future__ import annotations

from difflib import get_close_matches
from textwrap import wrap

from docopt import DocoptExit, DocoptLanguageError, docopt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.options import Option

_COLUMN = 27
_WIDTH = 80


_SYNOPSES = {
    "chimirror-bridge": ("[--] [COMMAND [ARG...]]",),
    "chimirror-server": ("[--] [COMMAND [ARG...]]",),
    "chimirror-zygote": ("MODULE:FUNCTION", "-- COMMAND [ARG...]"),
}


def synopses(program: str) -> list[str]:
    """The usage lines of a program that serves."""
    return [f"{program} [options]... {rest}" for rest in _SYNOPSES[program]]


def synopsis(program: str) -> str:
    """The first of them."""
    return synopses(program)[0]


def render(program: str, purpose: str, table: Sequence[Option]) -> str:
    """The text that --help prints and that docopt parses."""
    usage = [f"  {line}" for line in synopses(program)]
    lines = [*wrap(purpose, _WIDTH), "", "Usage:", *usage, "", "Options:"]
    for option in table:
        lines += _entry(option)
    lines += ["", f"See {program}(1)."]
    return "\n".join(lines) + "\n"


def _entry(option: Option) -> list[str]:
    head = f"  {option.name} {option.metavar}".rstrip()
    default = f" [default: {option.default}]" if option.default else ""
    # docopt finds a default only on one line, so its spaces are not for wrapping.
    words = (option.text + default.replace(": ", ":\0")).strip()
    body = [line.replace("\0", " ") for line in wrap(words, _WIDTH - _COLUMN)]
    if len(head) + 2 > _COLUMN:
        return [head, *(" " * _COLUMN + line for line in body)]
    first = head.ljust(_COLUMN) + body[0]
    return [first, *(" " * _COLUMN + line for line in body[1:])]


def parse(text: str, argv: Sequence[str], version: str) -> dict[str, object] | None:
    """What docopt reads in a command line; None where it refuses it.

    Help and version are printed on standard output, and then docopt exits (0).
    """
    try:
        return dict(docopt(text, list(argv), version=version, options_first=True))
    except (DocoptExit, DocoptLanguageError):
        return None


def suggestion(name: str, table: Sequence[Option]) -> str:
    """What somebody who wrote this name may have meant."""
    names = [option.name for option in table]
    begun = [known for known in names if known.startswith(name)]
    close = begun or get_close_matches(name, names, n=1, cutoff=0.75)
    if len(name) < 4 or not close:
        return "--help lists the options"
    return f"write {' or '.join(close)}"
