"""Finds and reads one application file, DIR/NAME.toml.

Guarantees: NAME is checked before any file is opened. Only a regular file of at most
MAX_SIZE in DIR itself is read. apps.file_fields reads its text.
"""

from __future__ import annotations

from chimirror import regular_file
from chimirror.builtin_modules import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.apps.file_fields import Fields

SUFFIX = ".toml"
MAX_SIZE = 64 << 10  # bytes: the time for reading a file is linear in its size
MAX_NAME = 64
MAX_REASON = 600  # characters of an error: it quotes the file
_ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_REST = "_.-"


class ApplicationFileError(ValueError):
    """An application file that cannot be used.

    Attributes:
        name: The name of the application.
        line: The line of the error in the file, or 0.
        reason: The error, and how to correct it.
        is_lasting: The error is in the text, and lasts until the text changes.
    """

    def __init__(
        self, name: str, line: int, reason: str, *, is_lasting: bool = True
    ) -> None:
        where = f"{name}{SUFFIX}:{line}" if line else f"{name}{SUFFIX}"
        if len(reason) > MAX_REASON:  # keep the correction, which is at the end
            half = MAX_REASON // 2
            reason = f"{reason[:half]} … {reason[-half:]}"
        super().__init__(f"{where}: {reason}")
        self.name = name
        self.line = line
        self.reason = reason
        self.is_lasting = is_lasting


class ApplicationFile:
    """The content of an application file.

    Attributes:
        name: The name of the application.
        text: The text of the file.
        status: The status of the file when it was read.
        fields: The checked fields of a Config that the file sets, and `interface`.
    """

    __slots__ = ("fields", "name", "status", "text")

    def __init__(
        self, name: str, text: bytes, status: os.stat_result, fields: Fields
    ) -> None:
        self.name = name
        self.text = text
        self.status = status
        self.fields = fields


def is_name(text: str) -> bool:
    """Return True if an application can have this name."""
    return (
        0 < len(text) <= MAX_NAME
        and text[0] in _ALNUM
        and not [c for c in text if c not in _ALNUM and c not in _REST]
    )


def names(directory: str) -> list[str]:
    """List the applications that have a file, valid or not.

    Raises:
        OSError: There is no such directory.
    """
    files = [file for file in os.listdir(directory) if file.endswith(SUFFIX)]
    found = sorted([file.removesuffix(SUFFIX) for file in files])
    return [name for name in found if is_name(name)]


def load(directory: str, name: str) -> ApplicationFile | None:
    """Read an application file. Returns None if there is none of this name.

    Raises:
        ApplicationFileError: The file cannot be used. Other files are not affected.
    """
    if not is_name(name):
        return None
    path = f"{directory}/{name}{SUFFIX}"
    try:
        text, status = regular_file.read(path, MAX_SIZE, follow=False)
    except FileNotFoundError:
        return None
    except regular_file.UnusableFile as error:
        raise ApplicationFileError(name, 0, str(error)) from None
    except OSError as error:
        reason = str(error.strerror)
        raise ApplicationFileError(name, 0, reason, is_lasting=False) from None
    from chimirror.apps import file_fields

    try:
        fields = file_fields.parse(text)
    except file_fields.ApplicationSyntaxError as error:
        raise ApplicationFileError(name, error.line, str(error)) from None
    return ApplicationFile(name, text, status, fields)
