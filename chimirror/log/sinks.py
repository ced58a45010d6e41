"""Destinations of records: a datagram to the journal, or a JSON line on stderr.

A terminal gets only the time and the message.

Guarantees: a record is written whole and at once, or not at all, and no write blocks.
`write` returns the number of written records. Fewer than given means that there is no
room just now. It raises OSError if no record can be written. Knows no session.
https://systemd.io/JOURNAL_NATIVE_PROTOCOL, pipe(7).
"""

from __future__ import annotations

import time
from _json import encode_basestring_ascii
from _stat import S_ISCHR, S_ISFIFO, S_ISSOCK
from errno import ENOTCONN

from chimirror.builtin_modules import os, socket
from chimirror.log.serving import JOURNAL
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from select import poll

    Fields = list[tuple[str, str]]

# A write of at most this size enters a pipe whole or not at all.
PIPE_BUF = 4096
# JSON takes up to five times as many bytes: `\\xff` for a byte that is not printable.
MAX_JSON_OUTPUT = 750
MAX_TERMINAL_TEXT = 1200  # characters


class JournalSink:
    """Sink that sends records to the socket of the journal.

    The socket is connected: poll(2) then reports when the journal has read. After a
    restart of the journal it is connected again.

    Attributes:
        max_output: bytes of application output in one record.
    """

    __slots__ = ("_handle", "_path")
    max_output = 4096

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle: socket.socket | None = None

    def encode(self, fields: Fields) -> bytes:
        """Encode a record."""
        return journal_datagram(fields)

    def encode_constant(self, fields: Fields, prefix: str) -> tuple[bytes, bytes]:
        """Encode what the lines of a stream share: what precedes and follows each.

        Args:
            fields: the other fields of the records.
            prefix: the beginning of each message, which names the source.
        """
        return f"MESSAGE={prefix}".encode(), b"\n" + journal_datagram(fields)

    def encode_line(self, text: str, constant: tuple[bytes, bytes]) -> bytes:
        """Encode a line of an application.

        Args:
            text: the line.
            constant: the other parts of the record, by `encode_constant`.
        """
        return b"%b%b%b" % (constant[0], text.encode(), constant[1])

    def write(self, records: Sequence[bytes]) -> int:
        """Write records while the journal takes them. Returns their number."""
        written = 0
        try:
            for record in records:
                self._send(record)
                written += 1
        except BlockingIOError:
            pass
        except OSError:
            if not written:
                raise
        return written

    def _send(self, record: bytes) -> None:
        """Write a record. Connects again if the journal has been restarted."""
        if self._handle is not None:
            try:
                self._handle.send(record)
            except (ConnectionError, BrokenPipeError):
                self.close()
            except OSError as error:
                if error.errno != ENOTCONN:
                    raise
                self.close()
            else:
                return
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            handle.setblocking(False)
            handle.connect(self._path)
        except OSError:
            handle.close()
            raise
        self._handle = handle
        handle.send(record)

    def fileno(self) -> int:
        """Return the descriptor to poll for room, or -1."""
        return -1 if self._handle is None else self._handle.fileno()

    def close(self) -> None:
        """Close the socket. The next record opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class StreamSink:
    """Sink that writes lines to a descriptor, and never blocks.

    The descriptor may be a pipe without a reader, or a stopped terminal.

    Attributes:
        max_output: bytes of application output in one record.
    """

    __slots__ = ("_fd", "_is_terminal", "_poll", "_write_fd")
    max_output = MAX_JSON_OUTPUT

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_terminal = os.isatty(fd)
        self._write_fd = -1  # opened with the first record
        self._poll: poll | None = None

    def encode(self, fields: Fields) -> bytes:
        """Encode a record, with the current time."""
        if self._is_terminal:
            return terminal_line(dict(fields).get("MESSAGE", ""))
        return json_line([("__REALTIME_TIMESTAMP", _now()), *fields])

    def encode_constant(self, fields: Fields, prefix: str) -> tuple[bytes, bytes]:
        """Encode what the lines of a stream share: what precedes and follows each.

        In JSON a field names the source, and the message is the line alone.

        Args:
            fields: the other fields of the records.
            prefix: the beginning of each line of text, which names the source.
        """
        if self._is_terminal:
            return prefix.encode(), b""
        return b"", b"," + json_line(fields)[1:]

    def encode_line(self, text: str, constant: tuple[bytes, bytes]) -> bytes:
        """Encode a line of an application.

        Args:
            text: the line.
            constant: the other parts of the record, by `encode_constant`.
        """
        if self._is_terminal:
            return terminal_line(constant[0].decode() + text)
        head = f'{{"__REALTIME_TIMESTAMP":"{_now()}","MESSAGE":'
        return f"{head}{encode_basestring_ascii(text)}".encode("ascii") + constant[1]

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
                return done + min(block.count(b"\n", 0, written), count - 1)
            done += count
        return done

    def _has_room(self) -> bool:
        """Poll for room, or for an error that the write will report."""
        import select

        if self._poll is None:
            self._write_fd = _reopen(self._fd)
            self._poll = select.poll()
            self._poll.register(self._write_fd, select.POLLOUT)
        return bool(self._poll.poll(0))

    def fileno(self) -> int:
        """Return the descriptor to poll for room, or -1."""
        return self._write_fd

    def close(self) -> None:
        """Close the descriptor if it was opened here. The next record opens it."""
        if self._write_fd not in (self._fd, -1):
            os.close(self._write_fd)
        self._write_fd = -1
        self._poll = None


def open_sink(*, journal: bool) -> JournalSink | StreamSink:
    """Return a sink for the journal, if requested and reachable, or for stderr."""
    return JournalSink(JOURNAL) if journal and _is_socket(JOURNAL) else StreamSink(2)


def journal_datagram(fields: Fields) -> bytes:
    """Encode a record for the journal: lines, or lengths for multi-line values."""
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
    for limit in (PIPE_BUF, 2400, 1200, 600, 128, 48, 16):
        members = [
            f'"{name}":{encode_basestring_ascii(_shorten(value, limit))}'
            for name, value in fields
        ]
        line = "{" + ",".join(members) + "}\n"
        if len(line) <= PIPE_BUF:
            break
    return line.encode("ascii")


def terminal_line(text: str) -> bytes:
    """Format a message for a terminal. No text can move the cursor."""
    text_line = printable(_shorten(text, MAX_TERMINAL_TEXT), keep="\n")
    return f"{time.strftime('%H:%M:%S')} {text_line}\n".encode()


def _shorten(value: str, limit: int) -> str:
    """Keep both ends of a long value: a traceback ends with its cause."""
    if len(value) <= limit:
        return value
    return f"{value[: limit // 2]}…{value[1 - limit // 2 :]}"


def journal_stream(fd: int) -> str:
    """Return a descriptor in the form of JOURNAL_STREAM (systemd.exec(5))."""
    try:
        status = os.fstat(fd)
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _is_socket(path: str) -> bool:
    try:
        return S_ISSOCK(os.stat(path).st_mode)
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
