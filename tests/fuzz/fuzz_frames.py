"""Fuzz targets for frames and framings of the server, in both directions."""

from __future__ import annotations

from wsproto.frame_protocol import Opcode, ParseFailed

from chimirror.framing import (
    EndOfInput,
    Framing,
    FramingError,
    RejectedMessage,
    ResizeRequest,
    SignalRequest,
    WindowRequest,
    registry,
)
from chimirror.framing.json_framing import SIGNALS, decode_base64
from chimirror.protocol import frame_format, json_text
from chimirror.protocol.frame_reader import (
    NO_LIMIT,
    Binary,
    Close,
    FrameError,
    FrameReader,
    Ping,
    Pong,
)
from frame_texts import frames_of
from fuzz_input import FuzzInput, pieces
from wsproto_reference import ReferenceProtocol

LIMIT = 300  # bytes of a message
FIN, CLOSE, BINARY = 0x80, 8, 2
CODES = {1002, 1003, 1007, 1009}

Plain = tuple[object, ...]
Parts = list[tuple[bytes, bytes]]  # header and masked payload of each frame


def fuzz_frames(data: bytes) -> None:
    """Any bytes, cut anywhere, give the same events and no undocumented error."""
    source = FuzzInput(data)
    cuts, stream = source.cuts(), source.rest()
    whole = read([stream])
    cut = read(pieces(stream, cuts))
    # A cut may put off the verdict on a bad header to the next byte.
    assert cut == whole or (cut == whole[:-1] and whole[-1][0] == "failure")
    assert len(whole) <= len(stream) // 2 + 1
    assert all(event[0] not in ("failure", "close") for event in whole[:-1])


def fuzz_frames_as_wsproto(data: bytes) -> None:
    """Well-formed frames, in any order, give the events of wsproto."""
    source = FuzzInput(data)
    parts: Parts = []
    while source.position < len(data) and len(parts) < 40:
        first, second = source.byte(), source.byte()
        payload = source.take(second & 0x7F)
        parts.append(frame(first, second, payload))
    cuts = [len(header) for header, _ in parts[:7]]
    stream = b"".join(header + payload for header, payload in parts)
    for takes in (True, False):
        expected = reference(parts, takes_binary=takes)
        assert read([stream], takes_binary=takes) == expected
        cut = pieces(stream, sorted(cuts))
        assert read(cut, takes_binary=takes) == expected
        assert read(cut, 2, takes_binary=takes) == expected


def frame(first: int, second: int, payload: bytes) -> tuple[bytes, bytes]:
    """Return a frame whose first byte is `first`, masked if `second` is even."""
    mask = b"\x12\x34\x56\x78" if second % 2 == 0 else b""
    size = len(payload)
    small = size < 126
    header = bytes((first, (size if small else 126) | (0x80 if mask else 0)))
    header += b"" if small else size.to_bytes(2)
    return header + mask, frame_format.by_stripes(payload, mask) if mask else payload


def read(
    stream: list[bytes], limit: int = NO_LIMIT, *, takes_binary: bool = False
) -> list[Plain]:
    """Return the events of a reader that reads at most `limit` frames in one call."""
    reader, events = FrameReader(LIMIT, takes_binary=takes_binary), []
    for piece in stream:
        events += [plain(event) for event in reader.receive_data(piece, limit)]
        while reader.rest is not None:
            events += [plain(event) for event in reader.read_rest(limit)]
    return events


def plain(event: object) -> Plain:
    """Return an event as a plain value for comparison."""
    match event:
        case bytes() | bytearray():
            return ("text", bytes(event), bytes(event).decode())
        case Close():
            return ("close", event.code, event.reason)
        case FrameError():
            assert event.close_reason.code in CODES
            return ("failure", event.close_reason.code)
        case Binary() | Ping() | Pong():
            return (type(event).__name__, bytes(event.payload))
    raise AssertionError(event)


def reference(parts: Parts, *, takes_binary: bool) -> list[Plain]:
    """Return the events of wsproto, with the limit and the refusal of binary frames."""
    protocol = ReferenceProtocol()
    events: list[Plain] = []
    text, started = b"", False
    try:
        for header, payload in parts:
            protocol.receive_bytes(header)
            found = list(protocol.received_frames())
            opcode = header[0] & 15
            if opcode == BINARY and not (started or takes_binary):
                return [*events, ("failure", 1003)]
            if opcode < CLOSE and len(text) + len(payload) > LIMIT:
                return [*events, ("failure", 1009)]
            protocol.receive_bytes(payload)
            for part in [*found, *protocol.received_frames()]:
                if part.opcode is Opcode.CLOSE:
                    assert isinstance(part.payload, tuple)
                    return [*events, ("close", int(part.payload[0]), part.payload[1])]
                if part.opcode in (Opcode.PING, Opcode.PONG):
                    assert isinstance(part.payload, (bytes, bytearray))
                    name = part.opcode.name.capitalize()
                    events.append((name, bytes(part.payload)))
                    continue
                started = not part.message_finished
                piece = part.payload
                assert not isinstance(piece, tuple)
                text += piece.encode() if isinstance(piece, str) else piece
                if part.message_finished:
                    if part.opcode is Opcode.TEXT:
                        events.append(("text", text, text.decode()))
                    else:
                        events.append(("Binary", text))
                    text = b""
    except ParseFailed as failed:
        events.append(("failure", int(failed.code)))
    return events


# Messages of a client


def fuzz_json_in(data: bytes) -> None:
    """The framing json delivers one line for each JSON text, and no other."""
    request = decode("json", data)
    if isinstance(request, bytes):
        assert json_text.is_json(data)
        assert request.count(b"\n") == 1
        assert request.endswith(b"\n")
        assert json_text.scan(request) == json_text.scan(data)
    else:
        assert not json_text.is_json(data)


def fuzz_stdio_in(data: bytes) -> None:
    """The framing stdio returns one of its requests for every message."""
    for pty in (False, True):
        request = decode("stdio", data, pty=pty)
        match request:
            case bytes():
                payload = json_text.parse(data)
                assert isinstance(payload, dict)
                assert decode_base64(payload["payload"]) == request
            case SignalRequest():
                assert request.name in SIGNALS
            case ResizeRequest():
                assert pty
                assert 0 < request.columns <= 65535
                assert 0 < request.rows <= 65535
            case WindowRequest():
                assert pty
                assert 0 <= request.size < 1 << 53
            case _:
                assert isinstance(request, (EndOfInput, RejectedMessage))


def fuzz_lines_in(data: bytes) -> None:
    """The framing lines delivers one line for each text, unless it breaks a line."""
    request = decode("lines", data)
    if isinstance(request, bytes):
        assert request.count(b"\n") == 1
        assert b"\r" not in request
    else:
        assert isinstance(request, FramingError)
        assert request.close_reason.code == 1007


def fuzz_lsp_in(data: bytes) -> None:
    """The framing lsp delivers each JSON text unchanged behind its length."""
    request = decode("lsp", data)
    if data[:15].lower() == b"content-length:":
        check_stream(data)
    elif isinstance(request, bytes):
        assert request == b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
    else:
        assert isinstance(request, FramingError)
        assert request.close_reason.code == 1007


def check_stream(data: bytes) -> None:
    """A byte stream gives the same bodies and the same error for every cut."""
    whole = deliver([data])
    bytewise = [data[at : at + 1] for at in range(15, len(data))]
    assert deliver([data[:15], *bytewise]) == whole
    heard, code = whole
    assert code in {0, *CODES}
    assert send(registry.create("lsp", LIMIT), [heard])[1] == ""


def deliver(pieces: list[bytes]) -> tuple[bytes, int]:
    """Return what the application gets, and the code of the close."""
    framing, heard = registry.create("lsp", LIMIT), b""
    for piece in pieces:
        request = framing.decode_binary(piece)
        if isinstance(request, FramingError):
            return heard + request.received, request.close_reason.code
        assert isinstance(request, bytes)
        heard += request
    return heard, 0


def fuzz_batches_in(data: bytes) -> None:
    """A batch of messages delivers what the messages deliver one by one."""
    events = data.split(b"\xff")[:20]
    if json_text.fast_parse is None:
        json_text.use_orjson()
    for name in ("json", "lines", "lsp"):
        framing = registry.create(name, LIMIT)
        found = framing.decode_batch(list(events))
        if found is not None:
            single = [framing.decode(event) for event in events]
            assert all(isinstance(one, bytes) for one in single)
            assert found == b"".join(one for one in single if isinstance(one, bytes))


def decode(name: str, message: bytes, *, pty: bool = False) -> object:
    framing = registry.create(name, LIMIT, pty=pty)
    try:
        return framing.decode(message)
    except FramingError as error:
        return error


# Output of an application


def fuzz_json_out(data: bytes) -> None:
    """Output arrives unchanged in base64, as stdout and as stderr."""
    for name in ("json", "stdio"):
        for stream in ("stdout", "stderr"):
            buffers, count = registry.create(name, LIMIT).encode(stream, data)
            messages = frames_of(b"".join(buffers))
            assert count == len(messages)
            output = b""
            for message in messages:
                assert len(message) <= LIMIT
                found = json_text.parse(message)
                assert isinstance(found, dict)
                assert found["type"] == stream
                output += decode_base64(found["payload"])
            assert output == data


def fuzz_lines_out(data: bytes) -> None:
    """Lines arrive as they were written, however the output is cut."""
    source = FuzzInput(data)
    cuts, output = source.cuts(), source.rest()
    whole, error = send(registry.create("lines", LIMIT), [output])
    cut, cut_error = send(registry.create("lines", LIMIT), pieces(output, cuts))
    assert (whole, bool(error)) == (cut, bool(cut_error))
    lines = output.split(b"\n")
    if not lines[-1]:
        lines.pop()
    expected = [line.removesuffix(b"\r") for line in lines[:-1]]
    expected += [lines[-1]] if lines else []
    if output.endswith(b"\n"):
        expected = [line.removesuffix(b"\r") for line in lines]
    assert whole == expected[: len(whole)]
    assert error or len(whole) == len(expected)


def fuzz_lsp_out(data: bytes) -> None:
    """Bodies arrive as they were written, however the output is cut."""
    source = FuzzInput(data)
    cuts, output = source.cuts(), source.rest()
    whole, error = send(registry.create("lsp", LIMIT), [output])
    cut, cut_error = send(registry.create("lsp", LIMIT), pieces(output, cuts))
    assert (whole, bool(error)) == (cut, bool(cut_error))
    assert all(len(body) <= LIMIT for body in whole)
    assert sum(map(len, whole)) <= len(output)
    if not error:
        assert output.lower().count(b"content-length") >= len(whole)


def send(framing: Framing, chunks: list[bytes]) -> tuple[list[bytes], str]:
    """Return the messages of an output, and the reason of the close if there is one."""
    messages: list[bytes] = []
    try:
        for chunk in filter(None, chunks):
            messages += messages_of(*framing.encode("stdout", chunk))
        messages += messages_of(*framing.flush("stdout"))
    except FramingError as error:
        assert error.close_reason.code == 1011
        return messages + messages_of(*error.sent), error.close_reason.text
    return messages, ""


def messages_of(
    buffers: list[bytes | bytearray | memoryview], count: int
) -> list[bytes]:
    messages = frames_of(b"".join(buffers))
    assert len(messages) == count
    assert all(message.decode() is not None for message in messages)
    return messages
