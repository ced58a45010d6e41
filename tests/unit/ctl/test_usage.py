"""The command line of chimirror-ctl: accepted lines, and the errors of others."""

from __future__ import annotations

import os
import re
from itertools import chain

import pytest

from chimirror.ctl import usage, verbs
from chimirror.ctl.messages import CommandError

PARTS = usage.USAGE.split("\n\n")


def words(title: str) -> dict[str, str]:
    """Return the entries of a list in the usage text."""
    (part,) = (part for part in PARTS if part.startswith(f"{title}:\n"))
    entries = re.split(r"\n(?=  \S)", part)[1:]
    return {entry.split()[0]: " ".join(entry.split()[1:]) for entry in entries}


def test_verbs_are_those_of_the_text() -> None:
    assert list(usage.VERBS) == list(verbs.VERBS)
    assert set(words("Verbs")) == set(usage.VERBS)
    (lines,) = (part for part in PARTS if part.startswith("Usage:"))
    named = re.findall(r"chimirror-ctl \[?([a-z]+)", lines)
    assert set(named) == set(usage.VERBS)


def test_options_are_those_of_the_text() -> None:
    message = words("Options")
    valued_by_name = {option.name: option.metavar != "" for option in usage.OPTIONS}
    assert {name.rstrip(",") for name in message} == set(valued_by_name)
    assert valued_by_name.keys() - set(usage.ALONE) == set(chain(*usage.VERBS.values()))
    for name, text in message.items():
        option = name.rstrip(",")
        described = re.sub(r"^(-[fh]|[A-Z=]+) ", "", text)
        owners = {verb for verb, names in usage.VERBS.items() if option in names}
        if owners:
            listed = described.partition(":")[0].split(", ")
            assert set(listed) == owners, name
        valued = re.match(r"[A-Z=]+\b", text) is not None
        assert valued_by_name[option] == (valued and owners != set()), name


@pytest.mark.parametrize(
    ("line", "verb", "ids", "options"),
    [
        ("", "sessions", (), {}),
        ("--watch", "sessions", (), {"--watch": ""}),
        ("sessions", "sessions", (), {}),
        ("sessions --json --sort cpu", "sessions", (), {"--json": "", "--sort": "cpu"}),
        ("--json sessions --sort=cpu", "sessions", (), {"--json": "", "--sort": "cpu"}),
        ("show ab", "show", ("ab",), {}),
        ("log -f ab", "log", ("ab",), {"--follow": ""}),
        ("log ab --follow", "log", ("ab",), {"--follow": ""}),
        ("close a b -- c", "close", ("a", "b", "c"), {}),
        ("history --since -2h", "history", (), {"--since": "-2h"}),
        ("pause ab", "pause", ("ab",), {}),
        ("resume ab stdin stderr", "resume", ("ab", "stdin", "stderr"), {}),
        ("call ab reset", "call", ("ab", "reset"), {}),
        ("call ab reset [1]", "call", ("ab", "reset", "[1]"), {}),
        ("manifest", "manifest", (), {}),
        ("manifest --apps=/a b", "manifest", ("b",), {"--apps": "/a"}),
        ("check --apps /a", "check", (), {"--apps": "/a"}),
        ("add a -- b -c --d", "add", ("a", "b", "-c", "--d"), {}),
        ("add a --apps=/b -- c", "add", ("a", "c"), {"--apps": "/b"}),
        ("remove a", "remove", ("a",), {}),
        ("--help", "--help", (), {}),
        ("-h", "--help", (), {}),
        ("kill -h", "--help", ("kill",), {}),
        ("--help log a -f", "--help", ("log",), {}),
        ("add a -- b -h", "add", ("a", "b", "-h"), {}),
        ("drain --version", "--version", ("drain",), {}),
    ],
)
def test_good_lines(
    line: str, verb: str, ids: tuple[str, ...], options: dict[str, str]
) -> None:
    given = usage.parse(line.split())
    assert (given.verb, given.ids, given.options) == (verb, ids, options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("session", '"session" is not a verb; write sessions'),
        ("session -h", '"session" is not a verb; write sessions'),
        ("--now", "sessions takes no --now; that belongs to drain"),
        ("frobnicate", '"frobnicate" is not a verb; --help lists the verbs'),
        ("sessions --jso", "--jso is not an option; write --json"),
        ("sessions -x", "-x is not an option; --help lists the options"),
        ("sessions --json=yes", "--json takes no value"),
        ("sessions --sort", "--sort needs a value"),
        ("sessions --json --json", "--json is given twice; give it once"),
        ("log -f --follow a", "--follow is given twice; give it once"),
        ("sessions extra", 'sessions takes no "extra"'),
        ("drain --json", "drain takes no --json; that belongs to sessions, show"),
        ("limit --session 5", "--session is not an option; write --session-memory-max"),
        ("close", "close needs the ID of a session; chimirror-ctl sessions lists them"),
        ("show a b", "show takes one ID"),
        ("pause", "pause needs the ID of a session"),
        ("call a", "call takes an ID, a METHOD and PARAMS, one word of JSON in quotes"),
        ("call a b {} {}", "call takes an ID, a METHOD and PARAMS"),
        ("manifest a b", "manifest takes one NAME"),
        ("remove", "remove takes one NAME"),
        ("remove a b", "remove takes one NAME"),
        ("add", "add takes one NAME, and after -- the command: add NAME -- COMM"),
        ("add a", "add takes one NAME, and after -- the command"),
        ("add a b", "add takes one NAME, and after -- the command"),
        ("add a --", "add takes one NAME, and after -- the command"),
        ("remove --set a=b c", "remove takes no --set; that belongs to add"),
    ],
)
def test_bad_lines(line: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        usage.parse(line.split())
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("\nUsage: chimirror-ctl VERB [options] [ID...]")
    assert caught.value.status == os.EX_USAGE


def test_settings_may_be_repeated() -> None:
    given = usage.parse("add a --set b=c --set=d=e=f --apps /x -- cat".split())
    assert given.settings == ("b=c", "d=e=f")
    assert given.ids == ("a", "cat")


@pytest.mark.parametrize("verb", usage.VERBS)
def test_help_of_a_verb(verb: str) -> None:
    text = usage.help_text((verb,))
    purpose, synopsis, options, see = text.split("\n\n")
    assert " ".join(purpose.split()) == words("Verbs")[verb]
    title, line = synopsis.splitlines()
    assert line in PARTS[1].splitlines()
    assert (title, line.split()[1].strip("[]")) == ("Usage:", verb)
    found = re.findall(r"^  (--[a-z-]+)", options, re.MULTILINE)
    assert found == [*usage.VERBS[verb], "--help"]
    assert see == "See chimirror-ctl(1).\n"
    assert max(map(len, text.splitlines())) <= 80


def test_help_of_a_verb_leaves_out_other_verbs() -> None:
    text = " ".join(usage.help_text(("limit",)).split())
    assert "--application TEXT Only this application. The name of one" in text
    assert "sessions, history:" not in text
