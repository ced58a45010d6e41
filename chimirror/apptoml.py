"""The text of an application file: TOML in, checked fields of a Config out.

Law: a key is the name of an option and its value goes to the parser of that option, so
that a file means what the command line would; an error says in which line, and what to
write instead. Loaded only where no compiled form is at hand (`appfile`).
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chimirror.options import SERVER_ONLY, SHARED, Option
from chimirror.wire.schema import faults, unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_A_FILE = """
    framing stderr subprotocol origin direction control pty max-message max-sessions
    idle-timeout session-timeout ping-interval ping-timeout linger-timeout stop-grace
    kill-grace pass-env env env-file directory
""".split()
OPTIONS = {
    option.name.removeprefix("--"): option
    for option in SERVER_ONLY + SHARED
    if option.name.removeprefix("--") in OF_A_FILE
}
KEYS = ("command", "arguments", *OF_A_FILE, "interface")
TABLES = {"env": 'NAME = "value"', "subprotocol": 'mcp = "lines"'}
LISTS = {"framing", "pass-env", "origin", "env-file"}
BEARING = ("env-file", "framing", "subprotocol", "direction")  # on other keys
TEXTS = ("title", "purpose", "version")
SIDES = ("send", "receive")
Path = tuple[str, ...]
Fields = dict[str, Any]


class Unusable(ValueError):
    """A text that describes no application.

    Attributes:
        line: where, from 1 up; 0 where it is not about any.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Wrong(ValueError):
    """A value that cannot be used, and where it is."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def parse(text: bytes) -> Fields:
    """The fields that the file of an application names.

    Raises:
        Unusable: with the line, the reason and what to write instead.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise Unusable(line, "not UTF-8; save it as UTF-8") from None
    try:
        return check(tomllib.loads(decoded))
    except tomllib.TOMLDecodeError as error:
        raise Unusable(*_syntax(str(error), decoded)) from None
    except RecursionError:
        raise Unusable(0, "nested too deeply") from None
    except Wrong as wrong:
        raise Unusable(line_of(decoded, wrong.path), str(wrong)) from None


def _syntax(message: str, text: str) -> tuple[int, str]:
    """Line and reason of what tomllib says."""
    reason, _, place = message.partition(" (at ")
    found = re.match(r"line (\d+)", place)
    line = int(found[1]) if found else text.count("\n") + (not text.endswith("\n"))
    return line, f"not TOML: {reason}"


def line_of(text: str, path: Path) -> int:
    """The line in which a key of a text that is TOML begins to be there.

    The beginning of a TOML text, cut at the right place, is TOML; cut at a wrong one,
    inside a value of several lines, it is not, and has what the last right one had.
    """
    lines = text.split("\n")

    def has(count: int) -> bool:
        while True:
            try:
                value: Any = tomllib.loads("\n".join(lines[:count]))
                break
            except tomllib.TOMLDecodeError:
                count -= 1
        for key in path:
            if isinstance(value, list):
                return True  # as much of it as can be said
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True

    low, high = 0, len(lines)  # has not, has
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has(middle) else (middle, high)
    while low and not _is_toml(lines[:low]):
        low -= 1
    return low + 1


def blame(text: bytes, reason: str) -> int:
    """The line of a file that was in order, and is not together with other things.

    Args:
        reason: what is wrong; it names an option first, or a file of --env-file.
    """
    decoded = text.decode()
    known = tomllib.loads(decoded)
    for key in (reason.partition(":")[0].removeprefix("--"), *BEARING):
        if key in known:
            return line_of(decoded, (key,))
    return 1


def _is_toml(lines: list[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def check(document: dict[str, Any]) -> Fields:
    """The fields of a file that is TOML.

    Raises:
        Wrong: where, and why.
    """
    fields: Fields = {"command": _command(document)}
    for key, value in document.items():
        if key in OPTIONS:
            option = OPTIONS[key]
            fields[option.field] = _value(key, option, value)
        elif key == "interface":
            fields["interface"] = _interface(value)
        elif key not in ("command", "arguments"):
            raise Wrong((key,), _unknown(key, KEYS))
    _match(fields)
    return fields


def _unknown(key: str, known: Sequence[str]) -> str:
    close = get_close_matches(key, known, n=1)
    hint = f"write {close[0]}" if close else f"the keys are {', '.join(known)}"
    return f'"{key}" is no key here; {hint}'


def _command(document: dict[str, Any]) -> tuple[str, ...]:
    hint = 'write command = ["python3", "game.py"]'
    if "command" not in document:
        raise Wrong((), f"no command; {hint}")
    command = document["command"]
    if isinstance(command, str):
        hint = f"write {_quoted(command.split())}"
    if not isinstance(command, list) or not command or command[0] == "":
        raise Wrong(("command",), f"not a list of the program and its words; {hint}")
    words = [("command", word) for word in command]
    arguments = document.get("arguments", [])
    if not isinstance(arguments, list):
        raise Wrong(("arguments",), 'not a list; write arguments = ["--fast"]')
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
        raise Wrong(path, f"{_what(value)} where a string belongs; write {what}")
    if "\0" in value:
        raise Wrong(path, "a NUL in a string; leave it out")
    return value


def _what(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    for kind, name in ((dict, "a table"), (list, "a list"), (str, "a string")):
        if isinstance(value, kind):
            return name
    return str(value)


def _value(key: str, option: Option, value: object) -> object:
    """As the option's parser reads it."""
    path = (key,)
    if not option.metavar:
        if not isinstance(value, bool):
            raise Wrong(path, f"{_what(value)}; write {key} = true or false")
        return value
    texts = _texts(key, value)
    if key == "env-file":
        for text in texts:
            if not text.startswith("/"):
                raise Wrong(path, f'"{text}" is not a whole path; begin it with /')
        _read_variables(texts)
        return tuple(texts)
    try:
        found = option.parse(texts if option.repeats else ",".join(texts))
    except ValueError as error:
        raise Wrong(path, str(error)) from None
    if key in TABLES and found != value:
        raise Wrong(path, "= in a name; leave it out")
    return found


def _texts(key: str, value: object) -> list[str]:
    """The texts that would stand on a command line."""
    path = (key,)
    if key in TABLES:
        if not isinstance(value, dict):
            raise Wrong(path, f"{_what(value)}; write {key} = {{ {TABLES[key]} }}")
        pairs = [(name, _string((key, name), each)) for name, each in value.items()]
        return [f"{name}={each}" for name, each in pairs]
    if key in LISTS and isinstance(value, list):
        return [_string(path, each) for each in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [str(value)]
    return [_string(path, value)]


def _read_variables(paths: list[str]) -> None:
    from chimirror import envfile

    try:
        envfile.read_all(paths)
    except ValueError as error:
        raise Wrong(("env-file",), str(error)) from None


def _match(fields: Fields) -> None:
    """What one key says of another."""
    for side, other in (SIDES, SIDES[::-1]):
        if fields.get("direction") == other and f"{side}_examples" in _said(fields):
            raise Wrong(("interface", side), f"direction is {other}; leave this out")


def _said(fields: Fields) -> Fields:
    said: Fields = fields.get("interface", {})
    return said


def _interface(table: object) -> Fields:
    """As Interface takes it."""
    at: Path = ("interface",)
    if not isinstance(table, dict):
        raise Wrong(at, f"{_what(table)}; write [interface] on a line of its own")
    said: Fields = {}
    for key, value in table.items():
        if key in TEXTS:
            said[key] = _string((*at, key), value)
        elif key in SIDES:
            said |= _messages((*at, key), value)
        else:
            raise Wrong((*at, key), _unknown(key, [*TEXTS, *SIDES]))
    return said


def _messages(at: Path, table: object) -> Fields:
    """What one side sends."""
    side = at[-1]
    if not isinstance(table, dict):
        raise Wrong(
            at, f"{_what(table)}; write [interface.{side}] on a line of its own"
        )
    for key in table:
        if key not in ("schema", "examples"):
            raise Wrong((*at, key), _unknown(key, ["schema", "examples"]))
    schema, examples = table.get("schema"), table.get("examples", [])
    if "schema" in table and not isinstance(schema, dict):
        hint = 'write schema = { type = "string" }'
        raise Wrong((*at, "schema"), f"{_what(schema)}; {hint}")
    if not isinstance(examples, list):
        hint = 'write examples = ["yes", "no"]'
        raise Wrong((*at, "examples"), f"{_what(examples)}; {hint}")
    for place, fault in faults(schema or {}):
        raise Wrong((*at, "schema", *place), f"{'.'.join(place) or 'this'} {fault}")
    for place, fault in [fault for each in examples for fault in unfit(each)]:
        raise Wrong((*at, "examples"), f"{'.'.join(place) or 'this'} {fault}")
    said: Fields = {f"{side}_examples": tuple(examples)}
    return said | {f"{side}_schema": schema} if "schema" in table else said
