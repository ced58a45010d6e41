"""Framings: messages and byte streams, each way, and the corners of both."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.wire import framing
from chimirror.wire.contract import EOF, Framing, Mistake, Signal, Violation
from chimirror.wire.headers import text_header
from chimirror.wire.lines import Lines

LIMIT = 64


def frames_of(data: bytes) -> list[bytes]:
    """The text messages in unmasked server frames."""
    messages = []
    while data:
        assert data[0] == 0x81
        extra = {126: 2, 127: 8}.get(data[1], 0)
        size = int.from_bytes(data[2 : 2 + extra]) if extra else data[1]
        messages.append(data[2 + extra : 2 + extra + size])
        assert data.startswith(text_header(size))
        data = data[2 + extra + size :]
    return messages


def wrapped(frame: bytes) -> tuple[str, bytes]:
    """Type and payload of the one message in a frame."""
    (message,) = frames_of(frame)
    value = json.loads(message)
    assert list(value) == ["type", "payload"]
    return value["type"], base64.b64decode(value["payload"], validate=True)


@pytest.mark.parametrize("name", ["json", "stdio", "lines", "lsp"])
def test_names(name: str) -> None:
    made = framing.create(name, LIMIT)
    assert made.name == name
    assert made.subprotocol == b"chimirror.%b.v1" % name.encode()
    assert made.default_stderr == ("client" if name in {"json", "stdio"} else "log")


def test_one_object_serves_all_sessions_but_where_there_are_beginnings() -> None:
    for name in ("json", "stdio"):
        assert framing.create(name, 1) is framing.create(name, 2)
    for name in ("lines", "lsp"):
        assert framing.create(name, 1) is not framing.create(name, 1)


def test_a_framing_has_to_say_how() -> None:
    bare = Framing()
    with pytest.raises(NotImplementedError):
        bare.decode(b"")
    with pytest.raises(NotImplementedError):
        bare.encode("stdout", b"")
    assert bare.finish("stdout") == ([], 0)
    assert bare.opened("x", "") == bare.ended(0, None) == bare.error("x") == b""


@pytest.mark.parametrize("name", ["json", "stdio"])
@pytest.mark.parametrize("size", [0, 1, 64, 2000, 4096, 65536])
def test_output_is_wrapped(name: str, size: int) -> None:
    made = framing.create(name, LIMIT)
    chunk = bytes(i % 256 for i in range(size))
    for stream in ("stdout", "stderr"):
        buffers, messages = made.encode(stream, chunk)
        assert messages == 1
        assert wrapped(b"".join(buffers)) == (stream, chunk)
    assert made.finish("stdout") == ([], 0)


@pytest.mark.parametrize("name", ["json", "stdio"])
def test_errors_are_answered(name: str) -> None:
    made = framing.create(name, LIMIT)
    assert wrapped(made.error("naïve")) == ("error", "naïve".encode())


def test_json_in() -> None:
    made = framing.create("json", LIMIT)
    assert made.decode(b'{"a":\r\n1}\n') == b'{"a":  1} \n'
    assert made.decode(b'"\\ud800"') == b'"\\ud800"\n'
    mistake = made.decode(b"{")
    assert isinstance(mistake, Mistake)
    assert mistake.text == "not JSON"


def test_json_is_silent_about_the_session() -> None:
    made = framing.create("json", LIMIT)
    assert made.opened("id", "") == b""
    assert made.ended(0, None) == made.ended(None, "KILL") == b""


def test_stdio_tells_of_the_session() -> None:
    made = framing.create("stdio", LIMIT)
    told = [made.opened("12ab", ""), made.ended(0, None), made.ended(3, None)]
    told.append(made.ended(None, "KILL"))
    assert frames_of(b"".join(told)) == [
        b'{"type":"session","id":"12ab"}',
        b'{"type":"exit","code":0}',
        b'{"type":"exit","code":3}',
        b'{"type":"exit","signal":"KILL"}',
    ]


@pytest.mark.parametrize("data", [b"", b"x", b"\x00\xff\n", b"long" * 1000])
def test_stdio_stdin(data: bytes) -> None:
    made = framing.create("stdio", LIMIT)
    payload = base64.b64encode(data).decode()
    request = {"type": "stdin", "more": [1], "payload": payload}
    assert made.decode(json.dumps(request).encode()) == data


def test_stdio_requests() -> None:
    made = framing.create("stdio", LIMIT)
    assert made.decode(b'{"type":"eof"}') is EOF
    assert made.decode(b'{"name":"KILL","type":"eof","x":null}') is EOF
    for name in "HUP INT QUIT TERM KILL USR1 USR2 CONT WINCH".split():
        request = made.decode(b'{"type":"signal","name":"%b"}' % name.encode())
        assert isinstance(request, Signal)
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
def test_stdio_mistakes(message: bytes) -> None:
    mistake = framing.create("stdio", LIMIT).decode(message)
    assert isinstance(mistake, Mistake)
    assert mistake.text.isprintable()


def test_lines_in() -> None:
    made = framing.create("lines", LIMIT)
    assert made.decode(b"plain") == b"plain\n"
    assert made.decode(b"") == b"\n"
    assert made.decode(b"\x00") == b"\x00\n"
    assert made.decode(b'{"a":\r\n1}') == b'{"a":  1}\n'
    for message in (b"a\nb", b"a\r", b"\n", b'"a\nb"'):
        violation = made.decode(message)
        assert isinstance(violation, Violation)
        assert violation.code == 1007
        assert violation.sent == ([], 0)


def test_lines_say_nothing_of_themselves() -> None:
    made = framing.create("lines", LIMIT)
    assert made.opened("id", "") == made.ended(0, None) == made.error("text") == b""


def test_lines_carry_no_stderr() -> None:
    with pytest.raises(AssertionError):
        framing.create("lines", LIMIT).encode("stderr", b"x")


def print_all(chunks: list[bytes]) -> tuple[list[bytes], str]:
    """The lines that a client gets, and the reason if the session was closed."""
    made = Lines(LIMIT)
    lines: list[bytes] = []
    try:
        for chunk in chunks:
            lines += taken(*made.encode("stdout", chunk))
        lines += taken(*made.finish("stdout"))
    except Violation as violation:
        assert violation.code == 1011
        lines += taken(*violation.sent)
        return lines, violation.reason
    assert made.finish("stdout") == ([], 0)
    return lines, ""


def taken(buffers: list[bytes | bytearray], messages: int) -> list[bytes]:
    lines = frames_of(b"".join(buffers))
    assert len(lines) == messages
    assert all(buffers)
    return lines


NOT_UTF8 = "line not UTF-8"
TOO_LONG = "line over --max-message"


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
        assert print_all(chunks) == (lines, reason)


PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\x00", b"a", b"x" * 30, "é€😀".encode(), b"\xc3", b"\xff"]
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.data())
def test_any_chunking_gives_the_same_lines(output: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=8).map(sorted))
    edges = [0, *cuts, len(output)]
    chunks = [output[a:b] for a, b in itertools.pairwise(edges)]
    assert print_all(chunks) == print_all([output])


def test_a_partial_line_is_held_without_bound_of_chunks() -> None:
    made = Lines(1 << 20)
    for _ in range(1 << 12):
        assert made.encode("stdout", b"x" * 255) == ([], 0)
    buffers, messages = made.encode("stdout", b"\ny")
    assert (frames_of(b"".join(buffers)), messages) == ([b"x" * (255 << 12)], 1)
    assert frames_of(b"".join(made.finish("stdout")[0])) == [b"y"]
