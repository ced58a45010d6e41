"""An application file means the same as a command line, or has an error in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror import config
from chimirror.apps.directory import merge
from chimirror.apps.file_fields import (
    OPTIONS,
    ApplicationSyntaxError,
    conflict_line,
    parse,
)
from chimirror.apps.toml_parser import TomlParser
from chimirror.config import options, parser, presets
from chimirror.ctl.toml_writer import document, value
from chimirror.framing import registry

BASE = parser.parse_server(["--apps", "/srv/apps"])

# For each key: its value in a file, and its words on a command line.
Both = tuple[object, list[str]]
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("CHIMIRROR_SESSION", "HTTP_PROXY")
)
TIMES = st.sampled_from(["off", "20", "1min 30s", "500ms", 7, 1.5])
DEADLINES = st.sampled_from(["20", "500ms", 3, 0.25])
FRAMINGS = st.lists(st.sampled_from([*registry.FRAMINGS]), unique=True)
ORIGINS = st.sampled_from(["https://a.example:443", "http://B.example", "null://x"])
TOKENS = st.from_regex(r"[a-z][a-z0-9.]{0,6}", fullmatch=True)


def once(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Both]:
    return values.map(lambda found: (found, [name, str(found)]))


def listed(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Both]:
    def both(found: list[str]) -> Both:
        return found, [word for each in found for word in (name, each)]

    return st.lists(values, max_size=3).map(both)


def tabled(
    name: str, names: st.SearchStrategy[str], values: st.SearchStrategy[str]
) -> st.SearchStrategy[Both]:
    def both(found: dict[str, str]) -> Both:
        pairs = [f"{key}={each}" for key, each in found.items()]
        return found, [word for pair in pairs for word in (name, pair)]

    return st.dictionaries(names, values, max_size=3).map(both)


def joined(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Both]:
    return st.lists(values, min_size=1, max_size=3).map(
        lambda found: (found, [name, ",".join(found)])
    )


KEYS: dict[str, st.SearchStrategy[Both]] = {
    "framing": FRAMINGS.filter(bool).flatmap(
        lambda names: st.sampled_from([names, ",".join(names)]).map(
            lambda found: (found, ["--framing", ",".join(names)])
        )
    ),
    "stderr": once("--stderr", st.sampled_from(["log", "discard"])),
    "subprotocol": tabled(
        "--subprotocol",
        TOKENS.filter(lambda name: not name.startswith("chimirror.")),
        st.sampled_from(["json", "lines"]),
    ),
    "protocol": once("--protocol", st.sampled_from([*presets.PRESETS])),
    "session-id-header": once("--session-id-header", st.just("X-Session-Id")),
    "origin": listed("--origin", ORIGINS),
    "multiline": once("--multiline", st.sampled_from(["refuse", "split"])),
    "direction": once("--direction", st.sampled_from(["send", "receive", "both"])),
    "read-only": st.booleans().map(lambda on: (on, ["--read-only"] * on)),
    "control": st.booleans().map(lambda on: (on, ["--control"] if on else [])),
    "tls-client": once("--tls-client", st.sampled_from(["required", "optional"])),
    "users": joined("--users", st.sampled_from(["ann", "bob", "é x"])),
    "groups": joined("--groups", st.sampled_from(["staff", "ops"])),
    "max-message": once("--max-message", st.sampled_from(["1M", 65536, "64K"])),
    "max-line": once("--max-line", st.sampled_from(["16M", 65536, "64K"])),
    "max-output-message": once(
        "--max-output-message", st.sampled_from(["32K", 1024, "1M"])
    ),
    "max-sessions": once("--max-sessions", st.integers(1, 99)),
    "session-memory-max": once(
        "--session-memory-max", st.sampled_from(["512M", 1 << 20, "off"])
    ),
    "session-tasks-max": once("--session-tasks-max", st.integers(1, 99)),
    "session-cpu-weight": once("--session-cpu-weight", st.integers(1, 10000)),
    "spares": once("--spares", st.integers(0, 9)),
    "spare-age": once("--spare-age", TIMES),
    "pass-env": listed("--pass-env", NAMES),
    "env": tabled("--env", NAMES, WORDS),
    "pty": st.booleans().map(lambda found: (found, ["--pty"] * found)),
    "user": once("--user", st.sampled_from(["1000", 1000])),
    "directory": once("--directory", st.sampled_from(["/", "/srv/a b", '/"\\'])),
    **{
        key: once(f"--{key}", TIMES)
        for key in ("idle-timeout", "session-timeout", "ping-interval")
    },
    **{
        key: once(f"--{key}", DEADLINES)
        for key in ("ping-timeout", "linger-timeout", "stop-grace", "kill-grace")
    },
}
COMMANDS = st.lists(WORDS, min_size=1, max_size=3).filter(lambda words: words[0])


def text_of(fields: dict[str, Any]) -> str:
    return document({(key,): value for key, value in fields.items()})


def test_every_key_is_an_option() -> None:
    assert set(KEYS) | {"env-file"} == set(OPTIONS)
    assert all(option.scope & options.SESSION for option in OPTIONS.values())


@settings(max_examples=200)
@given(
    chosen=st.fixed_dictionaries({}, optional=KEYS),
    command=COMMANDS,
    arguments=st.lists(WORDS, max_size=2),
)
def test_a_file_means_what_the_command_line_would(
    chosen: dict[str, Both], command: list[str], arguments: list[str]
) -> None:
    if "protocol" in chosen and chosen.get("subprotocol") == ({}, []):
        del chosen["subprotocol"]  # an empty table replaces that of the preset
    fields = {key: in_file for key, (in_file, _) in chosen.items()}
    fields |= {"command": command, "arguments": arguments}
    line = [word for _, words in chosen.values() for word in words]
    parsed = parse(text_of(fields).encode())
    try:
        expected = parser.parse_server([*line, "--", *command, *arguments])
    except parser.UsageError as error:  # one option excludes another
        with pytest.raises(ValueError) as caught:
            merge(BASE, parsed)
        assert str(caught.value) == error.text
        return
    found = merge(BASE, parsed)
    for name in config.Config.__slots__:
        one, other = getattr(found, name), getattr(expected, name)
        if name == "user" and one and other:
            assert (one.ids, one.variables) == (other.ids, other.variables)
        elif name != "apps":
            assert one == other, name


# Options of the command line and keys of the file. Then the result: protocol, framings,
# field of the session's id, and number of options that the preset has set.
OVERRIDES = [
    ("--protocol acp", "", "acp", ("lines", "stdio"), "Acp-Connection-Id", 4),
    ("--protocol acp", 'framing = "json"', "acp", ("json",), "Acp-Connection-Id", 3),
    ("--protocol acp", 'protocol = "lsp"', "lsp", ("lsp", "stdio"), None, 3),
    ("--protocol lsp --framing json", 'protocol = "acp"', "acp", ("lines", "stdio"),
     "Acp-Connection-Id", 4),
    ("--session-id-header X-Id", 'protocol = "lsp"', "lsp", ("lsp", "stdio"), "X-Id",
     3),
    ("--protocol acp --session-id-header X-Id", 'protocol = "lsp"', "lsp",
     ("lsp", "stdio"), "X-Id", 3),
    ("", 'framing = ["json"]\nprotocol = "acp"', "acp", ("json",),
     "Acp-Connection-Id", 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "keys", "protocol", "framings", "header", "count"), OVERRIDES
)
def test_a_preset_of_the_file_replaces_that_of_the_command_line(
    line: str,
    keys: str,
    protocol: str,
    framings: tuple[str, ...],
    header: str | None,
    count: int,
) -> None:
    base = parser.parse_server(["--apps", "/srv", *line.split()])
    found = merge(base, parse(f'command = ["cat"]\n{keys}\n'.encode()))
    assert (found.protocol, found.framings) == (protocol, framings)
    assert (found.session_id_header, len(found.preset)) == (header, count)
    assert (found.max_message, found.max_line) == (16 << 20, 64 << 20)
    assert found.subprotocols == {}


def test_a_preset_that_conflicts_is_found_in_its_line() -> None:
    base = parser.parse_server(["--apps", "/srv", "--pty"])
    text = b'command = ["cat"]\nprotocol = "acp"\n'
    with pytest.raises(ValueError) as caught:
        merge(base, parse(text))
    assert conflict_line(text, str(caught.value)) == 2
    with pytest.raises(ApplicationSyntaxError) as refused:
        parse(b'command = ["cat"]\nprotocol = "acb"\n')
    text_of_error = '"acb" is not a protocol with a preset; write acp'
    assert (refused.value.line, str(refused.value)) == (2, text_of_error)


def test_files_of_variables(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A=one\nB=one\n")
    (tmp_path / "two").write_text("B=two\nC=two\n")
    base = parser.parse_server(["--apps", "/srv", "--env", "A=line", "--env", "D=line"])
    text = f"""
command = ["cat"]
env-file = ["{tmp_path}/one", "{tmp_path}/two"]
env = {{ C = "own" }}
"""
    fields = parse(text.encode())
    env = {"A": "one", "B": "two", "C": "own", "D": "line"}
    assert merge(base, fields).env == env
    assert "one" not in str(fields.values()).replace(f"{tmp_path}/one", "")


def test_interface() -> None:
    text = b"""
command = ["cat"]
[interface]
title = "Animals"
purpose = "Guesses."
version = "1.0"
[interface.send]
schema = { type = "string" }
examples = ["yes", 1, { a = [1.5, false] }]
[interface.receive]
"""
    assert parse(text)["interface"] == {
        "title": "Animals",
        "purpose": "Guesses.",
        "version": "1.0",
        "send_schema": {"type": "string"},
        "send_examples": ("yes", 1, {"a": [1.5, False]}),
        "receive_examples": (),
    }


COMMAND = 'command = ["cat"]\n'
WRONG = [
    ("", 1, 'no command; write command = ["python3", "game.py"]'),
    ('framing = "json"\n', 1, "no command; write command"),
    ('command = "cat -n"', 1, 'write command = ["cat", "-n"]'),
    ("command = []", 1, "not a list of the program and its words"),
    ('command = [""]', 1, "not a list of the program and its words"),
    ('command = ["cat", 1]', 1, '1 where a string belongs; write "1"'),
    ('command = ["a\\u0000"]', 1, "a NUL in a string; leave it out"),
    (COMMAND + 'arguments = "x"', 2, 'not a list; write arguments = ["--fast"]'),
    (COMMAND + "\n# x\nframimg = 1", 4, '"framimg" is no key here; write framing'),
    (COMMAND + "xyzzy = 1", 2, '"xyzzy" is no key here; the keys are command,'),
    (COMMAND + "listen = 1", 2, "here; --listen belongs to the command line of the"),
    (COMMAND + 'host = "a"', 2, "here; --host belongs to the command line of the"),
    ('kommand = ["cat"]', 1, '"kommand" is no key here; write command'),
    ('\nCMD = ["cat"]', 2, '"CMD" is no key here; write command'),
    (COMMAND + "args = []", 2, '"args" is no key here; write arguments'),
    (COMMAND + "Max_Message = 1", 2, '"Max_Message" is no key here; write max-mess'),
    (COMMAND + "ping = 1", 2, '"ping" is no key here; write ping-interval'),
    (COMMAND + "title = 'x'", 2, "no key here; write [interface] above it, or inter"),
    (COMMAND + "[interface]\nframing = 'x'", 3, "here; write it above the first line"),
    (COMMAND + f"{'x' * 30000} = 1", 2, "the keys are command"),
    (COMMAND + 'framing = "xml"', 2, '"xml" is not a framing; write json, stdio'),
    (COMMAND + "framing = [\n'json',\n'json',\n]", 2, '"json" is named twice'),
    (COMMAND + "framing = []", 2, '"" is not a framing'),
    (COMMAND + "origin = [\n'https://*.x']", 2, "as in vscode-webview://*; else name"),
    (COMMAND + "framing = { a = 1 }", 2, "a table where a string belongs"),
    (COMMAND + 'users = ["CN=ann,O=x"]', 2, "a comma in a name; write ["),
    (COMMAND + 'groups = ["a", "b,c"]', 2, "a comma in a name; write ["),
    (COMMAND + "stderr = true", 2, "true where a string belongs"),
    (COMMAND + 'idle-timeout = "20x"', 2, '"20x" is not a time; write 20, 500ms'),
    (COMMAND + "idle-timeout = 1979-05-27", 2, '1979-05-27 is a date or time; write "'),
    (COMMAND + "max-sessions = 0", 2, '"0" is not a count; write a whole number'),
    (COMMAND + 'env-file = "a"', 2, '"a" is not a whole path; begin it with /'),
    (COMMAND + 'env = "A=1"', 2, 'a string; write env = { NAME = "value" }'),
    (COMMAND + "[env]\nA = '1'\nB = 2\n", 4, '2 where a string belongs; write "2"'),
    (COMMAND + "env = { 'A=B' = 'c' }", 2, "= in a name; leave it out"),
    (COMMAND + "env = { 'A B' = 'c' }", 2, "does not begin with a variable name"),
    (COMMAND + "env = { CHIMIRROR_SESSION = '' }", 2, "is set by each session itself"),
    (COMMAND + "subprotocol = { a = 'b' }", 2, '"b" is not a framing'),
    (COMMAND + 'subprotocol = "a"', 2, 'write subprotocol = { mcp = "lines" }'),
    (COMMAND + "interface = 'x'", 2, "write [interface] on a line of its own"),
    (COMMAND + "[interface]\n\ntitl = 'x'", 4, '"titl" is no key here; write title'),
    (COMMAND + "[interface]\nversion = 1.5", 3, '1.5 where a string belongs; write "'),
    (COMMAND + "[interface]\nsend = 1", 3, "write [interface.send] on a line of its"),
    (COMMAND + "[interface.send]\nexample = []", 3, "is no key here; write examples"),
    (COMMAND + "[interface.send]\nschema = 'x'", 3, "a string; write schema = { type"),
    (COMMAND + "[interface.send]\nexamples = 'x'", 3, "a string; write examples = ["),
    (COMMAND + "[interface.send]\n\nexamples = [1, nan]", 4, "not a JSON number"),
    (COMMAND + "[interface.send]\nexamples = [1979-05-27]", 3, "is a date or time"),
    (
        COMMAND + "[interface.send.schema]\ntype = 'object'\n\nrequired = inf",
        5,
        "required is not a JSON number",
    ),
    (
        COMMAND + "direction = 'receive'\n[interface.send]\nexamples = []",
        3,
        "direction is receive; leave this out",
    ),
    (
        COMMAND + "direction = 'send'\n[interface.receive]",
        3,
        "direction is send; leave this out",
    ),
    (COMMAND + "a = [1,\n2\n", 4, "not TOML: no comma or ] after an element"),
    (COMMAND + "framing = json", 2, 'not TOML: not a value; write "json" if it is'),
    (
        COMMAND + "stderr = 'log'\nstderr = 'log'\n",
        3,
        'not TOML: "stderr" has a value already',
    ),
]


@pytest.mark.parametrize(("text", "line", "reason"), WRONG)
def test_an_error_has_a_line_and_a_correction(
    text: str, line: int, reason: str
) -> None:
    with pytest.raises(ApplicationSyntaxError) as caught:
        parse(text.encode())
    assert reason in str(caught.value)
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(
        ApplicationSyntaxError, match="not UTF-8; save it as UTF-8"
    ) as caught:
        parse(COMMAND.encode() + b"# \xff\n")
    assert caught.value.line == 2


BEFORE = st.sampled_from(
    ["", "\n", "# a = 1\n", "x = '''\nstderr = 1\n'''\n", "y=[\n]\n"]
)


@given(
    before=st.lists(BEFORE, unique=True), after=st.sampled_from(["", "z = 1", "[t]"])
)
def test_the_line_of_a_key_is_where_it_begins(before: list[str], after: str) -> None:
    top = "".join(before)
    text = f"{top}stderr = [\n'a',\n]\n{after}"
    parser = TomlParser(text)
    parser.document()
    assert parser.find_line(("stderr",)) == top.count("\n") + 1


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*OPTIONS, "command", "interface"]), st.one_of(
    WORDS, st.integers(), st.booleans(), st.lists(WORDS), st.dictionaries(WORDS, WORDS)
)))  # fmt: skip
def test_any_document_is_a_file_or_an_error(fields: dict[str, Any]) -> None:
    try:
        parse(text_of(fields).encode())
    except ApplicationSyntaxError as error:
        assert 1 <= error.line <= len(fields) + 1
        assert str(error)


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(ApplicationSyntaxError):
        parse(garbage)


def test_values_are_written_as_they_are_read() -> None:
    assert value({"a": ["b", 1, True]}) == '{ a = ["b", 1, true] }'
