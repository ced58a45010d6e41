"""Fuzz target for chimirror.services: what a target writes into its FIFO."""

from __future__ import annotations

import msgspec

from chimirror.services import InvalidMessage
from chimirror.services.codec import Decoder, Encoder
from chimirror.services.line_parser import Event, Line, LineParser
from fuzz_input import FuzzInput, pieces

MAX_MESSAGE = 100


class Entry(msgspec.Struct):
    """A value with members of several types."""

    id: int
    names: list[str] = []
    data: bytes | None = None
    more: dict[str, float] = {}


DECODER = Decoder("fuzz", Entry | int | str | list[Entry], None)


def fuzz_services_input(data: bytes) -> None:
    """Bytes, cut anywhere, are the same messages. Each is a value or an error."""
    source = FuzzInput(data)
    cuts, stream = source.cuts(), source.rest()
    events = events_of([stream])
    assert events == events_of(pieces(stream, cuts))
    for event in events:
        if isinstance(event, Line):
            check_value(event.data)


def events_of(chunks: list[bytes]) -> list[Event]:
    parser, found = LineParser(MAX_MESSAGE), list[Event]()
    for chunk in chunks:
        parser.receive_data(chunk)
        while (event := parser.next_event()) is not None:
            found.append(event)
    last = parser.receive_end()
    return [*found, last] if last else found


def check_value(line: bytes) -> None:
    try:
        value = DECODER.decode_json(line)
    except InvalidMessage as error:
        assert str(error).isprintable()
        assert len(error.evidence) <= MAX_MESSAGE + 3
        return
    again = Encoder(None).encode(value, memory=True).content
    assert b"\n" not in bytes(again)
    assert DECODER.decode_json(bytes(again)) == value
