"""One application file, DIR/NAME.toml: found safely, read once, remembered compiled.

Law: NAME is looked at before any file is; only a regular file in DIR itself is opened.
tomllib costs 20 ms of a start, so what was read is kept in DIR/.compiled/NAME, together
with the whole text that it was made of: it is used if that is the text of today, so it
cannot go stale. marshal can make a process do anything, so it is used only if nobody
could have written it who could not have written the file as well.

What the text means is `apptoml`'s matter, which is imported when it has to be asked.
"""

from __future__ import annotations

import marshal
import sys

from chimirror import __version__
from chimirror.system.lean import os, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Fields = dict[str, Any]  # of a Config, and `interface`

SUFFIX = ".toml"
COMPILED = ".compiled"
LARGEST = 1 << 20
LONGEST_NAME = 64
_ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_REST = "_.-"
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
# The format of what follows it, the program that has checked it, and the interpreter.
_MARK = b"chimirror 1 %b %x\n" % (__version__.encode(), sys.hexversion)


class BadFile(ValueError):
    """An application file that cannot be used.

    Attributes:
        name: of the application.
        line: in the file; 0 where it is not about any.
        reason: what is wrong, and what to write instead.
    """

    def __init__(self, name: str, line: int, reason: str) -> None:
        where = f"{name}{SUFFIX}:{line}" if line else f"{name}{SUFFIX}"
        super().__init__(f"{where}: {reason}")
        self.name = name
        self.line = line
        self.reason = reason


class Source:
    """What was read.

    Attributes:
        name: of the application.
        text: of the file.
        status: of the file.
        fields: those of a Config that the file names, checked; and `interface`.
        is_compiled: it need not be compiled once more.
    """

    __slots__ = ("fields", "is_compiled", "name", "status", "text")

    def __init__(self, name: str, text: bytes, status: os.stat_result) -> None:
        self.name = name
        self.text = text
        self.status = status
        self.fields: Fields = {}
        self.is_compiled = False


def is_name(text: str) -> bool:
    """Whether an application can have this name."""
    return (
        0 < len(text) <= LONGEST_NAME
        and text[0] in _ALNUM
        and not [c for c in text if c not in _ALNUM and c not in _REST]
    )


def names(directory: str) -> list[str]:
    """The applications that have a file there, whether or not it can be used.

    Raises:
        OSError: there is no such directory.
    """
    files = [file for file in os.listdir(directory) if file.endswith(SUFFIX)]
    found = sorted([file.removesuffix(SUFFIX) for file in files])
    return [name for name in found if is_name(name)]


def read(directory: str, name: str) -> Source | None:
    """An application file; None if there is none of this name.

    Raises:
        BadFile: it cannot be used; the others can.
    """
    if not is_name(name):
        return None
    source = _open(directory, name)
    if source is None:
        return None
    fields = _read_compiled(f"{directory}/{COMPILED}/{name}", source)
    if fields is not None:
        source.fields = fields
        source.is_compiled = True
        return source
    from chimirror import apptoml

    try:
        source.fields = apptoml.parse(source.text)
    except apptoml.Unusable as error:
        raise BadFile(name, error.line, str(error)) from None
    return source


def _open(directory: str, name: str) -> Source | None:
    try:
        fd = os.open(f"{directory}/{name}{SUFFIX}", _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        from errno import ELOOP

        what = str(error.strerror)
        if error.errno == ELOOP:
            what = "a symbolic link; make it a regular file"
        raise BadFile(name, 0, what) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(name, 0, "not a regular file")
        if status.st_size > LARGEST:
            raise BadFile(name, 0, "over 1 MiB; an application file is a short text")
        return Source(name, os.read(fd, status.st_size), status)
    except OSError as error:
        raise BadFile(name, 0, str(error.strerror)) from None
    finally:
        os.close(fd)


def _read_compiled(path: str, source: Source) -> Fields | None:
    """What was made of the same text, if that is there and can be trusted."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not _is_as_safe(status, source.status):
            return None
        data = os.read(fd, status.st_size)
    except OSError:
        return None
    finally:
        os.close(fd)
    return _load(data, source)


def _load(data: bytes, source: Source) -> Fields | None:
    if not data.startswith(_MARK):
        return None
    try:
        text, fields = marshal.loads(data[len(_MARK) :])  # noqa: S302 (as above)
    except (EOFError, TypeError, ValueError):
        return None  # cut off, perhaps by a full disk
    return fields if text == source.text else None


def _is_as_safe(compiled: os.stat_result, file: os.stat_result) -> bool:
    """Whether nobody can write the one who could not write the other."""
    mode = compiled.st_mode
    if not stat.S_ISREG(mode) or compiled.st_uid not in (0, file.st_uid):
        return False
    if mode & stat.S_IWGRP and compiled.st_gid != file.st_gid:
        return False
    writers = stat.S_IWGRP | stat.S_IWOTH
    return not mode & writers & ~file.st_mode


def compile_(directory: str, source: Source) -> bool:
    """Keep what was read for the next reader; whether that was possible."""
    uid = os.geteuid()
    if uid not in (0, source.status.st_uid):
        return False  # nobody would trust it
    place = f"{directory}/{COMPILED}"
    path = f"{place}/.{source.name}.{os.getpid()}"
    data = _MARK + marshal.dumps((source.text, source.fields))
    try:
        _make_place(place, os.stat(directory))
        _write(path, data, source.status)
        os.rename(path, f"{place}/{source.name}")
    except OSError:
        return False
    source.is_compiled = True
    return True


def _make_place(place: str, around: os.stat_result) -> None:
    try:
        os.mkdir(place, 0o755)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        os.chown(place, around.st_uid, around.st_gid)


def _write(path: str, data: bytes, status: os.stat_result) -> None:
    """For whoever can read the application file; its owner can write both."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:  # left by one that was killed here
        os.unlink(path)
        raise
    try:
        mode = status.st_mode & 0o644
        try:
            os.fchown(fd, status.st_uid, status.st_gid)
        except PermissionError:  # not our group: it reads the text instead
            mode &= 0o604
        os.fchmod(fd, mode)
        if os.write(fd, data) != len(data):
            raise OSError("no room")
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
