"""Destinations of records: the journal, or a stream. The choice between them.

`stream_sinks` has those of a stream. A bridge whose log is the journal loads only this
module. Knows no session. https://systemd.io/JOURNAL_NATIVE_PROTOCOL.

Guarantees of a sink: a record is written whole and at once, or not at all, and no write
blocks. `write` returns the number of written records. Fewer than given means that there
is no room just now. It raises OSError if no record can be written.
"""

from __future__ import annotations

from _stat import S_ISSOCK
from errno import ENOTCONN

from chimirror.builtin_modules import os, socket
from chimirror.log.serving import JOURNAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimirror.log.stream_sinks import StreamSink

    Fields = list[tuple[str, str]]

# Formats of a log. AUTO stands for one of the others.
AUTO, TEXT, JSON, NATIVE = "auto", "text", "json", "journal"


def format_of(fd: int, wanted: str, environ: Mapping[str, str]) -> str:
    """Return the one format of all lines and records that go to a descriptor.

    Args:
        fd: standard error.
        wanted: `auto`, `text` or `json`, as given by --log-format.
        environ: environment of this process, for JOURNAL_STREAM.

    Returns:
        `text`, `json` or `journal`. The last one means that the descriptor is the
        journal's, which takes lines of text there, and records at its socket.
    """
    if wanted != AUTO:
        return wanted
    if environ.get("JOURNAL_STREAM") == journal_stream(fd):
        return NATIVE
    return TEXT if os.isatty(fd) else JSON


def open_sink(log_format: str) -> JournalSink | StreamSink:
    """Return a sink for a format: the socket of the journal, or standard error.

    Where the journal has no socket, its stream gets text.
    """
    if log_format == NATIVE and _is_socket(JOURNAL):
        return JournalSink(JOURNAL)
    from chimirror.log import stream_sinks

    if log_format == JSON:
        return stream_sinks.JSONSink(2)
    return stream_sinks.TextSink(2)


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
