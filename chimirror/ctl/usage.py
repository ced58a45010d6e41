"""The command line: the usage text for docopt-ng, and the options of each verb.

The text is the only table of verbs and options. Tests hold the completions and the
manual equal to it. docopt accepts abbreviated options and does not know which verb
takes which option, so both are checked here. Knows nothing of the commands.
"""

from __future__ import annotations

import os
import re
from textwrap import wrap
from typing import NamedTuple

from docopt import DocoptExit, DocoptLanguageError, docopt

from chimirror.config import parser
from chimirror.config.usage import read_options
from chimirror.ctl.messages import CommandError
from chimirror.text import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
Show, control, limit and end the sessions of this machine.

Usage:
  chimirror-ctl [sessions] [options]
  chimirror-ctl show [options] ID
  chimirror-ctl log [options] ID
  chimirror-ctl attach [options] ID
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
  chimirror-ctl undrain [options]
  chimirror-ctl metrics [options]
  chimirror-ctl agent [options]
  chimirror-ctl check [options]
  chimirror-ctl manifest [options] [NAME]
  chimirror-ctl add [options] [--set KEY=VALUE]... NAME -- COMMAND...
  chimirror-ctl remove [options] NAME
  chimirror-ctl --help
  chimirror-ctl --version

Verbs:
  sessions                     The live sessions, the oldest first. The default verb.
  show                         One session in full, with its processes and limits.
  log                          The journal of one session, live or ended.
  attach                       The output of one session from now on, until it ends
                               or Ctrl-C. The session does not notice.
  history                      Ended sessions, from the journal.
  stats                        Rates, totals, refusals by cause, and sums of each
                               user.
  close                        End sessions; their clients see 1001 closed by
                               operator.
  kill                         End sessions by force, at once.
  pause                        Pause stdin, stdout or stderr of a session (all, if
                               none is named). No data is lost.
  resume                       Resume them.
  call                         Call a METHOD of a session or of its application,
                               with PARAMS in JSON.
  limits                       The current limits, and how much of them is used.
  limit                        Change limits.
  drain                        Accept no more sessions, and let those that are there
                               continue.
  undrain                      Accept sessions again.
  metrics                      Metrics of the bridges of this machine, for
                               Prometheus.
  agent                        A line about the capacity that is left, for the
                               agent-check of HAProxy.
  check                        Check the setup of this machine, and name remedies.
  manifest                     The description of an application for its clients,
                               as AsyncAPI. Without a NAME, the list of all.
  add                          Serve an application by name: write its file.
  remove                       Remove the file or the units of an application.

Options:
  --json                       sessions, show, attach, history, stats, limits,
                               check: print JSON.
  --no-trunc                   sessions, history, stats, limits: print all columns
                               on a terminal, and cut nothing.
  --host HOSTS                 sessions, history, stats, limits, limit, drain,
                               undrain, check: on these hosts, over ssh, instead of
                               this one: a.example or root@a,root@b.
  --watch                      sessions: print them again every second.
  --sort KEY                   sessions: by id, peer, user, age, application, state,
                               in, out, cpu, memory or tasks. [default: age]
  --peer PEER                  sessions, history: those of this address or network,
                               or with this text in their peer.
  --user NAME                  sessions, history: those of this user.
  --application TEXT           sessions, history, limits, limit, agent: only this
                               application. sessions, history: a text in its name
                               or command. limits, limit, agent: the name of one
                               with its own units.
  --older TIME                 sessions: at least this old.
  --younger TIME               sessions: at most this old.
  --follow, -f                 log: continue with new records.
  --raw                        attach: do not escape control characters on a
                               terminal.
  --since WHEN                 history, stats: from that time on: 2h (ago), today,
                               yesterday, 2026-11-21 or "2026-11-21 10:30".
                               history: without it, all. stats: without it, 1h.
  --lines N                    history: the newest N (100, or with --since all).
  --memory-max SIZE            limit: memory of all sessions together.
  --tasks-max N                limit: processes and threads of all together.
  --cpu-quota PERCENT          limit: CPU time of all together; 100% is one core.
  --session-memory-max SIZE    limit: memory of each new session.
  --session-tasks-max N        limit: processes and threads of each session.
  --session-timeout TIME       limit: maximum duration of each session.
  --sessions N                 limit: concurrent sessions.
  --sessions-per-source N      limit: concurrent sessions from one address.
  --sessions-per-user N        limit: concurrent sessions of one user, in the server.
  --runtime                    limit: until the machine restarts.
  --now                        drain: end the sessions, with 1001 drain.
  --state FILE                 metrics: keep the counters in this file, since the
                               journal loses old records.
  --output FILE                metrics: replace this file, instead of printing.
  --apps DIR                   check, manifest, add, remove: the directory of the
                               application files (/etc/chimirror/apps). check: only
                               this directory, instead of the files of the units.
  --url URL                    manifest: the server, such as wss://play.example.
  --set KEY=VALUE              add: a key of the file, such as framing=lines or
                               interface.title=Animals; repeatable.
  --own-socket ADDRESS         add: create units of its own that listen there,
                               instead of a file.
  --help, -h                   Print this text, or after a verb that of the verb,
                               and exit.
  --version                    Print the version and exit.

An ID may be shortened to any unique prefix.

See chimirror-ctl(1).
"""

_VERB = re.compile(r"^  ([a-z]+) {2,}\S", re.MULTILINE)
_SCOPE = re.compile(r"^  (--[a-z-]+).*? {2,}([a-z]+(?:,\s+[a-z]+)*): ", re.MULTILINE)
# Sentences about some verbs begin with these verbs.
_SEGMENT = re.compile(r"(?:^|(?<=\. ))([a-z]+(?:, [a-z]+)*): ")
# The options of each verb: the description of an option begins with its verbs.
VERBS = {
    verb: tuple(
        name
        for name, verbs in _SCOPE.findall(USAGE)
        if verb in re.findall(r"\w+", verbs)
    )
    for verb in _VERB.findall(USAGE)
}
OPTIONS, SHORT = read_options(USAGE)
ALONE = ("--help", "--version")
DEFAULT_VERB = "sessions"
_COLUMN, _WIDTH = 31, 80  # of the descriptions in USAGE
# Verbs of one application, and their further arguments.
NAMED = {
    "manifest": "",
    "add": ", and after -- the command: add NAME -- COMMAND [ARG...]",
    "remove": "",
}


class CommandLine(NamedTuple):
    """A parsed command line.

    Attributes:
        verb: One of VERBS, --help or --version.
        ids: The positional arguments of the verb as typed, for most verbs session ids.
            For --help, the verb that the text is about, or none.
        options: The given options by name. The value of a flag is "".
        settings: The values of --set.
    """

    verb: str
    ids: tuple[str, ...] = ()
    options: dict[str, str] = {}  # noqa: RUF012  # never changed
    settings: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        return name in self.options


def parse(argv: Sequence[str]) -> CommandLine:
    """Parse a command line.

    Args:
        argv: The arguments without the name of the program.

    Raises:
        CommandError: The command line is wrong. The text names the correction.
    """
    try:
        words, given = parser.scan(OPTIONS, argv, options_first=False, short=SHORT)
    except parser.ScanError as error:
        raise _wrong(parser.explain(error, OPTIONS)) from None
    verb = words[0] if words else DEFAULT_VERB
    for name in ALONE:
        if name in given:
            if words and verb not in VERBS:
                raise _wrong(_fault(words))
            return CommandLine(name, words[:1])
    for name in given:
        if name not in VERBS.get(verb, given):
            raise _wrong(_foreign(verb, name))
    try:
        found = docopt(USAGE, list(argv), default_help=False)
    except (DocoptExit, DocoptLanguageError):
        raise _wrong(_fault(words)) from None
    options = {name: "" if found[name] is True else found[name] for name in given}
    settings = tuple(options.pop("--set", ()))
    # The positional arguments are those of scan(): docopt leaves the `--` among them.
    return CommandLine(verb, words[1:], options, settings)


def help_text(verbs: Sequence[str]) -> str:
    """Return USAGE, or the part of it about one verb: its usage and its options.

    Args:
        verbs: The verb, or nothing.
    """
    if not verbs:
        return USAGE
    (verb,) = verbs
    lists = dict(part.split("\n", 1) for part in USAGE.split("\n\n") if "\n" in part)
    usage = [
        line
        for line in lists["Usage:"].splitlines()
        if line.split()[1].strip("[]") == verb
    ]
    ((_, purpose),) = [e for e in _entries(lists["Verbs:"]) if e[0] == verb]
    text = "\n".join([*wrap(purpose, _WIDTH), "", "Usage:", *usage, "", "Options:"])
    for head, description in _entries(lists["Options:"]):
        _, *parts = _SEGMENT.split(description)
        sentences = [
            text[0].upper() + text[1:]
            for scope, text in zip(parts[::2], parts[1::2], strict=True)
            if verb in scope.split(", ")
        ]
        if head.startswith("--help"):
            sentences = ["Print this text and exit."]
        elif not sentences:
            continue
        lines = wrap("".join(sentences), _WIDTH - _COLUMN)
        text += f"\n{f'  {head}'.ljust(_COLUMN)}{lines[0]}"
        text += "".join(f"\n{' ' * _COLUMN}{line}" for line in lines[1:])
    return f"{text}\n\nSee chimirror-ctl(1).\n"


def _entries(part: str) -> list[tuple[str, str]]:
    """Return the head and the description of each entry of a list in USAGE."""
    found = []
    for entry in re.split(r"\n(?=  \S)", part):
        head, *words = re.split(r" {2,}|\n", entry.strip())
        found.append((head, " ".join(word for word in words if word)))
    return found


def _fault(words: Sequence[str]) -> str:
    """Return the error of a command line that docopt refuses."""
    verb, *ids = words or (DEFAULT_VERB,)
    if verb not in VERBS:
        close = nearest(verb, VERBS)
        hint = f"write {close}" if close else "--help lists the verbs"
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
    if name == "--host":
        return f"{verb} takes no --host; write ssh HOST chimirror-ctl {verb}"
    owners = [other for other, names in VERBS.items() if name in names]
    return f"{verb} takes no {name}; that belongs to {', '.join(owners)}"


def _wrong(text: str) -> CommandError:
    return CommandError(
        os.EX_USAGE, f"{text}\nUsage: chimirror-ctl VERB [options] [ID...]"
    )
