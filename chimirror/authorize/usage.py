"""The command line: the usage text for docopt-ng, and the options of each verb.

The text is the only table of verbs and options. The description of an option begins
with the verbs that take it, unless all take it that serve. Abbreviated options are
refused.
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
  chimirror-authorize [options] [--listen ADDRESS]... jwt
  chimirror-authorize [options] [--listen ADDRESS]... pam SERVICE
  chimirror-authorize [options] [--application NAME]... token FILE NAME
  chimirror-authorize --help
  chimirror-authorize --version

Verbs:
  htpasswd                 Clients log in with a user and a password of FILE, which
                           htpasswd(1) writes: bcrypt or argon2.
  tokens                   Clients log in with a token of FILE.
  jwt                      Clients log in with a token that an OpenID provider has
                           signed.
  pam                      Clients log in with a user and a password of this machine,
                           by the PAM service SERVICE.
  token                    Make a token of the user NAME: append its hash to FILE,
                           and print the token.

Options:
  --listen ADDRESS         Answer by HTTP on 127.0.0.1:9000 or unix:/PATH, or on the
                           socket that systemd passes. Without it, answer JSON
                           lines of standard input; repeatable.
  --socket-mode MODE       The permissions of Unix sockets, in octal.
                           [default: 0600]
  --max-age TIME           Servers may answer the same question by themselves for
                           this long. [default: 0]
  --cookie NAME            tokens, jwt: take the token from this cookie too.
  --issuer URL             jwt: the issuer of the tokens, as it names itself.
  --audience NAME          jwt: whom the tokens are for, such as a client ID.
  --jwks WHERE             jwt: the keys of the issuer, a file or a URL.
  --user-claim NAME        jwt: the name of the user in a token, such as
                           preferred_username. [default: sub]
  --groups-claim NAME      jwt: the groups of the user in a token, such as
                           realm_access.roles. [default: groups]
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
SERVING = tuple(verb for verb in VERBS if verb != "token")
SCOPES = {name: re.findall(r"\w+", verbs) for name, verbs in _SCOPE.findall(USAGE)}
FORMS = {
    "htpasswd": "htpasswd FILE",
    "tokens": "tokens FILE",
    "jwt": "jwt without further words",
    "pam": "pam SERVICE",
    "token": "token FILE NAME",
}
NEEDED = {"jwt": ("--issuer", "--audience", "--jwks")}


class CommandLine(NamedTuple):
    """A parsed command line.

    Attributes:
        verb: One of VERBS, --help or --version.
        words: The positional arguments of the verb.
        jwks_is_url: The key set is a URL, not a file.

    The others are options. Those that are not given have their defaults.
    """

    verb: str
    words: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    socket_mode: int = 0o600
    max_age: float = 0.0
    cookie: str = ""
    issuer: str = ""
    audience: str = ""
    jwks: str = ""
    jwks_is_url: bool = False
    user_claim: str = "sub"
    groups_claim: str = "groups"
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
        takers = SCOPES.get(name, SERVING)
        if verb not in takers:
            raise _wrong(f"{verb} takes no {name}; that belongs to {', '.join(takers)}")
    missing = [name for name in NEEDED.get(verb, ()) if name not in given]
    if missing:
        raise _wrong(f"{verb} needs {' and '.join(missing)}")
    try:
        found = docopt(USAGE, list(argv), default_help=False)
    except (DocoptExit, DocoptLanguageError):
        raise _wrong(f"write {FORMS[verb]}") from None
    return CommandLine(
        verb,
        words[1:],
        # docopt counts the last one twice.
        listen=_read("--listen", _addresses, {"--listen": [], **given}),
        socket_mode=_read("--socket-mode", quantities.mode, found),
        max_age=_read("--max-age", quantities.parse_grace, found),
        cookie=_read("--cookie", _cookie, found),
        issuer=found["--issuer"] or "",
        audience=found["--audience"] or "",
        jwks=found["--jwks"] or "",
        jwks_is_url=_read("--jwks", _is_url, found),
        user_claim=found["--user-claim"],
        groups_claim=found["--groups-claim"],
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


def _is_url(text: str | None) -> bool:
    """Return True for a URL, False for a file. Other machines cannot forge its keys."""
    if text is None:
        return False
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    host = parts.hostname or ""
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    if parts.scheme == "http" and not is_local:
        raise ValueError(f'"{text}" can be forged on its way; write https:')
    return parts.scheme in ("http", "https")


def _no_verb(words: Sequence[str]) -> str:
    known = ", ".join(VERBS[:-1]) + f" or {VERBS[-1]}"
    return f'"{words[0]}" is not {known}' if words else f"no verb; write {known}"


def _wrong(text: str) -> StartError:
    line = "Usage: chimirror-authorize [options]... VERB [FILE]"
    return StartError(os.EX_USAGE, f"{text}\n{line}")
