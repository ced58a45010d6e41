"""Where records go: a datagram to the journal, or one line of JSON on stderr.

Somebody who looks on, at a terminal, is shown the time and the message alone.

Law: a record is written whole, at once, or not at all; `send` says how many were, or
raises OSError. https://systemd.io/JOURNAL_NATIVE_PROTOCOL, pipe(7). Knows no session.
"""

from __future__ import annotations

import time
from _json import encode_basestring_ascii
from _stat import S_ISCHR, S_ISFIFO, S_ISSOCK

from chimirror.system.escape import printable
from chimirror.system.lean import os, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from select import poll

    Fields = list[tuple[str, str]]

JOURNAL = "/run/systemd/journal/socket"
# A line of at most this goes into a pipe whole or not at all.
PIPE_BUF = 4096
# Beyond ASCII, JSON makes up to three times as many bytes.
JSON_PIECE = 1200


class Journal:
    """The journal's socket.

    Attributes:
        piece: bytes of an application's output that one record takes.
    """

    __slots__ = ("_handle", "_path")
    piece = 4096

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle: socket.socket | None = None

    def send(self, *records: Fields) -> int:
        """Write the first record; how many were written."""
        if self._handle is None:
            self._handle = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._handle.setblocking(False)
        # Not connected: a journal that was restarted is found again.
        self._handle.sendto(native(records[0]), self._path)
        return 1

    def close(self) -> None:
        """Let go of the socket."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class Lines:
    """A descriptor that may be a pipe nobody reads, or a stopped terminal.

    Attributes:
        piece: bytes of an application's output that one record takes.
    """

    __slots__ = ("_fd", "_form", "_poll", "_to")
    piece = JSON_PIECE

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._form = shown_line if os.isatty(fd) else json_line
        self._to = -1  # where we write; opened with the first line
        self._poll: poll | None = None

    def send(self, *records: Fields) -> int:
        """Write as many of the records as one write takes; how many those were."""
        stamp = ("__REALTIME_TIMESTAMP", str(time.time_ns() // 1000))
        block, count = b"", 0
        for fields in records:
            line = self._form([stamp, *fields])
            if count and len(block) + len(line) > PIPE_BUF:
                break
            block += line
            count += 1
        if not self._has_room():
            return 0
        written = os.write(self._to, block)
        lines = block.count(b"\n", 0, written)
        return count if written == len(block) else min(lines, count - 1)

    def _has_room(self) -> bool:
        import select

        if self._poll is None:
            self._to = _reopened(self._fd)
            self._poll = select.poll()
            self._poll.register(self._to, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in self._poll.poll(0))

    def close(self) -> None:
        """Let go of what we opened."""
        if self._to not in (-1, self._fd):
            os.close(self._to)
        self._to = -1
        self._poll = None


def choose(*, journal: bool) -> Journal | Lines:
    """The journal if it is asked for and within reach, else stderr."""
    return Journal(JOURNAL) if journal and _is_socket(JOURNAL) else Lines(2)


def native(fields: Fields) -> bytes:
    """A record in the journal's own form: lines, or lengths where there are lines."""
    plain = "".join([f"{name}={value}\n" for name, value in fields])
    if plain.count("\n") == len(fields):
        return plain.encode()
    parts = []
    for name, value in fields:
        data = value.encode()
        if b"\n" in data:
            size = len(data).to_bytes(8, "little")
            parts.append(b"%s\n%s%s\n" % (name.encode(), size, data))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), data))
    return b"".join(parts)


_dumps: Callable[[dict[str, str]], bytes] | None = None


def prepare() -> None:
    """Take orjson for plain records: 0.2 µs instead of 2, but 5 ms to a first record.

    A server does this, once; what it writes is the same either way.
    """
    global _dumps
    from orjson import dumps

    _dumps = dumps


def json_line(fields: Fields) -> bytes:
    """A record as `journalctl -o json` shows it, in ASCII, short enough for a pipe."""
    if _dumps is not None:
        quick = _dumps(dict(fields))
        # DEL is ASCII, and of all that orjson leaves as it is the one that we escape.
        if quick.isascii() and b"\x7f" not in quick and len(quick) < PIPE_BUF:
            return quick + b"\n"
    line = ""
    for cap in (PIPE_BUF, 2400, JSON_PIECE, 600, 128, 48, 16):
        members = [
            f'"{name}":{encode_basestring_ascii(_cut(value, cap))}'
            for name, value in fields
        ]
        line = "{" + ",".join(members) + "}\n"
        if len(line) <= PIPE_BUF:
            break
    return line.encode("ascii")


def shown_line(fields: Fields) -> bytes:
    """A record as somebody reads it, on whose terminal nothing may move a cursor."""
    text = _cut(dict(fields).get("MESSAGE", ""), JSON_PIECE)
    shown = printable(text, keep="\n")
    return f"{time.strftime('%H:%M:%S')} {shown}\n".encode()


def _cut(value: str, cap: int) -> str:
    """Both ends of what is too long: the cause stands last in a traceback."""
    if len(value) <= cap:
        return value
    return f"{value[: cap // 2]}…{value[1 - cap // 2 :]}"


def journal_stream(fd: int) -> str:
    """A descriptor as JOURNAL_STREAM names it (systemd.exec(5))."""
    try:
        found = os.fstat(fd)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def _is_socket(path: str) -> bool:
    try:
        return S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _reopened(fd: int) -> int:
    """The same pipe or terminal, opened anew so that only our writes do not block.

    O_NONBLOCK belongs to the open file, which we share with whoever started us (and
    workers with each other, so that what poll(2) promises one, another may take).
    """
    try:
        mode = os.fstat(fd).st_mode
        if S_ISFIFO(mode) or S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        pass  # somebody else's, or no /proc: then poll(2) is what we have
    return fd
