"""The command line: the usage text, which docopt-ng reads, and what it leaves open.

docopt guesses at abbreviated options and does not know which verb takes which: both
are judged here. Completions and manual are held to this text by tests.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import NamedTuple

from docopt import DocoptExit, DocoptLanguageError, docopt

from chimirror.ctl.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
Look after the sessions of this machine: see them, steer, limit and end them.

Usage:
  chimirror-ctl sessions [options]
  chimirror-ctl show [options] ID
  chimirror-ctl log [options] ID
  chimirror-ctl history [options]
  chimirror-ctl stats [options]
  chimirror-ctl close ID...
  chimirror-ctl kill ID...
  chimirror-ctl pause ID [STREAM...]
  chimirror-ctl resume ID [STREAM...]
  chimirror-ctl call ID METHOD [PARAMS]
  chimirror-ctl limits [options]
  chimirror-ctl limit [options]
  chimirror-ctl drain [options]
  chimirror-ctl check [options]
  chimirror-ctl manifest [options] [NAME]
  chimirror-ctl add [options] [--set KEY=VALUE]... NAME -- COMMAND...
  chimirror-ctl remove [options] NAME
  chimirror-ctl --help
  chimirror-ctl --version

Verbs:
  sessions                     The live sessions, the oldest first.
  show                         All there is to know of one of them.
  log                          The journal of one session, live or ended.
  history                      Ended sessions, from the journal.
  stats                        Rates, totals, and refusals by cause.
  close                        End sessions; their clients see 1001 drain.
  kill                         End sessions by force, at once.
  pause                        Let nothing pass on stdin, stdout or stderr (on all,
                               if none is named), and lose nothing.
  resume                       Let it pass again.
  call                         Call a METHOD of a session with PARAMS in JSON; those
                               that are not ours are its application's.
  limits                       The limits that hold, and what is used of them.
  limit                        Change limits.
  drain                        Accept nothing any more, let sessions end.
  check                        Is this machine set up right, and if not, what to do.
  manifest                     What an application tells its clients, as AsyncAPI;
                               without a NAME, the list of all.
  add                          Serve an application by name: write its file.
  remove                       Take such an application away again.

Options:
  --json                       sessions, show, history, stats, limits, check: print
                               JSON.
  --watch                      sessions: print them again every second.
  --sort KEY                   sessions: by id, peer, age, application, state, in,
                               out, cpu, memory or tasks. [default: age]
  --peer PEER                  sessions, history: of this address or network, or
                               with this text in their peer.
  --application TEXT           sessions, history, limits, limit: sessions with this
                               text in their application or command; limits of the
                               application of this name, with units of its own.
  --older TIME                 sessions: at least this old.
  --younger TIME               sessions: at most this old.
  --follow, -f                 log: go on with what is logged from now on.
  --since WHEN                 history, stats: from then on: 2h (ago), today,
                               yesterday, 2026-11-21 or "2026-11-21 10:30"
                               (history: no bound; stats: 1h).
  --lines N                    history: the newest N (100, or with --since all).
  --memory-max SIZE            limit: memory of all sessions together.
  --tasks-max N                limit: processes and threads of all together.
  --cpu-quota PERCENT          limit: CPU time of all together; 100% is one core.
  --session-memory-max SIZE    limit: memory of each new session.
  --session-tasks-max N        limit: processes and threads of each.
  --session-timeout TIME       limit: how long each may last.
  --sessions N                 limit: sessions at once.
  --sessions-per-source N      limit: sessions at once from one address.
  --runtime                    limit: until the machine restarts.
  --now                        drain: end the sessions, with 1001 drain.
  --apps DIR                   check, manifest, add, remove: where the application
                               files are (/etc/chimirror/apps; check: what the units
                               serve). Then check looks at nothing else.
  --url URL                    manifest: of the server, such as wss://play.example.
  --set KEY=VALUE              add: a key of its file, such as framing=lines or
                               interface.title=Animals; repeatable.
  --own-socket ADDRESS         add: give it units of its own, listening there,
                               instead of a file.
  --help                       Print this text and exit.
  --version                    Print the version and exit.

An ID may be shortened as long as only one session has it.

See chimirror-ctl(1).
"""

LIMITS = (
    "--memory-max",
    "--tasks-max",
    "--cpu-quota",
    "--session-memory-max",
    "--session-tasks-max",
    "--session-timeout",
    "--sessions",
    "--sessions-per-source",
)
# What each verb takes.
VERBS = {
    "sessions": (
        "--json",
        "--watch",
        "--sort",
        "--peer",
        "--application",
        "--older",
        "--younger",
    ),
    "show": ("--json",),
    "log": ("--follow",),
    "history": ("--json", "--since", "--lines", "--peer", "--application"),
    "stats": ("--json", "--since"),
    "close": (),
    "kill": (),
    "pause": (),
    "resume": (),
    "call": (),
    "limits": ("--json", "--application"),
    "limit": (*LIMITS, "--runtime", "--application"),
    "drain": ("--now",),
    "check": ("--json", "--apps"),
    "manifest": ("--apps", "--url"),
    "add": ("--set", "--apps", "--own-socket"),
    "remove": ("--apps",),
}
FLAGS = ("--json", "--watch", "--follow", "--runtime", "--now", "--help", "--version")
VALUED = (
    "--sort",
    "--peer",
    "--application",
    "--older",
    "--younger",
    "--since",
    "--lines",
    "--apps",
    "--url",
    "--set",
    "--own-socket",
    *LIMITS,
)
REPEATED = "--set"
SHORT = {"-f": "--follow"}
ALONE = ("--help", "--version")
# Verbs of one application, and what else they take.
NAMED = {
    "manifest": "",
    "add": ", and behind -- what to start: add NAME -- COMMAND [ARG...]",
    "remove": "",
}


class Given(NamedTuple):
    """What the command line asks for.

    Attributes:
        verb: one of VERBS, --help or --version.
        ids: of sessions, as they were typed, and what else a verb takes; or the name
            of an application, and what it is to start.
        options: those that were given, by name; a flag's value is "".
        settings: the values of --set.
    """

    verb: str
    ids: tuple[str, ...] = ()
    options: dict[str, str] = {}  # noqa: RUF012  # never changed
    settings: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        return name in self.options


def parse(argv: Sequence[str]) -> Given:
    """Read a command line.

    Args:
        argv: without the name of the program.

    Raises:
        Failure: it makes no sense; the text says what to write instead.
    """
    given, words, settings = _scan(argv)
    for name in ALONE:
        if name in given:
            return Given(name)
    verb = words[0] if words else ""
    for name in given:
        if name not in VERBS.get(verb, given):
            raise _wrong(_foreign(verb, name))
    try:
        docopt(USAGE, list(argv), default_help=False)
    except (DocoptExit, DocoptLanguageError):
        raise _wrong(_fault(words)) from None
    return Given(verb, tuple(words[1:]), given, tuple(settings))


def _scan(argv: Sequence[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """The options that were given, none abbreviated; the words; the settings."""
    given: dict[str, str] = {}
    words: list[str] = []
    settings: list[str] = []
    rest = iter(argv)
    for token in rest:
        if token == "--":
            words += rest
        elif token[:1] != "-" or token == "-":
            words.append(token)
        else:
            name, value = _option(token, rest)
            if name == REPEATED:
                settings.append(value)
            elif name in given:
                raise _wrong(f"{name} is given twice; give it once")
            given[name] = value
    return given, words, settings


def _option(token: str, rest: object) -> tuple[str, str]:
    """An option's name and value; the value may be the next word."""
    name, equals, value = token.partition("=")
    name = SHORT.get(name, name)
    if name in FLAGS:
        if equals:
            raise _wrong(f"{name} takes no value")
        return name, ""
    if name not in VALUED:
        raise _wrong(f"{name} is not an option; {_suggestion(name)}")
    if not equals:
        following = next(rest, None)  # type: ignore[call-overload]
        if following is None:
            raise _wrong(f"{name} needs a value")
        value = str(following)
    return name, value


def _suggestion(name: str) -> str:
    names = [*FLAGS, *VALUED]
    begun = [known for known in names if known.startswith(name)]
    close = begun or get_close_matches(name, names, n=1, cutoff=0.75)
    if len(name) < 4 or not close:
        return "--help lists the options"
    return f"write {' or '.join(close)}"


def _fault(words: Sequence[str]) -> str:
    """Why docopt did not like it."""
    if not words:
        return f"no verb; write one of {', '.join(VERBS)}"
    verb, *ids = words
    if verb not in VERBS:
        close = get_close_matches(verb, VERBS, n=1)
        hint = f"write {close[0]}" if close else "--help lists the verbs"
        return f'"{verb}" is not a verb; {hint}'
    if verb in NAMED:
        return f"{verb} takes one NAME{NAMED[verb]}"
    if f"{verb} ID" not in USAGE and f"{verb} [options] ID" not in USAGE:
        return f'{verb} takes no "{ids[0]}"' if ids else f"{verb} cannot be read"
    if not ids:
        return f"{verb} needs the ID of a session; chimirror-ctl sessions lists them"
    call = "an ID, a METHOD and PARAMS, one word of JSON in quotes"
    return f"{verb} takes {call if verb == 'call' else 'one ID'}"


def _foreign(verb: str, name: str) -> str:
    owners = [other for other, names in VERBS.items() if name in names]
    return f"{verb} takes no {name}; that belongs to {', '.join(owners)}"


def _wrong(text: str) -> Failure:
    return Failure(os.EX_USAGE, f"{text}\nUsage: chimirror-ctl VERB [options] [ID...]")
