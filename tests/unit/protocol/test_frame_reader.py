"""Frame reader: the same messages and close codes as wsproto, for every cut.

wsproto alone is the reference. The tests add the two rules that it does not know: the
limit of a message, and the refusal of binary frames. Some framings take them.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

import chimirror
from chimirror.protocol import frame_format, frame_reader
from chimirror.protocol.frame_reader import Close, FrameError, FrameReader
from wsproto_reference import ReferenceProtocol

LIMIT = 1000
MASK = b"\x12\x34\x56\x78"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10

Plain = tuple[object, ...]


class Frame:
    """A client's frame, valid or broken."""

    def __init__(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        bits: int = FIN,
        mask: bytes = MASK,
        extra: int | None = None,
    ) -> None:
        self.opcode = opcode
        size = len(payload)
        if extra is None:
            extra = 0 if size <= 125 else 2 if size < 1 << 16 else 8
        second = {0: size, 2: 126, 8: 127}[extra] | (0x80 if mask else 0)
        self.header = bytes((bits | opcode, second))
        if extra:
            self.header += size.to_bytes(extra)
        self.header += mask
        self.payload = frame_format.by_stripes(payload, mask) if mask else payload

    def __bytes__(self) -> bytes:
        return self.header + self.payload

    def __repr__(self) -> str:
        return f"<{self.header.hex()} {self.payload[:8].hex()}*{len(self.payload)}>"


def plain(event: frame_reader.Event) -> Plain:
    """Return an event as a plain value for comparison."""
    if isinstance(event, bytes):
        return ("text", event)
    if isinstance(event, Close):
        return ("close", event.code, event.reason)
    if isinstance(event, FrameError):
        return ("failure", event.close_reason.code)
    return (type(event).__name__, event.payload)


def read(
    data: bytes, *cuts: int, limit: int = LIMIT, takes_binary: bool = False
) -> list[Plain]:
    """Return the events of the frame reader for data cut at these places."""
    reader = FrameReader(limit, takes_binary=takes_binary)
    edges = [0, *cuts, len(data)]
    events = []
    for start, end in itertools.pairwise(edges):
        events += reader.receive_data(data[start:end])
    return [plain(event) for event in events]


def reference(
    sequence: list[Frame], limit: int = LIMIT, *, takes_binary: bool = False
) -> list[Plain]:
    """Return the events of wsproto, with the two further rules."""
    protocol = ReferenceProtocol()
    events: list[Plain] = []
    text = b""
    started = False
    try:
        for frame in sequence:
            protocol.receive_bytes(frame.header)
            got = list(protocol.received_frames())
            if frame.opcode == BINARY and not (started or takes_binary):
                return [*events, ("failure", 1003)]
            if frame.opcode < CLOSE and len(text) + len(frame.payload) > limit:
                return [*events, ("failure", 1009)]
            protocol.receive_bytes(frame.payload)
            got += protocol.received_frames()
            for part in got:
                if part.opcode is Opcode.CLOSE:
                    assert isinstance(part.payload, tuple)
                    return [*events, ("close", int(part.payload[0]), part.payload[1])]
                if part.opcode in (Opcode.PING, Opcode.PONG):
                    assert isinstance(part.payload, bytes)
                    events.append((part.opcode.name.capitalize(), part.payload))
                    continue
                started = not part.message_finished
                is_text = part.opcode is Opcode.TEXT
                payload = part.payload
                assert not isinstance(payload, tuple)
                text += payload.encode() if isinstance(payload, str) else payload
                if part.message_finished:
                    events.append(("text" if is_text else "Binary", text))
                    text = b""
    except ParseFailed as failed:
        events.append(("failure", int(failed.code)))
    return events


def check(*sequence: Frame, limit: int = LIMIT) -> list[Plain]:
    """Read the frames whole, and byte by byte. Both must equal the reference.

    Returns:
        The events of a reader that takes no binary messages.
    """
    data = b"".join(map(bytes, sequence))
    for takes in (True, False):
        expected = reference(list(sequence), limit, takes_binary=takes)
        assert read(data, limit=limit, takes_binary=takes) == expected
        cuts = range(1, len(data))
        assert read(data, *cuts, limit=limit, takes_binary=takes) == expected
    return expected


@pytest.mark.parametrize("mask", [MASK, b"\0\0\0\0", b""])
@pytest.mark.parametrize("opcode", range(16))
def test_every_first_byte(opcode: int, mask: bytes) -> None:
    """Each opcode with each reserved bit, whole or not, with payloads of 0, 2 and 3."""
    payloads = (b"", b"\x03\xe8", b"\x03\xe8x")
    for bits, payload in itertools.product(range(0, 256, 16), payloads):
        frame = Frame(opcode, payload, bits=bits, mask=mask)
        (event,) = check(frame, Frame(TEXT, b"after"))[:1]
        good = bits == FIN and opcode in (TEXT, CLOSE, PING, PONG) and mask
        if not good and not (bits in (0, FIN) and opcode in (TEXT, BINARY) and mask):
            assert event == ("failure", 1002)
        check(Frame(TEXT, b"before", bits=0), frame, Frame(CONTINUATION, b"after"))


def test_two_bytes_decide_about_an_invalid_frame() -> None:
    for first, second in ((0x83, 0x80), (0xC1, 0x80), (0x81, 0x01), (0x09, 0x80)):
        assert read(bytes((first, second))) == [("failure", 1002)]
    assert read(b"\x89\xfe") == [("failure", 1002)]
    assert read(b"\x82\x80") == [("failure", 1003)]
    assert read(b"\x81\xfe\x03\xe9") == [("failure", 1009)]
    assert read(b"\x81\xff\0\0\0\0\0\1\0\0") == [("failure", 1009)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537])
def test_lengths(size: int) -> None:
    payload = b"x" * size
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
        (event,) = check(Frame(opcode, payload[:3000]), limit=5000)
        if opcode > BINARY and size > 125:
            assert event == ("failure", 1002)
    data = bytes(Frame(TEXT, payload))
    expected = [("text", payload)]
    assert read(data, limit=size) == expected
    assert read(data, *range(16), limit=size) == expected
    if size:
        assert read(data, limit=size - 1) == [("failure", 1009)]
    fragments = bytes(Frame(TEXT, payload, bits=0)) + bytes(Frame(CONTINUATION))
    assert read(fragments, limit=size) == expected


@pytest.mark.parametrize(
    ("size", "extra"), [(0, 2), (1, 8), (125, 2), (125, 8), (126, 8), (900, 8)]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, CONTINUATION])
@pytest.mark.parametrize("bits", [0, FIN])
def test_over_long_lengths(size: int, extra: int, opcode: int, bits: int) -> None:
    frame = Frame(opcode, b"x" * size, bits=bits, extra=extra)
    assert check(frame) == [("failure", 1002)]


@pytest.mark.parametrize("first", [0x80, 0x81, 0x82, 0x01])
def test_the_longest_lengths(first: int) -> None:
    """The top bit of a length is an error. Without it, the length is only too large."""
    too_much = {0x82: 1003}.get(first, 1009)
    assert read(bytes((first, 0xFF)) + b"\x80" + bytes(11)) == [("failure", 1002)]
    assert read(bytes((first, 0xFF, 0x7F)) + bytes(11)) == [("failure", too_much)]


def test_unmasked_with_a_long_length() -> None:
    for size in (126, 1000):
        assert check(Frame(TEXT, b"x" * size, mask=b"")) == [("failure", 1002)]


def test_fragments() -> None:
    whole = "né€😀".encode()
    for at in range(len(whole) + 1):
        check(
            Frame(TEXT, whole[:at], bits=0),
            Frame(PING, b"between"),
            Frame(CONTINUATION, b"", bits=0),
            Frame(PONG),
            Frame(CONTINUATION, whole[at:]),
            Frame(TEXT, b"plain"),
            Frame(TEXT, b"again", bits=0),
            Frame(CONTINUATION),
            Frame(CLOSE),
        )
    sequence = [Frame(TEXT, b"a", bits=0), *[Frame(CONTINUATION, b"b", bits=0)] * 50]
    assert check(*sequence, Frame(CONTINUATION, b"c")) == [
        ("text", b"a" + b"b" * 50 + b"c")
    ]


def test_close_between_fragments() -> None:
    for payload in (b"", b"\x03\xe8ok", b"\x03\xf4ok", b"\x03\xf6", b"x"):
        check(Frame(TEXT, b"a", bits=0), Frame(CLOSE, payload), Frame(CONTINUATION))


def test_fragments_out_of_order() -> None:
    start, text, more = Frame(TEXT, b"a", bits=0), Frame(TEXT, b"b"), Frame(0, b"c")
    for sequence in (
        [more],
        [Frame(0, b"", bits=0)],
        [start, text],
        [start, Frame(BINARY, b"x")],
        [start, start],
        [start, more, more],
    ):
        assert check(*sequence)[-1] == ("failure", 1002)
    assert check(Frame(BINARY, b"x", bits=0)) == [("failure", 1003)]


@pytest.mark.parametrize("whole", ["né€😀".encode(), b"\xff\x80" * 99, b""])
def test_binary_messages(whole: bytes) -> None:
    """They are not checked, and a text after one is."""
    after = [Frame(TEXT, b"\xc3", bits=0), Frame(CONTINUATION, b"x")]
    for at in range(len(whole) + 1):
        sequence = [
            Frame(BINARY, whole),
            Frame(TEXT, b"text"),
            Frame(BINARY, whole[:at], bits=0),
            Frame(PING, b"between"),
            Frame(CONTINUATION, whole[at:]),
            *after,
        ]
        check(*sequence)
        assert read(b"".join(map(bytes, sequence)), takes_binary=True) == [
            ("Binary", whole),
            ("text", b"text"),
            ("Ping", b"between"),
            ("Binary", whole),
            ("failure", 1007),
        ]


def test_binary_messages_over_the_limit() -> None:
    start, more = Frame(BINARY, b"x" * LIMIT, bits=0), Frame(CONTINUATION, b"x")
    for sequence in ([start, more], [Frame(BINARY, b"x" * (LIMIT + 1))]):
        data = b"".join(map(bytes, sequence))
        assert read(data[:-1], takes_binary=True) == [("failure", 1009)]


def test_fragments_over_the_limit() -> None:
    half = b"x" * (LIMIT // 2)
    start, more = Frame(TEXT, half, bits=0), Frame(CONTINUATION, half, bits=0)
    ping, one, last = Frame(PING, b"p" * 125), Frame(0, b"x"), Frame(0)
    assert check(start, more, ping, last)[-1] == ("text", half + half)
    assert check(start, more, ping, one)[-1] == ("failure", 1009)
    data = b"".join(map(bytes, (start, more, one)))
    assert read(data[:-1]) == [("failure", 1009)]


@pytest.mark.parametrize("limit", [0, 1, 64, 125])
def test_low_limits(limit: int) -> None:
    assert check(Frame(TEXT, b"x" * limit), limit=limit) == [("text", b"x" * limit)]
    over = Frame(TEXT, b"x" * (limit + 1))
    assert check(over, limit=limit) == [("failure", 1009)]
    assert check(Frame(PING, b"p" * 125), limit=limit) == [("Ping", b"p" * 125)]


BAD_UTF8 = (
    b"\xff",
    b"\xc3",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"a\x80",
)


@pytest.mark.parametrize("bad", BAD_UTF8)
def test_bad_utf8(bad: bytes) -> None:
    assert check(Frame(TEXT, bad)) == [("failure", 1007)]
    assert check(Frame(TEXT, b"x" * 200 + bad)) == [("failure", 1007)]
    for at in range(len(bad) + 1):
        start, more = Frame(TEXT, bad[:at], bits=0), Frame(CONTINUATION, bad[at:])
        assert check(start, more) == [("failure", 1007)]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        *[(code, False) for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016)],
        *[(code, False) for code in (1100, 2000, 2999, 5000, 65535)],
        *[(code, True) for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010)],
        *[(code, True) for code in (1011, 1012, 1013, 1014, 3000, 3999, 4999)],
    ],
)
def test_close_codes(code: int, allowed: bool) -> None:
    for reason in ("", "bye", "é" * 61):
        close = Frame(CLOSE, code.to_bytes(2) + reason.encode())
        expected: Plain = ("close", code, reason) if allowed else ("failure", 1002)
        assert check(Frame(TEXT, b"a"), close, Frame(TEXT, b"b")) == [
            ("text", b"a"),
            expected,
        ]
    bad = check(Frame(CLOSE, code.to_bytes(2) + b"\xff"))
    assert bad == [("failure", 1007 if allowed else 1002)]


def test_close_payloads() -> None:
    assert check(Frame(CLOSE)) == [("close", 1005, "")]
    assert check(Frame(CLOSE, b"\x03")) == [("failure", 1002)]


@pytest.mark.parametrize("last", [Frame(CLOSE), Frame(3), Frame(TEXT, b"\xff")])
def test_nothing_follows_the_end(last: Frame) -> None:
    reader = FrameReader(LIMIT)
    assert len(reader.receive_data(bytes(last) + bytes(Frame(TEXT, b"x")))) == 1
    for more in (b"", b"x", bytes(Frame(TEXT, b"x"))):
        assert reader.receive_data(more) == []


def test_errors_have_a_close_reason() -> None:
    for data, reason in (
        (bytes(Frame(3)), "protocol"),
        (bytes(Frame(BINARY)), "binary"),
        (bytes(Frame(TEXT, b"\xff")), "not UTF-8"),
        (bytes(Frame(TEXT, b"x" * (LIMIT + 1))), "over --max-message"),
    ):
        (failure,) = FrameReader(LIMIT).receive_data(data)
        assert isinstance(failure, FrameError)
        assert failure.close_reason.text == reason


PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=80).map(str.encode),
    st.integers(120, 130).map(lambda size: b"x" * size),
    st.integers(LIMIT - 2, LIMIT + 2).map(lambda size: b"y" * size),
    st.integers(990, 5001).map(lambda code: code.to_bytes(2) + b"why"),
)
ANY_FRAME = st.builds(
    Frame,
    st.sampled_from(
        (TEXT, TEXT, CONTINUATION, CONTINUATION, PING, PONG, CLOSE, BINARY, 3)
    ),
    PAYLOADS,
    bits=st.sampled_from((FIN, FIN, FIN, 0, 0, FIN | RSV1, RSV2, FIN | RSV3)),
    mask=st.sampled_from((MASK, b"\xff\x00\x80\x01", MASK, b"")),
)
GOOD_FRAME = st.one_of(
    st.builds(Frame, st.just(TEXT), st.text(max_size=150).map(str.encode)),
    st.builds(Frame, st.sampled_from((PING, PONG)), st.binary(max_size=125)),
)


@st.composite
def fragmented(draw: st.DrawFn) -> list[Frame]:
    """A message in fragments, with control frames between them."""
    pieces = draw(st.lists(st.text(max_size=20).map(str.encode), min_size=1))
    first = draw(st.sampled_from((TEXT, BINARY)))
    control = st.builds(Frame, st.sampled_from((PING, PONG)), st.binary(max_size=9))
    sequence = []
    for number, piece in enumerate(pieces):
        opcode = CONTINUATION if number else first
        last = number == len(pieces) - 1
        sequence.append(Frame(opcode, piece, bits=FIN if last else 0))
        if not last:
            sequence += draw(st.lists(control, max_size=1))
    return sequence


SEQUENCES = st.lists(
    GOOD_FRAME.map(lambda frame: [frame])
    | fragmented()
    | st.lists(ANY_FRAME, max_size=2),
    max_size=6,
).map(lambda parts: [frame for part in parts for frame in part])


@given(SEQUENCES, st.data(), st.booleans())
def test_as_wsproto(
    sequence: list[Frame], data: st.DataObject, takes_binary: bool
) -> None:
    stream = b"".join(map(bytes, sequence))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))
    expected = reference(sequence, takes_binary=takes_binary)
    assert read(stream, takes_binary=takes_binary) == expected
    assert read(stream, *cuts, takes_binary=takes_binary) == expected


def read_in_steps(
    data: bytes, cuts: list[int], limits: list[int], *, takes_binary: bool
) -> list[Plain]:
    """Return the events of a reader that reads a few frames with each call."""
    reader = FrameReader(LIMIT, takes_binary=takes_binary)
    limit = itertools.cycle(limits)
    events: list[Plain] = []
    for start, end in itertools.pairwise([0, *cuts, len(data)]):
        got = reader.receive_data(data[start:end], next(limit))
        while got or reader.rest:
            events += map(plain, got[:1])
            if got[1:]:
                reader.put_back(got[1:])
            got = reader.read_rest(next(limit))
    return events


@given(SEQUENCES, st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_any_limit_gives_the_same_events(
    sequence: list[Frame], data: st.DataObject, limits: list[int]
) -> None:
    stream = b"".join(map(bytes, sequence))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))
    for takes in (True, False):
        stepped = read_in_steps(stream, cuts, limits, takes_binary=takes)
        assert stepped == read(stream, *cuts, takes_binary=takes)


@pytest.mark.parametrize(
    "sequence",
    [
        [Frame(TEXT, b"a", bits=0), Frame(CONTINUATION, b"b")],
        [Frame(TEXT)],
        [Frame(PING)],
        [Frame(PONG), Frame(TEXT, b"x")],
        [Frame(TEXT, b"a", bits=0), *[Frame(CONTINUATION, b"", bits=0)] * 3000],
    ],
)
def test_one_call_reads_few_frames(sequence: list[Frame]) -> None:
    """The cost is per frame, however short it is."""
    data = b"".join(map(bytes, sequence)) * (3000 // len(sequence) + 1)
    data += bytes(Frame(TEXT, b"x" * 500))[:9]
    reader = FrameReader(LIMIT)
    sizes = [len(reader.receive_data(data, 10))]
    while reader.rest:
        sizes.append(len(reader.read_rest(10)))
    assert max(sizes) <= 10
    assert len(sizes) >= 300


def test_an_incomplete_frame_is_no_rest() -> None:
    """After a run, the next call would find nothing."""
    for frame in (Frame(TEXT, b"x" * 64), Frame(TEXT, b"x" * 200)):
        data = bytes(frame) * 20
        for cut in range(len(data) - len(bytes(frame)), len(data)):
            reader = FrameReader(LIMIT)
            assert len(reader.receive_data(data[:cut], 19)) == 19
            assert reader.rest is None
            assert len(reader.read_rest()) == 0


def test_fragments_are_kept_in_one_buffer() -> None:
    """Thousands of empty fragments hold nothing."""
    reader = FrameReader(LIMIT)
    reader.receive_data(bytes(Frame(TEXT, b"a", bits=0)))
    stream = bytes(Frame(CONTINUATION, b"", bits=0)) * 1000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(10):
        assert reader.receive_data(stream) == []
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2048


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5).map(sorted))
def test_garbage_gives_only_protocol_errors(stream: bytes, cuts: list[int]) -> None:
    for takes in (True, False):
        events = read(stream, *cuts, takes_binary=takes)
        assert events == read(stream, takes_binary=takes)
        for event in events:
            assert event[0] != "failure" or event[1] in (1002, 1003, 1007, 1009)
        assert all(event[0] not in ("failure", "close") for event in events[:-1])


def test_idle_readers_hold_no_buffer() -> None:
    reader = FrameReader(1 << 20)
    large = bytes(Frame(TEXT, b"x" * (1 << 20)))
    pair = bytes(Frame(TEXT, b"x", bits=0)) + bytes(Frame(CONTINUATION))
    reader.receive_data(pair)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for stream in (large, pair, bytes(Frame(PING)) * 9):
        for at in range(0, len(stream), 65536):
            reader.receive_data(stream[at : at + 65536])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4096


def test_a_long_frame_is_not_copied_for_each_read() -> None:
    """Many small reads never allocate the collected bytes again."""
    stream = bytes(Frame(TEXT, b"x" * (1 << 20)))
    reader = FrameReader(1 << 20)
    reader.receive_data(stream[:100])
    collected = reader._buffer
    for at in range(100, len(stream) - 100, 1000):
        assert reader.receive_data(stream[at : at + 1000][: len(stream) - at - 1]) == []
        assert reader._buffer is collected


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_sent_messages(size: int) -> None:
    text = b"x" * size
    sent = frame_format.text_header(size) + text
    assert frame_format.text_frames([text, b"", text]) == sent + b"\x81\x00" + sent
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(sent)
    got = "".join(str(frame.payload) for frame in client.received_frames())
    assert got == text.decode()


def test_sent_control_frames() -> None:
    client = FrameProtocol(client=True, extensions=[])
    long = "é" * 100
    for sent in (
        frame_format.ping(b"p" * 125),
        frame_format.pong(b""),
        frame_format.close(1011, long),
    ):
        client.receive_bytes(sent)
    assert [frame.payload for frame in client.received_frames()] == [
        b"p" * 125,
        b"",
        (1011, "é" * 61),
    ]
    assert frame_format.close(1000) == b"\x88\x02\x03\xe8"
    assert frame_format.close(1005, "ignored") == b"\x88\x00"
    assert frame_format.close(1011, "\ud800") == b"\x88\x03\x03\xf3?"


BUDGET = """
import sys
sys.path.insert(0, sys.argv[1])
from chimirror.framing import registry
from chimirror.protocol import frame_reader
reader = frame_reader.FrameReader(1 << 20)
made = registry.create("json", 1 << 20)
(message,) = reader.receive_data(bytes.fromhex(sys.argv[2]))
buffers, count = made.encode("stdout", made.decode(message))
parts, ping, close = reader.receive_data(bytes.fromhex(sys.argv[3]))
assert count == 1 and parts == b"ab" and ping.payload == b"p", parts
assert close.code == 1000, close
print(b"".join(buffers).hex(), *sys.modules)
"""
TOO_DEAR = set(
    "json re enum typing collections dataclasses orjson wsproto websockets pybase64"
    " struct socket signal logging functools hashlib selectors subprocess".split()
)


def test_import_budget() -> None:
    """Reading and echoing a small JSON message needs no costly import."""
    text = Frame(TEXT, b'{"a":1}')
    end = bytes(Frame(TEXT, b"a", bits=0)) + bytes(Frame(CONTINUATION, b"b"))
    end += bytes(Frame(PING, b"p")) + bytes(Frame(CLOSE, b"\x03\xe8"))
    root = str(Path(chimirror.__file__).parent.parent)
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BUDGET, root, bytes(text).hex(), end.hex()],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
    )
    sent, *modules = ran.stdout.split()
    assert bytes.fromhex(sent)[2:] == b'{"type":"stdout","payload":"eyJhIjoxfQo="}'
    assert not TOO_DEAR & set(modules)
