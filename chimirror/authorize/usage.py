"""The command line: the usage text for docopt-ng, and the options of each verb.

The text is the only table of verbs and options. The description of an option begins
with the verbs that take it, unless all do. Abbreviated options are refused.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from docopt import DocoptExit, DocoptLanguageError, docopt

from chimirror.authorize.messages import StartError
from chimirror.config import listen_syntax, parser, quantities
from chimirror.config.usage import read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

USAGE = """\
Tell servers who their clients are, and what they may use.

Usage:
  chimirror-authorize [options] [--listen ADDRESS]... htpasswd FILE
  chimirror-authorize [options] [--listen ADDRESS]... tokens FILE
  chimirror-authorize [options] [--application NAME]... token FILE NAME
  chimirror-authorize --help
  chimirror-authorize --version

Verbs:
  htpasswd                 Clients log in with a user and a password of FILE, which
                           htpasswd(1) writes: bcrypt or argon2.
  tokens                   Clients log in with a token of FILE.
  token                    Make a token of the user NAME: append its hash to FILE,
                           and print the token.

Options:
  --listen ADDRESS         htpasswd, tokens: answer by HTTP on 127.0.0.1:9000 or
                           unix:/PATH, or on the socket that systemd passes.
                           Without it, answer JSON lines of standard input;
                           repeatable.
  --socket-mode MODE       htpasswd, tokens: the permissions of Unix sockets, in
                           octal. [default: 0600]
  --max-age TIME           htpasswd, tokens: servers may answer the same question by
                           themselves for this long. [default: 0]
  --cookie NAME            tokens: take the token from this cookie too.
  --expires WHEN           token: refuse it from this time on, such as 2027-01-31.
  --application NAME       token: allow only this application; repeatable.
  --help, -h               Print this text and exit.
  --version                Print the version and exit.

See chimirror-authorize(1).
"""

_VERB = re.compile(r"^  ([a-z]+) {2,}\S", re.MULTILINE)
_SCOPE = re.compile(r"^  (--[a-z-]+).*? {2,}([a-z]+(?:,\s+[a-z]+)*): ", re.MULTILINE)
OPTIONS, SHORT = read_options(USAGE)
VERBS = tuple(_VERB.findall(USAGE.partition("\nOptions:")[0]))
SCOPES = {name: re.findall(r"\w+", verbs) for name, verbs in _SCOPE.findall(USAGE)}


class CommandLine(NamedTuple):
    """A parsed command line.

    Attributes:
        verb: One of VERBS, --help or --version.
        words: The positional arguments of the verb.
        listen: The addresses to listen on.
        options: The other options by name, with their defaults.
    """

    verb: str
    words: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    socket_mode: int = 0o600
    max_age: float = 0.0
    cookie: str = ""
    expires: str | None = None
    applications: tuple[str, ...] = ()


def parse(argv: Sequence[str]) -> CommandLine:
    """Parse a command line.

    Args:
        argv: The arguments without the name of the program.

    Raises:
        StartError: It is wrong. The text names the correction.
    """
    try:
        words, given = parser.scan(OPTIONS, argv, options_first=False, short=SHORT)
    except parser.ScanError as error:
        raise _wrong(parser.explain(error, OPTIONS)) from None
    for name in ("--help", "--version"):
        if name in given:
            return CommandLine(name)
    if not words or words[0] not in VERBS:
        raise _wrong(_no_verb(words))
    verb = words[0]
    for name in given:
        if verb not in SCOPES.get(name, VERBS):
            raise _wrong(f"{verb} takes no {name}; {' and '.join(SCOPES[name])} do")
    try:
        found = docopt(USAGE, list(argv), default_help=False)
    except (DocoptExit, DocoptLanguageError):
        form = "FILE NAME" if verb == "token" else "FILE"
        raise _wrong(f"write {verb} {form}") from None
    return CommandLine(
        verb,
        words[1:],
        # docopt counts the last one twice.
        listen=_read("--listen", _addresses, {"--listen": [], **given}),
        socket_mode=_read("--socket-mode", quantities.mode, found),
        max_age=_read("--max-age", quantities.parse_grace, found),
        cookie=_read("--cookie", _cookie, found),
        expires=found["--expires"],
        applications=tuple(given.get("--application", ())),
    )


def _read(name: str, reader: Callable[[Any], Any], found: dict[str, Any]) -> Any:
    try:
        return reader(found[name])
    except ValueError as error:
        raise _wrong(f"{name}: {error}") from None


def _addresses(texts: list[str]) -> tuple[str, ...]:
    return tuple(listen_syntax.check(text) for text in texts)


def _cookie(text: str | None) -> str:
    if text is None:
        return ""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise ValueError(f'"{text}" is no name; write one such as __Host-session')
    return text


def _no_verb(words: Sequence[str]) -> str:
    known = ", ".join(VERBS[:-1]) + f" or {VERBS[-1]}"
    return f'"{words[0]}" is not {known}' if words else f"no verb; write {known}"


def _wrong(text: str) -> StartError:
    line = "Usage: chimirror-authorize [options]... VERB FILE"
    return StartError(os.EX_USAGE, f"{text}\n{line}")
