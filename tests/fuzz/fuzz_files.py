"""Fuzz targets for what operators write: files, schemas, command lines, texts."""

from __future__ import annotations

import datetime
import json
import tomllib
from unittest import mock

from chimirror import text
from chimirror.apps import file_fields, toml_parser
from chimirror.config import env_file, options, parser, usage
from chimirror.manifest import schema

UNQUOTABLE = str.maketrans("", "", "\n\r\0'")
QUOTED = str.maketrans({c: f"\\{c}" for c in '"\\`$'})
VALUES = [option for option in options.OPTIONS if option._parse]
# The parsers of these options read files or the current directory.
READING = {"--env-file", "--directory", "--apps"}


def fuzz_toml(data: bytes) -> None:
    """A text has the values of tomllib, or exceeds a bound that tomllib lacks."""
    try:
        content = data.decode()
    except UnicodeDecodeError:
        return
    try:
        found: object = toml_parser.parse(content)
    except toml_parser.TomlSyntaxError as error:
        assert 1 <= error.line <= content.count("\n") + 1
        found = error
    if content.count(".") + content.count("[") + content.count("{") > 100:
        return  # tomllib needs quadratic time and recursion
    try:
        expected: object = tomllib.loads(content)
    except ValueError:
        expected = None
    if isinstance(found, ValueError):
        assert expected is None or is_beyond_bounds(expected, content), found
    else:
        assert repr(found) == repr(expected)


def is_beyond_bounds(value: object, content: str) -> bool:
    """Tell whether a document has a date, a time, or a very large number."""
    if isinstance(value, dict):
        return any(is_beyond_bounds(each, content) for each in value.values())
    if isinstance(value, list):
        return any(is_beyond_bounds(each, content) for each in value)
    if isinstance(value, int):
        return not -(1 << 63) <= value < 1 << 63
    if isinstance(value, float):
        return len(content) > toml_parser._MAX_DIGITS
    return isinstance(value, (datetime.date, datetime.time))


def fuzz_application_file(data: bytes) -> None:
    """A text has valid fields, or a line and a reason."""
    try:
        fields = file_fields.parse(data)
    except file_fields.ApplicationSyntaxError as error:
        assert 0 <= error.line <= data.count(b"\n") + 1
        assert str(error)
        return
    assert fields["command"]
    assert all(isinstance(word, str) for word in fields["command"])


def fuzz_env_file(data: bytes) -> None:
    """A text has variables or a line with its error, and quoted values are kept."""
    content = data.decode("utf-8", "surrogateescape")
    try:
        for name, value in env_file.parse(content, "x").items():
            assert "\n" not in name + value
            assert "=" not in name
    except ValueError as error:
        assert str(error).startswith("x:")
    value = content.translate(UNQUOTABLE)
    for written in (f'"{value.translate(QUOTED)}"', f"'{value}'"):
        found = env_file.parse(f"NAME={written}\n", "x")
        assert found == {"NAME": value}


def fuzz_schema(data: bytes) -> None:
    """A schema without errors can be moved into a manifest, which is JSON."""
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return
    errors = schema.find_errors(found)
    assert all(words for _, words in errors)
    if not errors:
        json.dumps(schema.relocate(found, "#/components/schemas/x"), allow_nan=False)
    if not schema.find_example_errors(found):
        json.dumps(found, allow_nan=False)


def fuzz_toml_schema(data: bytes) -> None:
    """A schema of an application file has errors or is JSON."""
    try:
        found = toml_parser.parse(data.decode())
    except ValueError:
        return
    if not schema.find_errors(found):
        json.dumps(schema.relocate(found, "#/x"), allow_nan=False)


def fuzz_option_value(data: bytes) -> None:
    """A value is read or refused with a text that shows how to write it."""
    option = VALUES[data[0] % len(VALUES)] if data else VALUES[0]
    if option.name in READING:
        return
    word = data[1:].decode("utf-8", "surrogateescape")
    try:
        option.parse([word, word[::-1]] if option.repeats else word)
    except ValueError as error:
        assert str(error)


def fuzz_command_line(data: bytes) -> None:
    """A command line gives a Config, a UsageError, or help."""
    argv = [part.decode("utf-8", "surrogateescape") for part in data.split(b"\0")]
    if any(word.startswith(("--env-file", "--apps")) for word in argv):
        return  # it would read files of this machine
    for parse in (parser.parse_bridge, parser.parse_server, parser.parse_zygote):
        printed: list[str] = []
        try:
            with mock.patch.object(usage, "_print", printed.append):
                parse(argv)
        except parser.UsageError as error:
            assert str(error)
        except SystemExit:
            assert "".join(printed)


def fuzz_text(data: bytes) -> None:
    """Escaped text is printable, bounded, and of one line."""
    for value in (data, data.decode("utf-8", "surrogateescape")):
        field = text.escape(value)
        assert field.isprintable()
        assert len(field.encode()) <= text.MAX_FIELD
        assert text.printable(value).replace("\t", "").isprintable()
        assert (
            text.printable(value, "\n")
            .replace("\t", "")
            .replace("\n", "x")
            .isprintable()
        )
        line = text.escape_line(value, 20)
        assert line.isprintable()
        assert len(line) <= 23
