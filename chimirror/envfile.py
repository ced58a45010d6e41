"""Files of environment variables, for secrets that must not show in ps(1).

Reads the part of systemd's EnvironmentFile= (systemd.exec(5)) that means the same to
everybody: ``NAME=VALUE`` lines, blank lines, comments that begin with # or ;, values
in single quotes (nothing inside is special) or in double quotes (a backslash keeps a
double quote, a backslash, a backtick or a dollar sign).  What systemd would read in
another way than a reader expects (continued lines, quotes inside a plain value) is
refused, not guessed.  Loaded only when --env-file is given.
"""

from __future__ import annotations

import os

from chimirror import names

_LARGEST_FILE = 1 << 20
_ESCAPED = '"\\`$'


def read(path: str) -> dict[str, str]:
    """The variables of one file.

    Args:
        path: The file; at most 1 MiB, bytes that are not UTF-8 are kept as they are.

    Raises:
        ValueError: One line that names the file, and the line where there is one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(content) > _LARGEST_FILE or b"\0" in content:
        raise ValueError(f"{path}: not a file of variables (over 1 MiB, or NUL bytes)")
    return parse(os.fsdecode(content), path)


def parse(text: str, path: str) -> dict[str, str]:
    """The variables of a text; the last one of a name wins."""
    values: dict[str, str] = {}
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if not line or line[0] in "#;":
            continue
        try:
            values.update(_assignment(line))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return values


def _assignment(line: str) -> dict[str, str]:
    # The line is not quoted in an error: it may hold a secret.
    name, equals, value = line.partition("=")
    if not equals:
        raise ValueError("no NAME=VALUE here; comments begin with #")
    try:
        # Spaces before the value mean nothing to systemd, those before "=" do.
        return names.variables([f"{name}={_value(value.lstrip())}"])
    except names.NotAName:
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
    value, position = "", 1
    while position < len(text):
        character = text[position]
        if character == '"':
            break
        if character == "\\" and text[position + 1 : position + 2] in _ESCAPED:
            position += 1
            character = text[position : position + 1]
        value += character
        position += 1
    if position != len(text) - 1:
        raise ValueError("the double quote does not end at the end of the line")
    return value


def read_all(paths: list[str]) -> dict[str, str]:
    """Variables from files; the last one of a name wins."""
    values: dict[str, str] = {}
    for path in paths:
        values.update(read(path))
    return values
