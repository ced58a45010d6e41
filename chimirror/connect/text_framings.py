"""Framings of chimirror-connect for text: input is sent and printed as it is.

The framings of the client library convert values. Here each line of standard input is
a message already, and each message becomes a line of standard output. With lsp, input
and output may have the base protocol of the Language Server Protocol instead: a header
with Content-Length before each body. Pure.

Input that the server would refuse is not sent, because in some framings it ends the
session: it is reported, and the following input is sent.
"""

from __future__ import annotations

import json
import re

from chimirror.client import framing
from chimirror.client.results import Output
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chimirror.client.stdio_messages import Event

    Report = Callable[[str], None]

MAX_TEXT = 64 << 20  # bytes of a line or body, in both directions
MAX_MESSAGE = MAX_TEXT + 4096  # what a framing may add to it
MAX_HEADER = 4096  # bytes, as the server
SHOWN = 60  # characters of refused input in a report
HEADER = re.compile(rb"content-(?:length|type)[ \t]*:", re.IGNORECASE)
LENGTH = re.compile(
    rb"^content-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.I | re.M
)


class InputError(Exception):
    """Input after which the begin of the next message is unknown."""


class JsonText(framing.JsonFraming):
    """Framing json: each line of input is a JSON text, and bytes come back."""

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_bytes(data),))


class LinesText(framing.LinesFraming):
    """Framing lines: line in, line out."""

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_bytes(data),))


class LspText(framing.LspFraming):
    """Framing lsp: bodies in both directions, as lines or behind headers.

    Attributes:
        has_headers: The input has headers. Then the output has them too.
    """

    def __init__(self) -> None:
        self.has_headers = False

    def messages(self, data: object) -> Iterator[bytes]:
        return iter((_bytes(data),))

    def decode(self, message: bytes) -> Event | None:
        if not self.has_headers:
            return super().decode(message)
        header = b"Content-Length: %d\r\n\r\n" % len(message)
        return Output("stdout", header + message)


def _bytes(data: object) -> bytes:
    assert isinstance(data, bytes)
    return data


TEXT_FRAMINGS: dict[str, type[framing.Framing]] = {
    kind.name: kind for kind in (JsonText, LinesText, LspText)
}


def create(name: str) -> framing.Framing:
    """Create the framing of this name. Framing stdio carries bytes anyway."""
    return TEXT_FRAMINGS.get(name, framing.StdioFraming)()


def create_input(used: framing.Framing, report: Report) -> TextInput:
    """Create the reader of input for a framing."""
    if isinstance(used, LspText):
        return LspInput(report, used)
    return TextInput(report, line_problem if used.name == "lines" else json_problem)


class TextInput:
    """Cuts input into lines, each a message.

    Args:
        report: Called with a text about input that is not sent.
        problem: Returns what is wrong with a line, "" if nothing is.
    """

    def __init__(self, report: Report, problem: Callable[[bytes], str]) -> None:
        self._report = report
        self._problem = problem
        self._number = 0  # lines so far
        self._pieces: list[bytes] = []  # of the line that is being read
        self._size = 0  # bytes in them, or of a line that is too long

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return the messages that a piece of input completes.

        Raises:
            InputError: The rest of the input cannot be read.
        """
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._add(end)
            yield from self._finish_line()
        self._add(rest)

    def end(self) -> Iterator[bytes]:
        """Return the message in an unterminated last line."""
        if self._size:
            yield from self._finish_line()

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= MAX_TEXT + 1:  # CR
            self._pieces.append(piece)

    def _finish_line(self) -> Iterator[bytes]:
        line, size = b"".join(self._pieces).removesuffix(b"\r"), self._size
        self._pieces.clear()
        self._size = 0
        self._number += 1
        if self._problem is not line_problem and not line.strip():
            return  # white space is no JSON text, and it separates lines for people
        problem = self._problem(line) if size <= MAX_TEXT + 1 else "longer than 64M"
        if problem:
            self._report_line(problem, line)
        else:
            yield line

    def _report_line(self, problem: str, line: bytes) -> None:
        shown = escape_line(line, SHOWN)
        self._report(
            f"line {self._number} of the input is not sent: {problem}: {shown}"
        )


class LspInput(TextInput):
    """Reads JSON texts as lines, or with headers. The first line decides."""

    def __init__(self, report: Report, used: LspText) -> None:
        super().__init__(report, json_problem)
        self._framing = used
        self._is_decided = False
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no end of a header
        self._length: int | None = None  # of the body that is being read

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._is_decided and not self._framing.has_headers:
            yield from super().feed(data)
            return
        self._buffer += data
        if not self._is_decided and not self._decide():
            return
        if self._framing.has_headers:
            yield from self._bodies()
            return
        begin = bytes(self._buffer)
        self._buffer.clear()
        yield from super().feed(begin)

    def _decide(self) -> bool:
        begin = self._buffer.lstrip()
        if not begin or (b"\n" not in begin and len(begin) < 20):
            return False
        self._is_decided = True
        self._framing.has_headers = HEADER.match(begin) is not None
        if self._framing.has_headers:
            self._buffer = begin
        return True

    def end(self) -> Iterator[bytes]:
        if self._framing.has_headers:
            if self._buffer or self._length is not None:
                self._report("the input ends within a message, which is not sent")
            return
        begin = bytes(self._buffer)
        self._buffer.clear()
        self._is_decided = True
        yield from super().feed(begin)
        yield from super().end()

    def _bodies(self) -> Iterator[bytes]:
        while True:
            if self._length is None and not self._take_header():
                return
            assert self._length is not None
            if len(self._buffer) < self._length:
                return
            body = bytes(memoryview(self._buffer)[: self._length])
            del self._buffer[: self._length]
            self._length = None
            self._number += 1
            if problem := json_problem(body):
                shown = escape_line(body, SHOWN)
                self._report(
                    f"message {self._number} of the input is not sent: {problem}: "
                    f"{shown}"
                )
            else:
                yield body

    def _take_header(self) -> bool:
        """Take a header from the buffer. Returns False if it is incomplete."""
        end = _end_of_header(self._buffer, self._searched)
        if end < 0 and len(self._buffer) <= MAX_HEADER:
            self._searched = max(len(self._buffer) - 3, 0)
            return False
        header = bytes(self._buffer[: end if end >= 0 else MAX_HEADER])
        lengths = LENGTH.findall(header)
        if end < 0 or len(lengths) != 1 or int(lengths[0]) > MAX_TEXT:
            raise InputError(
                f"message {self._number + 1} of the input has no header "
                f'"Content-Length: N" of up to 64M: {escape_line(header, SHOWN)}'
            )
        del self._buffer[:end]
        self._searched, self._length = 0, int(lengths[0])
        return True


def _end_of_header(buffer: bytearray, start: int) -> int:
    """Return the index after the empty line of a header, -1 without one."""
    found = [
        at + len(mark)
        for mark in (b"\r\n\r\n", b"\n\n")
        if (at := buffer.find(mark, start)) >= 0
    ]
    return min(found, default=-1)


def line_problem(line: bytes) -> str:
    """Return why framing lines cannot carry this line, "" if it can."""
    if b"\r" in line:
        return "it has a carriage return"
    return _utf8_problem(line)


def _utf8_problem(text: bytes) -> str:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    return ""


def json_problem(text: bytes) -> str:
    """Return why this is no JSON text (RFC 8259), "" if it is one."""
    if problem := _utf8_problem(text):
        return problem
    try:
        # A number has any size, and its value does not matter.
        json.loads(
            text.decode(), parse_int=len, parse_float=len, parse_constant=_refuse
        )
    except RecursionError:
        return "JSON that is nested too deeply"
    except ValueError as error:
        place = f" at character {error.pos}" if hasattr(error, "pos") else ""
        return f'not JSON{place} (a text needs quotes: "yes")'
    return ""


def _refuse(name: str) -> object:
    raise ValueError(name)
