"""Fuzz targets for the log, chimirror-ctl and chimirror-connect."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from chimirror.apps import toml_parser
from chimirror.connect.terminal_modes import TerminalModes
from chimirror.ctl import json_fields, session_info, timestamps, toml_writer
from chimirror.ctl.messages import CommandError
from chimirror.log.output_logger import LineBuffer
from fuzz_input import FuzzInput, pieces

MAX_LINE = 12  # bytes of a line of the log
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)


def fuzz_log_lines(data: bytes) -> None:
    """Lines for the log are those of the output, however it is cut."""
    source = FuzzInput(data)
    cuts, output = source.cuts(), source.rest()
    whole = log_lines([output])
    assert whole == log_lines(pieces(output, cuts))
    assert all(0 < len(line) <= MAX_LINE for line in whole)
    assert b"".join(whole) == b"".join(
        b"".join(log_lines([line])) for line in output.split(b"\n")
    )


def log_lines(chunks: list[bytes]) -> list[bytes]:
    """Return the lines of an output, read as the log reads them."""
    buffer, lines = LineBuffer("stdout"), []
    for number, chunk in enumerate(chunks):
        buffer.append(chunk)
        buffer.has_ended = number == len(chunks) - 1
        while buffer.has_lines(MAX_LINE):
            found = buffer.peek(3, MAX_LINE)
            buffer.consume(len(found))
            lines += found
    assert buffer.size == 0
    return lines


def fuzz_terminal_modes(data: bytes) -> None:
    """Any output leaves a sequence that resets the terminal, however it is cut."""
    source = FuzzInput(data)
    cuts, output = source.cuts(), source.rest()
    whole, cut = TerminalModes(lambda: 24), TerminalModes(lambda: 24)
    whole.feed(output)
    for piece in pieces(output, cuts):
        cut.feed(piece)
    assert whole.reset_sequence() == cut.reset_sequence()
    again = TerminalModes(lambda: 24)
    again.feed(output + whole.reset_sequence())
    assert again.reset_sequence() == b""


def fuzz_session_status(data: bytes) -> None:
    """A status file describes a session, or is malformed."""
    try:
        found = session_info.read(json_fields.decode(data))
    except json_fields.Malformed as error:
        assert str(error)
        return
    json.dumps(found.row(1 << 50), allow_nan=False)


def fuzz_since(data: bytes) -> None:
    """A time is read, or is a usage error."""
    try:
        timestamps.since(data.decode("utf-8", "surrogateescape"), NOW)
    except CommandError as error:
        assert str(error)


def fuzz_toml_writer(data: bytes) -> None:
    """What chimirror-ctl writes is read again with the same values."""
    try:
        value = json.loads(data)
        written = toml_writer.document({("a", "b.c"): value})
        found = toml_parser.parse(written)
    except (ValueError, RecursionError):
        return
    assert repr(found) == repr({"a": {"b.c": value}})
