"""Reads files of environment variables, for secrets that must not show in ps(1).

Supports the unambiguous part of systemd's EnvironmentFile= (systemd.exec(5)):

- ``NAME=VALUE`` lines, blank lines, and comments that begin with # or a semicolon
- values in single quotes, where no character is special
- values in double quotes, where a backslash keeps a double quote, a backslash, a
  backtick or a dollar sign

Text that systemd reads in another way than people expect is refused, not guessed:
continued lines, and quotes inside a plain value. Loaded only for --env-file.
"""

from __future__ import annotations

import os

from chimirror import regular_file
from chimirror.config import values

MAX_SIZE = 64 << 10  # bytes of all files of an application
MAX_FILES = 64  # of an application
_ESCAPED = '"\\`$'


def read(path: str) -> dict[str, str]:
    """Read the variables of one file.

    Args:
        path: The file, or a link to it. Bytes that are not UTF-8 are kept as they are.

    Raises:
        ValueError: One line that names the file, and the line number if there is one.
    """
    return read_files([path])


def read_files(paths: list[str]) -> dict[str, str]:
    """Read the variables of several files. The last line of a name wins.

    Raises:
        ValueError: As `read` does. Also if the files exceed MAX_FILES or MAX_SIZE.
    """
    if len(paths) > MAX_FILES:
        raise ValueError(
            f"{paths[MAX_FILES]}: over {MAX_FILES} files; put them together"
        )
    found: dict[str, str] = {}
    room = MAX_SIZE
    for path in paths:
        content = _read(path, room)
        room -= len(content)
        found.update(parse(os.fsdecode(content), path))
    return found


def _read(path: str, room: int) -> bytes:
    try:
        content, _ = regular_file.read(path, MAX_SIZE)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except regular_file.UnusableFile as error:
        text = f"{path}: {error}; write a file of NAME=VALUE lines"
        raise ValueError(text) from None
    if len(content) > room:
        text = f"{path}: the files of variables have over {MAX_SIZE >> 10} KiB in all"
        raise ValueError(f"{text}; leave some out")
    if b"\0" in content:
        raise ValueError(f"{path}: a NUL; write a file of NAME=VALUE lines")
    return content


def parse(text: str, path: str) -> dict[str, str]:
    """Read the variables of a text. The last line of a name wins."""
    found: dict[str, str] = {}
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if not line or line[0] in "#;":
            continue
        try:
            found.update(_assignment(line))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return found


def _assignment(line: str) -> dict[str, str]:
    # An error does not quote the line, which may hold a secret.
    name, equals, value = line.partition("=")
    if not equals:
        raise ValueError("no NAME=VALUE here; comments begin with #")
    try:
        # systemd ignores spaces before the value, but not those before the "=".
        return values.variables([f"{name}={_value(value.lstrip())}"])
    except values.InvalidVariableName:
        raise ValueError("no variable name before the =; write NAME=VALUE") from None


def _value(text: str) -> str:
    quote = text[:1]
    if quote == "'":
        return _single(text)
    if quote == '"':
        return _double(text)
    if any(c in "\"'\\" for c in text):
        raise ValueError("a quote or backslash in a plain value; write NAME='VALUE'")
    return text


def _single(text: str) -> str:
    if text.find("'", 1) != len(text) - 1 or len(text) < 2:
        raise ValueError("the single quote does not end at the end of the line")
    return text[1:-1]


def _double(text: str) -> str:
    parts: list[str] = []
    position = 1
    while position < len(text):
        character = text[position]
        if character == '"':
            break
        if character == "\\" and text[position + 1 : position + 2] in _ESCAPED:
            position += 1
            character = text[position : position + 1]
        parts.append(character)
        position += 1
    if position != len(text) - 1:
        raise ValueError("the double quote does not end at the end of the line")
    return "".join(parts)
