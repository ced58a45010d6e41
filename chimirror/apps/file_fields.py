"""Reads the text of an application file: TOML in, checked fields of a Config out.

Guarantees: a key is the name of an option, and the parser of that option reads its
value. So a file and a command line mean the same. An error names the line, and how to
correct it. The time is linear in the length of the text. Loaded only for application
files.
"""

from __future__ import annotations

from chimirror.apps.toml_parser import TomlParser, TomlSyntaxError
from chimirror.config.options import FILE, Option, options_of
from chimirror.config.options import OPTIONS as ALL_OPTIONS
from chimirror.text import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Path = tuple[str, ...]
    Fields = dict[str, Any]  # of a Config, and `interface`

OPTIONS = {option.name.removeprefix("--"): option for option in options_of(FILE)}
COMMAND_LINE = {option.name for option in ALL_OPTIONS if option.field}
KEYS = ("command", "arguments", *OPTIONS, "interface")
TABLES = {"env": 'NAME = "value"', "subprotocol": 'mcp = "lines"'}
LISTS = {"framing", "pass-env", "origin", "env-file", "users", "groups"}
NAMES = {"users", "groups"}
# keys that restrict others
DEPENDENT = ("env-file", "framing", "subprotocol", "direction", "protocol")
TEXTS = ("title", "purpose", "version")
SIDES = ("send", "receive")
MAX_KEY = 64  # characters of an unknown key that are compared


class ApplicationSyntaxError(ValueError):
    """A text that describes no application.

    Attributes:
        line: The line of the error, from 1 up, or 0.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class InvalidValue(ValueError):
    """A value that cannot be used, with its path in the document."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def parse(text: bytes) -> Fields:
    """Read the fields from the text of an application file.

    Raises:
        ApplicationSyntaxError: Has the line, the reason and a correction.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ApplicationSyntaxError(line, "not UTF-8; save it as UTF-8") from None
    parser = TomlParser(decoded)
    try:
        return validate(parser.document())
    except TomlSyntaxError as error:
        raise ApplicationSyntaxError(error.line, f"not TOML: {error}") from None
    except InvalidValue as wrong:
        line = parser.find_line(wrong.path)
        raise ApplicationSyntaxError(line, str(wrong)) from None


def conflict_line(text: bytes, reason: str) -> int:
    """Find the line of an option that is valid alone, but not with others.

    Args:
        text: The text of the file.
        reason: The error. It begins with the name of an option, or of a file of
            --env-file.
    """
    parser = TomlParser(text.decode())
    known = parser.document()
    for key in (reason.partition(":")[0].removeprefix("--"), *DEPENDENT):
        if key in known:
            return parser.find_line((key,))
    return 1


def validate(document: dict[str, Any]) -> Fields:
    """Check a document, and read its fields.

    Raises:
        InvalidValue: Has the path of the value, and the reason.
    """
    _check_keys((), document, KEYS)
    fields: Fields = {"command": _command(document)}
    for key, value in document.items():
        if key in OPTIONS:
            option = OPTIONS[key]
            fields[option.field] = _value(key, option, value)
        elif key == "interface":
            fields["interface"] = _interface(value)
    if "protocol" in fields:
        from chimirror.config import presets

        preset = presets.expand(fields["protocol"], document)
        fields |= {**presets.read(preset), "preset": preset}
    _check_direction(fields)
    return fields


def _check_keys(at: Path, table: dict[str, Any], known: Sequence[str]) -> None:
    """Refuse unknown keys of a table. The first one is named, with a correction."""
    for key in table:
        if key not in known:
            raise InvalidValue(
                (*at, key), f'"{key}" is no key here; {_hint(key, known)}'
            )


def _hint(key: str, known: Sequence[str]) -> str:
    """Return a correction: the place of the key, the nearest key here, or all of them.

    Keys are compared without regard to case and to _ for -.
    """
    if key in KEYS:
        return "write it above the first line in [ ]"
    if key in TEXTS or key in SIDES:
        return f"write [interface] above it, or interface.{key}"
    if f"--{key}" in COMMAND_LINE:
        return f"--{key} belongs to the command line of the server"
    close = nearest(key[:MAX_KEY].replace("_", "-"), known)
    return f"write {close}" if close else f"the keys are {', '.join(known)}"


def _command(document: dict[str, Any]) -> tuple[str, ...]:
    hint = 'write command = ["python3", "game.py"]'
    if "command" not in document:
        raise InvalidValue((), f"no command; {hint}")
    command = document["command"]
    if isinstance(command, str):
        hint = f"write {_quoted(command.split())}"
    if not isinstance(command, list) or not command or command[0] == "":
        raise InvalidValue(
            ("command",), f"not a list of the program and its words; {hint}"
        )
    words = [("command", word) for word in command]
    arguments = document.get("arguments", [])
    if not isinstance(arguments, list):
        raise InvalidValue(("arguments",), 'not a list; write arguments = ["--fast"]')
    for key, word in words + [("arguments", word) for word in arguments]:
        _string((key,), word)
    return (*command, *arguments)


def _quoted(words: list[str]) -> str:
    return f"command = [{', '.join([_basic(word) for word in words])}]"


def _basic(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _string(path: Path, value: object) -> str:
    if not isinstance(value, str):
        what = _basic(str(value)) if isinstance(value, (int, float)) else '"text"'
        raise InvalidValue(
            path, f"{_describe(value)} where a string belongs; write {what}"
        )
    if "\0" in value:
        raise InvalidValue(path, "a NUL in a string; leave it out")
    return value


def _describe(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    for kind, name in ((dict, "a table"), (list, "a list"), (str, "a string")):
        if isinstance(value, kind):
            return name
    return str(value)


def _value(key: str, option: Option, value: object) -> object:
    """Read a value with the parser of its option."""
    path = (key,)
    if not option.metavar:
        if not isinstance(value, bool):
            raise InvalidValue(path, f"{_describe(value)}; write {key} = true or false")
        return value
    texts = _texts(key, value)
    if key == "env-file":
        for text in texts:
            if not text.startswith("/"):
                raise InvalidValue(
                    path, f'"{text}" is not a whole path; begin it with /'
                )
        return tuple(texts)  # read with the options that it is merged with
    try:
        found = option.parse(texts if option.repeats else ",".join(texts))
    except ValueError as error:
        raise InvalidValue(path, str(error)) from None
    if key in TABLES and found != value:
        raise InvalidValue(path, "= in a name; leave it out")
    return found


def _texts(key: str, value: object) -> list[str]:
    """Convert a value to the texts of a command line."""
    path = (key,)
    if key in TABLES:
        if not isinstance(value, dict):
            raise InvalidValue(
                path, f"{_describe(value)}; write {key} = {{ {TABLES[key]} }}"
            )
        pairs = [(name, _string((key, name), each)) for name, each in value.items()]
        return [f"{name}={each}" for name, each in pairs]
    if key in LISTS and isinstance(value, list):
        texts = [_string(path, each) for each in value]
        if key in NAMES and "," in "".join(texts):  # each part would be a name
            raise InvalidValue(path, 'a comma in a name; write ["ann", "bob"]')
        return texts
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [str(value)]
    return [_string(path, value)]


def _check_direction(fields: Fields) -> None:
    """Refuse examples of messages that the direction excludes."""
    interface = fields.get("interface", {})
    for side, other in (SIDES, SIDES[::-1]):
        if fields.get("direction") == other and f"{side}_examples" in interface:
            raise InvalidValue(
                ("interface", side), f"direction is {other}; leave this out"
            )
    if fields.get("read_only") and "send_examples" in interface:
        text = "read-only is true; leave this out"
        raise InvalidValue(("interface", "send"), text)


def _interface(table: object) -> Fields:
    """Read the [interface] table as arguments of Interface."""
    at: Path = ("interface",)
    if not isinstance(table, dict):
        raise InvalidValue(
            at, f"{_describe(table)}; write [interface] on a line of its own"
        )
    fields: Fields = {}
    _check_keys(at, table, (*TEXTS, *SIDES))
    for key, value in table.items():
        if key in TEXTS:
            fields[key] = _string((*at, key), value)
        else:
            fields |= _messages((*at, key), value)
    return fields


def _messages(at: Path, table: object) -> Fields:
    """Read the description of the messages of one direction."""
    side = at[-1]
    if not isinstance(table, dict):
        raise InvalidValue(
            at, f"{_describe(table)}; write [interface.{side}] on a line of its own"
        )
    _check_keys(at, table, ("schema", "examples"))
    schema, examples = table.get("schema"), table.get("examples", [])
    if "schema" in table and not isinstance(schema, dict):
        hint = 'write schema = { type = "string" }'
        raise InvalidValue((*at, "schema"), f"{_describe(schema)}; {hint}")
    if not isinstance(examples, list):
        hint = 'write examples = ["yes", "no"]'
        raise InvalidValue((*at, "examples"), f"{_describe(examples)}; {hint}")
    from chimirror.manifest.schema import find_errors, find_example_errors

    for place, fault in find_errors(schema or {}):
        raise InvalidValue(
            (*at, "schema", *place), f"{'.'.join(place) or 'this'} {fault}"
        )
    for place, fault in [
        fault for each in examples for fault in find_example_errors(each)
    ]:
        raise InvalidValue((*at, "examples"), f"{'.'.join(place) or 'this'} {fault}")
    fields: Fields = {f"{side}_examples": tuple(examples)}
    return fields | {f"{side}_schema": schema} if "schema" in table else fields
