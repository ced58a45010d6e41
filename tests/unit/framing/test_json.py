"""Framings: messages and byte streams in both directions, with their corner cases."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.config.options import OPTIONS
from chimirror.framing import (
    EOF,
    Framing,
    FramingError,
    RejectedMessage,
    SignalRequest,
    registry,
)
from chimirror.framing.lines import LinesFraming
from chimirror.io.write_buffer import IOV_MAX
from chimirror.process.pipes import READ_SIZE
from chimirror.protocol.policy import HandshakePolicy
from frame_texts import frames_of

LIMIT = 64
OUTPUT_LIMIT = 1 << 15
PIECE = 24552  # bytes of output in the largest message


def wrapped(frame: bytes) -> tuple[str, bytes]:
    """Return type and payload of the one message in a frame."""
    (message,) = frames_of(frame)
    value = json.loads(message)
    assert list(value)[:2] == ["type", "payload"]
    return value["type"], base64.b64decode(value["payload"], validate=True)


@pytest.mark.parametrize("name", ["json", "stdio", "lines", "lsp"])
def test_names(name: str) -> None:
    made = registry.create(name, OUTPUT_LIMIT)
    assert made.name == name
    assert HandshakePolicy([name]).subprotocols == {
        b"chimirror.%b.v1" % name.encode(): name
    }
    assert registry.FRAMINGS[name].default_stderr == (
        "client" if name in {"json", "stdio"} else "log"
    )


def test_framings_without_state_share_one_object() -> None:
    for name in ("json", "stdio"):
        assert registry.create(name, 1024) is registry.create(name, 1024)
    for name in ("lines", "lsp"):
        assert registry.create(name, 1) is not registry.create(name, 1)


def test_the_base_class_is_abstract() -> None:
    bare = Framing()
    with pytest.raises(NotImplementedError):
        bare.decode(b"")
    with pytest.raises(NotImplementedError):
        bare.encode("stdout", b"")
    assert bare.flush("stdout") == ([], 0)
    assert (
        bare.session_message("x", "", "both", read_only=False)
        == bare.exit_message(0, None)
        == bare.error_message("x")
        == b""
    )


@pytest.mark.parametrize("name", ["json", "stdio"])
@pytest.mark.parametrize("size", [0, 1, 64, 2000, 4096, PIECE - 1, PIECE])
def test_output_is_wrapped(name: str, size: int) -> None:
    made = registry.create(name, OUTPUT_LIMIT)
    chunk = bytes(i % 256 for i in range(size))
    for stream in ("stdout", "stderr"):
        buffers, messages = made.encode(stream, chunk)
        assert messages == 1
        assert wrapped(b"".join(buffers)) == (stream, chunk)
    assert made.flush("stdout") == ([], 0)


@pytest.mark.parametrize("name", ["json", "stdio"])
@pytest.mark.parametrize("limit", [1024, 1025, 1026, 1027, 4099, OUTPUT_LIMIT, 1 << 17])
def test_large_output_is_cut_into_messages(name: str, limit: int) -> None:
    made = registry.create(name, limit)
    piece = (limit - len('{"type":"stdout","payload":""}')) // 4 * 3
    for size in (piece, piece + 1, 2 * piece, 2 * piece + 1, READ_SIZE):
        chunk = bytes(i % 251 for i in range(size))
        for stream in ("stdout", "stderr"):
            buffers, count = made.encode(stream, chunk)
            messages = frames_of(b"".join(buffers))
            assert count == len(messages) == -(-size // piece)
            assert max(map(len, messages)) <= limit
            pieces = [json.loads(message) for message in messages]
            assert {each["type"] for each in pieces} == {stream}
            payloads = [base64.b64decode(each["payload"]) for each in pieces]
            assert b"".join(payloads) == chunk
            assert [*map(len, payloads[:-1])] == [piece] * (count - 1)


def test_one_read_is_written_with_one_call() -> None:
    buffers, count = registry.create("json", 1024).encode("stdout", bytes(READ_SIZE))
    assert count == 89
    assert len(buffers) <= IOV_MAX


def test_the_default_limit_suits_clients_that_read_32_kib() -> None:
    option = next(each for each in OPTIONS if each.name == "--max-output-message")
    assert option.value == OUTPUT_LIMIT == 32768


@pytest.mark.parametrize("name", ["json", "stdio"])
def test_errors_are_answered(name: str) -> None:
    made = registry.create(name, OUTPUT_LIMIT)
    assert wrapped(made.error_message("naïve")) == ("error", "naïve".encode())


def test_json_in() -> None:
    made = registry.create("json", OUTPUT_LIMIT)
    assert made.decode(b'{"a":\r\n1}\n') == b'{"a":  1} \n'
    assert made.decode(b'"\\ud800"') == b'"\\ud800"\n'
    mistake = made.decode(b"{")
    assert isinstance(mistake, RejectedMessage)
    assert mistake.text == "not JSON at byte 1: found the end"


def test_an_error_can_be_read() -> None:
    """Its text is that of the payload, as JSON and on one line."""
    made = registry.create("stdio", 1024)
    for message in (b'["\xc3\xa9",\x1b"\\]', b'{"type":"\\u0000' + b'\\"' * 99 + b'"}'):
        mistake = made.decode(message)
        assert isinstance(mistake, RejectedMessage)
        (told,) = frames_of(made.error_message(mistake.text))
        assert len(told) < 1024
        error = json.loads(told)
        assert error["text"] == base64.b64decode(error["payload"]).decode()
        assert error["text"].isprintable()


def test_json_has_no_session_messages() -> None:
    made = registry.create("json", OUTPUT_LIMIT)
    assert made.session_message("id", "", "both", read_only=False) == b""
    assert made.exit_message(0, None) == made.exit_message(None, "KILL") == b""


def test_stdio_session_messages() -> None:
    made = registry.create("stdio", OUTPUT_LIMIT)
    told = [
        made.session_message("12ab", "", "both", read_only=False),
        made.exit_message(0, None),
        made.exit_message(3, None),
    ]
    told.append(made.exit_message(None, "KILL"))
    assert frames_of(b"".join(told)) == [
        b'{"type":"session","id":"12ab","direction":"both"}',
        b'{"type":"exit","code":0}',
        b'{"type":"exit","code":3}',
        b'{"type":"exit","signal":"KILL"}',
    ]


@pytest.mark.parametrize("data", [b"", b"x", b"\x00\xff\n", b"long" * 1000])
def test_stdio_stdin(data: bytes) -> None:
    made = registry.create("stdio", OUTPUT_LIMIT)
    payload = base64.b64encode(data).decode()
    request = {"type": "stdin", "more": [1], "payload": payload}
    assert made.decode(json.dumps(request).encode()) == data


def test_stdio_requests() -> None:
    made = registry.create("stdio", OUTPUT_LIMIT)
    assert made.decode(b'{"type":"eof"}') is EOF
    assert made.decode(b'{"name":"KILL","type":"eof","x":null}') is EOF
    for name in "HUP INT QUIT TERM KILL USR1 USR2 CONT WINCH".split():
        request = made.decode(b'{"type":"signal","name":"%b"}' % name.encode())
        assert isinstance(request, SignalRequest)
        assert request.name == name


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        b"[]",
        b'"eof"',
        b"null",
        b"{}",
        b'{"type":"stdout","payload":""}',
        b'{"type":["eof"]}',
        b'{"type":"EOF"}',
        b'{"type":"stdin"}',
        b'{"type":"stdin","payload":null}',
        b'{"type":"stdin","payload":1234}',
        b'{"type":"stdin","payload":["AAAA"]}',
        b'{"type":"stdin","payload":"A"}',
        b'{"type":"stdin","payload":"AA=="AA"}',
        b'{"type":"stdin","payload":"AAAA\\n"}',
        b'{"type":"stdin","payload":"\\ud800"}',
        '{"type":"stdin","payload":"éééé"}'.encode(),
        b'{"type":"signal"}',
        b'{"type":"signal","name":"STOP"}',
        b'{"type":"signal","name":"SIGINT"}',
        b'{"type":"signal","name":"int"}',
        b'{"type":"signal","name":2}',
        b'{"type":"signal","name":["INT"]}',
    ],
)
def test_stdio_rejected_messages(message: bytes) -> None:
    mistake = registry.create("stdio", OUTPUT_LIMIT).decode(message)
    assert isinstance(mistake, RejectedMessage)
    assert mistake.text.isprintable()


def test_lines_in() -> None:
    made = registry.create("lines", LIMIT)
    assert made.decode(b"plain") == b"plain\n"
    assert made.decode(b"") == b"\n"
    assert made.decode(b"\x00") == b"\x00\n"
    assert made.decode(b'{"a":\r\n1}') == b'{"a":  1}\n'
    for message in (b"a\nb", b"a\r", b"\n", b'"a\nb"'):
        error = made.decode(message)
        assert isinstance(error, FramingError)
        assert error.close_reason.code == 1007
        assert error.sent == ([], 0)


def test_lines_have_no_session_messages() -> None:
    made = registry.create("lines", LIMIT)
    assert (
        made.session_message("id", "", "both", read_only=False)
        == made.exit_message(0, None)
        == made.error_message("text")
        == b""
    )


def test_lines_carry_no_stderr() -> None:
    with pytest.raises(AssertionError):
        registry.create("lines", LIMIT).encode("stderr", b"x")


def encode_all(chunks: list[bytes]) -> tuple[list[bytes], str]:
    """Return the lines that a client gets, and the reason of a closed session."""
    made = LinesFraming(LIMIT)
    lines: list[bytes] = []
    try:
        for chunk in chunks:
            lines += messages_of(*made.encode("stdout", chunk))
        lines += messages_of(*made.flush("stdout"))
    except FramingError as error:
        assert error.close_reason.code == 1011
        lines += messages_of(*error.sent)
        return lines, error.close_reason.text
    assert made.flush("stdout") == ([], 0)
    return lines, ""


def messages_of(
    buffers: list[bytes | bytearray | memoryview], messages: int
) -> list[bytes]:
    lines = frames_of(b"".join(buffers))
    assert len(lines) == messages
    assert all(buffers)
    return lines


NOT_UTF8 = "line not UTF-8"
TOO_LONG = "line over --max-line"


@pytest.mark.parametrize(
    ("output", "lines", "reason"),
    [
        (b"", [], ""),
        (b"\n", [b""], ""),
        (b"a\nb\r\nc", [b"a", b"b", b"c"], ""),
        (b"a\rb\r\r\n\r\n", [b"a\rb\r", b""], ""),
        (b"a\r", [b"a\r"], ""),
        (b"\x00\n\x00", [b"\x00", b"\x00"], ""),
        ("é\n😀".encode(), ["é".encode(), "😀".encode()], ""),
        (b"x" * 64 + b"\n" + b"x" * 64, [b"x" * 64] * 2, ""),
        (b"x" * 64 + b"\r\n", [b"x" * 64], ""),
        (b"a\n" + b"x" * 65 + b"\nb\n", [b"a"], TOO_LONG),
        (b"x" * 65, [], TOO_LONG),
        (b"x" * 64 + b"\r", [], TOO_LONG),
        (b"x" * 64 + b"\r\r\n", [], TOO_LONG),
        (b"a\n" + b"x" * 66, [b"a"], TOO_LONG),
        (b"\xff\na\n", [], NOT_UTF8),
        (b"a\n\xc3\nb\n", [b"a"], NOT_UTF8),
        (b"a\nb\n\xc3", [b"a", b"b"], NOT_UTF8),
        (b"\xed\xa0\x80\n", [], NOT_UTF8),
        (b"\xff" * 65 + b"\n", [], TOO_LONG),
    ],
)
def test_lines_out(output: bytes, lines: list[bytes], reason: str) -> None:
    for size in (1, 2, 3, 7, 1000):
        chunks = [output[at : at + size] for at in range(0, len(output), size)]
        assert encode_all(chunks) == (lines, reason)


PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\x00", b"a", b"x" * 30, "é€😀".encode(), b"\xc3", b"\xff"]
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.data())
def test_any_chunking_gives_the_same_lines(output: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=8).map(sorted))
    edges = [0, *cuts, len(output)]
    chunks = [output[a:b] for a, b in itertools.pairwise(edges)]
    assert encode_all(chunks) == encode_all([output])


def test_a_partial_line_is_held_without_bound_of_chunks() -> None:
    made = LinesFraming(1 << 20)
    for _ in range(1 << 10):
        assert made.encode("stdout", b"x" * 255) == ([], 0)
    buffers, messages = made.encode("stdout", b"\ny")
    assert (frames_of(b"".join(buffers)), messages) == ([b"x" * (255 << 10)], 1)
    assert frames_of(b"".join(made.flush("stdout")[0])) == [b"y"]
