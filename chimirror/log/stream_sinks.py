"""Sinks of a stream, such as standard error: lines of JSON, or lines of text.

A line that a pipe takes whole is at most PIPE_BUF bytes long, pipe(7). Knows no
session.
"""

from __future__ import annotations

import time
from _json import encode_basestring_ascii
from _stat import S_ISCHR, S_ISFIFO, S_ISREG

from chimirror.builtin_modules import os
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from select import poll

    Fields = list[tuple[str, str]]

# A write of at most this size enters a pipe whole or not at all.
PIPE_BUF = 4096
# JSON takes up to five times as many bytes: `\\\\xff` for a byte that is not printable.
MAX_LINE = 750
LIMITS = (PIPE_BUF, 2400, 1200, 600, 128, 48, 16)  # characters of a value


class StreamSink:
    """Sink that writes lines to a descriptor, and never blocks.

    The descriptor may be a pipe without a reader, or a stopped terminal.

    Args:
        fd: the descriptor.

    Attributes:
        max_output: bytes of application output in one record.
    """

    __slots__ = ("_fd", "_poll", "_write_fd")
    max_output = MAX_LINE

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._write_fd = -1  # opened with the first record
        self._poll: poll | None = None

    def encode(self, fields: Fields) -> bytes:
        """Encode a record, with the current time. For subclasses."""
        raise NotImplementedError

    def encode_constant(self, fields: Fields, prefix: str) -> tuple[bytes, bytes]:
        """Encode what the lines of a stream share. For subclasses.

        Args:
            fields: the other fields of the records.
            prefix: the beginning of each line of text, which names the source.
        """
        raise NotImplementedError

    def encode_line(self, text: str, constant: tuple[bytes, bytes]) -> bytes:
        """Encode a line of an application. For subclasses.

        Args:
            text: the line.
            constant: the other parts of the record, by `encode_constant`.
        """
        raise NotImplementedError

    def write(self, records: Sequence[bytes]) -> int:
        """Write records while there is room. Returns their number.

        Each write is one that a pipe takes whole or not at all.
        """
        done = 0
        while done < len(records):
            block, count = records[done], 1
            for record in records[done + 1 :]:
                if len(block) + len(record) > PIPE_BUF:
                    break
                block += record
                count += 1
            try:
                written = os.write(self._write_fd, block) if self._has_room() else 0
            except BlockingIOError:
                return done
            except OSError:
                if done:
                    return done
                raise
            if written < len(block):
                return done + _count_whole(records[done : done + count], written)
            done += count
        return done

    def _has_room(self) -> bool:
        """Return True if a write does not block. It may fail for lack of room."""
        if self._write_fd < 0:
            self._write_fd = _reopen(self._fd)
            if self._write_fd == self._fd and not _is_file(self._fd):
                import select

                self._poll = select.poll()
                self._poll.register(self._write_fd, select.POLLOUT)
        return self._poll is None or bool(self._poll.poll(0))

    def fileno(self) -> int:
        """Return the descriptor to poll for room, or -1."""
        return self._write_fd

    def close(self) -> None:
        """Close the descriptor if it was opened here. The next record opens it."""
        if self._write_fd not in (self._fd, -1):
            os.close(self._write_fd)
        self._write_fd = -1
        self._poll = None


class JSONSink(StreamSink):
    """Sink of records like those of `journalctl -o json`."""

    __slots__ = ()

    def encode(self, fields: Fields) -> bytes:
        """Encode a record, with the current time."""
        return json_line([("__REALTIME_TIMESTAMP", _now()), *fields])

    def encode_constant(self, fields: Fields, prefix: str) -> tuple[bytes, bytes]:
        """Encode the fields. One of them names the source, instead of the prefix."""
        return b"", b"," + json_line(fields)[1:]

    def encode_line(self, text: str, constant: tuple[bytes, bytes]) -> bytes:
        """Encode a line of an application. The message is the line alone."""
        head = f'{{"__REALTIME_TIMESTAMP":"{_now()}","MESSAGE":'
        return f"{head}{encode_basestring_ascii(text)}".encode("ascii") + constant[1]


class TextSink(StreamSink):
    """Sink of messages with their time, for readers."""

    __slots__ = ("_time_format",)

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        is_terminal = os.isatty(fd)
        self._time_format = "%H:%M:%S " if is_terminal else "%Y-%m-%d %H:%M:%S "

    def encode(self, fields: Fields) -> bytes:
        """Encode the message. A field of several lines, a traceback, follows."""
        texts = [value for name, value in fields if name == "MESSAGE" or "\n" in value]
        return text_line("\n".join(texts), time.strftime(self._time_format))

    def encode_constant(self, fields: Fields, prefix: str) -> tuple[bytes, bytes]:
        """Encode the prefix. The fields are not shown."""
        return prefix.encode(), b""

    def encode_line(self, text: str, constant: tuple[bytes, bytes]) -> bytes:
        """Encode a line of an application."""
        stamp = time.strftime(self._time_format)
        return text_line(text, stamp + constant[0].decode())


def _now() -> str:
    return str(time.time_ns() // 1000)


_dumps: Callable[[dict[str, str]], bytes] | None = None


def use_orjson() -> None:
    """Use orjson for plain records: 0.2 µs instead of 2, but 5 ms to import.

    A server does this once. The written records are the same.
    """
    global _dumps
    from orjson import dumps

    _dumps = dumps


def json_line(fields: Fields) -> bytes:
    """Encode a record like `journalctl -o json`, in ASCII, short enough for a pipe."""
    if _dumps is not None:
        encoded = _dumps(dict(fields))
        # DEL is the only ASCII character that orjson leaves as it is and that must be
        # escaped.
        if encoded.isascii() and b"\x7f" not in encoded and len(encoded) < PIPE_BUF:
            return encoded + b"\n"
    line = ""
    for limit in LIMITS:
        members = [
            f'"{name}":{encode_basestring_ascii(_shorten(value, limit))}'
            for name, value in fields
        ]
        line = "{" + ",".join(members) + "}\n"
        if len(line) <= PIPE_BUF:
            break
    return line.encode("ascii")


def text_line(text: str, prefix: str) -> bytes:
    """Format a message, short enough for a pipe. No text can move the cursor.

    Further lines of a message are indented, so that none looks like a record.
    """
    line = b""
    for limit in LIMITS:
        shown = printable(_shorten(text, limit), keep="\n").replace("\n", "\n    ")
        line = f"{prefix}{shown}\n".encode()
        if len(line) <= PIPE_BUF:
            break
    return line


def _shorten(value: str, limit: int) -> str:
    """Keep both ends of a long value: a traceback ends with its cause."""
    if len(value) <= limit:
        return value
    return f"{value[: limit // 2]}…{value[1 - limit // 2 :]}"


def _count_whole(records: Sequence[bytes], size: int) -> int:
    """Count the records that the first `size` bytes of all of them contain."""
    for number, record in enumerate(records):
        size -= len(record)
        if size < 0:
            return number
    return len(records)


def _is_file(fd: int) -> bool:
    """Return True for a regular file, which has room at any time."""
    try:
        return S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


def _reopen(fd: int) -> int:
    """Open the same pipe or terminal again, so that only this process does not block.

    O_NONBLOCK belongs to the open file. The parent process shares that file, and
    workers share it with each other. So poll(2) alone is no guarantee: another worker
    may fill the pipe first.
    """
    try:
        mode = os.fstat(fd).st_mode
        if S_ISFIFO(mode) or S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        pass  # no permission or no /proc: poll(2) has to suffice
    return fd
