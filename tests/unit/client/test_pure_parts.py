"""Pure parts of the client: URLs, messages, buffers, framings and signal names."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.client import (
    InvalidURL,
    LineTooLong,
    Output,
    buffers,
    framing,
    results,
    stdio_messages,
    url,
    window,
)
from chimirror.client.handshake import ConnectionParams
from chimirror.connect import interrupt_policy
from chimirror.framing import EOF, SignalRequest, registry

CASES = json.loads((Path(__file__).parents[2] / "support/url_cases.json").read_text())
PROBLEMS = {
    "scheme": "it must begin with ws://, wss:// or ws[+]unix:",
    "host": "host|address is written",
    "port": "the port must be a number up to 65535",
    "control": "control characters must be written %XX",
    "form": "the form is ws|a Unix socket has no host|has at most 107 bytes",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["url"])
def test_urls(case: dict[str, Any]) -> None:
    """The cases of all clients: the target, and the fields of the request."""
    if "error" in case:
        with pytest.raises(InvalidURL, match=PROBLEMS[case["error"]]) as caught:
            url.parse(case["url"])
        assert str(caught.value).startswith("cannot use the URL ")
        return
    target = url.parse(case["url"])
    uri = target.uri
    assert (uri.secure, uri.host, uri.port, target.socket_path) == (
        *(case["secure"], case["host"], case["port"]),
        case.get("socket"),
    )
    websocket = ConnectionParams(target).create_websocket("x", lambda: 0.0)
    request, *fields = websocket.next_data().tobytes().decode().split("\r\n")
    assert request == f"GET {case['target']} HTTP/1.1"
    assert f"Host: {case['host_field']}" in fields


def test_text_that_is_not_utf8() -> None:
    """Bytes of an argument of a command line are encoded as they are."""
    assert url.parse("ws://x/\udcff").uri.resource_name == "/%FF"
    for text in ("ws://\udcff/", "ws://x/\ud800", "ws+unix:/x:/\ud800"):
        with pytest.raises(InvalidURL, match="cannot use the URL"):
            url.parse(text)


def test_user_and_password_of_a_url() -> None:
    """They become a field of the request, and are in no message."""
    for text, pair in (
        ("ws://u:p%40:s@h/", ("u", "p@:s")),
        ("ws://u@h/", ("u", "")),
        ("ws://h/", None),
    ):
        assert url.parse(text).uri.user_info == pair
    assert url.parse("ws://user:secret@h/").shown_url == "ws://...@h/"
    with pytest.raises(InvalidURL) as caught:
        url.parse("ftp://user:secret@x/")
    assert "secret" not in str(caught.value)


@given(st.text())
def test_any_url_is_a_target_or_a_usage_error(text: str) -> None:
    for scheme in ("", "ws://", "ws+unix:"):
        try:
            str(url.parse(scheme + text)).encode()
        except InvalidURL as error:
            assert str(error).isprintable()


@given(st.binary())
def test_the_server_decodes_stdin(data: bytes) -> None:
    server = registry.create("stdio", 1 << 20)
    assert server.decode(stdio_messages.stdin(data)) == data


def test_the_server_decodes_other_messages() -> None:
    server = registry.create("stdio", 1 << 20)
    assert server.decode(stdio_messages.EOF) is EOF
    for number in interrupt_policy.FORWARDED:
        name = number.name.removeprefix("SIG")
        sent = server.decode(stdio_messages.signal(name))
        assert isinstance(sent, SignalRequest)
        assert sent.name == name


@given(st.binary(), st.sampled_from(["stdout", "stderr"]), st.booleans())
def test_output_in_any_json_form(data: bytes, stream: str, spaced: bool) -> None:
    payload = stdio_messages.stdin(data)[27:-2].decode()
    separators = (", ", ": ") if spaced else (",", ":")
    message = json.dumps({"type": stream, "payload": payload}, separators=separators)
    event = stdio_messages.decode(message.encode())
    assert isinstance(event, Output)
    assert (event.stream, event.data) == (stream, data)


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.dictionaries(
            st.sampled_from(["type", "payload", "code", "signal", "id"]), inner
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_garbage_is_a_violation_or_nothing(message: bytes) -> None:
    try:
        stdio_messages.decode(message)
    except stdio_messages.MessageError as error:
        assert error.code in {1007, 1008}


def test_signals_end_the_client_when_nothing_else_helps() -> None:
    policy = interrupt_policy.InterruptPolicy()
    assert not policy.ends_client(signal.SIGINT, 0.0, responsive=True)
    assert policy.ends_client(signal.SIGINT, 0.9, responsive=True)  # again
    assert not policy.ends_client(signal.SIGTERM, 1.0, responsive=True)  # another one
    assert not policy.ends_client(signal.SIGINT, 2.0, responsive=True)  # later
    assert not policy.ends_client(signal.SIGUSR1, 5.0, responsive=False)
    assert policy.ends_client(signal.SIGTERM, 9.0, responsive=False)


# Buffers.


class Sent(list[dict[str, Any]]):
    """Records messages in place of a WebSocket."""

    def send(self, message: bytes, *, urgent: bool = False) -> None:
        assert urgent
        self.append(json.loads(message))


def output_buffer() -> buffers.OutputBuffer:
    return buffers.OutputBuffer(window.OutputWindow(Sent()))


CHUNKS = st.lists(
    st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"bc\nd\n"]) | st.binary()
)


@given(CHUNKS)
def test_lines_in_any_pieces_are_the_same(pieces: list[bytes]) -> None:
    buffer = output_buffer()
    whole = b"".join(pieces)
    *ended, rest = whole.split(b"\n")
    found = []
    for piece in pieces:
        buffer.put("stdout", piece)
        while (line := buffer.take_line("stdout", 1 << 20, last=False)) is not None:
            found.append(line)
    assert found == [line.removesuffix(b"\r") for line in ended]
    assert buffer.take_line("stdout", 1 << 20, last=True) == (rest or None)
    assert buffer.size == 0


@given(
    st.lists(st.tuples(st.sampled_from(buffers.STREAMS), st.binary(min_size=1))),
    st.sets(st.sampled_from(buffers.STREAMS)),
)
def test_the_order_is_kept(said: list[tuple[str, bytes]], streams: set[str]) -> None:
    buffer = output_buffer()
    for stream, data in said:
        buffer.put(stream, data)
    found = []
    while piece := buffer.take(streams):
        found.append(piece)
    assert found == [piece for piece in said if piece[0] in streams]
    buffer.discard(*buffers.STREAMS)
    assert buffer.size == 0


@given(st.lists(st.binary(), min_size=1), st.integers(0, 20))
def test_no_line_is_longer_than_its_limit(pieces: list[bytes], limit: int) -> None:
    """A line over the limit can be read in pieces, so that no data are lost."""
    buffer = output_buffer()
    for piece in pieces:
        buffer.put("stdout", piece)
    whole = b""
    while True:
        try:
            line = buffer.take_line("stdout", limit, last=True)
        except LineTooLong:
            taken = buffer.take(["stdout"])
            assert taken is not None
            assert len(taken[1]) > limit
            whole += taken[1]
            continue
        if line is None:
            break
        assert len(line) <= limit
        whole += line + b"\n"
    plain = b"".join(pieces)
    assert whole.replace(b"\n", b"").replace(b"\r", b"") == plain.replace(
        b"\n", b""
    ).replace(b"\r", b"")


def test_a_buffer_is_full_until_most_of_it_is_read() -> None:
    buffer = output_buffer()
    levels = []
    for _ in range(1000):
        buffer.put("stdout", bytes(1000))
        if buffer.full:
            break
    levels.append(buffer.size)
    while buffer.full:
        buffer.take(["stdout"])
    levels.append(buffer.size)
    step = 1000 + buffers.PIECE_OVERHEAD
    assert buffers.HIGH_WATER < levels[0] <= buffers.HIGH_WATER + step
    assert buffers.LOW_WATER - step < levels[1] <= buffers.LOW_WATER


SIZES = st.lists(st.integers(1, window.AHEAD), max_size=20)


@given(SIZES, SIZES)
def test_a_window_is_ahead_of_the_taken_output(
    before: list[int], after: list[int]
) -> None:
    sent = Sent()
    made = window.OutputWindow(sent)
    for size in before:
        made.on_received(size)
        made.on_taken(size)
    assert not sent
    made.start()
    taken = sum(before)
    assert sent == [{"type": "window", "bytes": taken + window.AHEAD}]
    for size in after:
        made.on_received(size)
        taken += size
        made.on_taken(size)
        ahead = sent[-1]["bytes"] - taken
        assert window.AHEAD // 2 < ahead <= window.AHEAD
        assert not made.is_full
    made.on_received(window.AHEAD)
    assert made.is_full
    made.stop()
    count = len(sent)
    made.on_taken(window.AHEAD)
    assert (made.is_full, len(sent)) == (False, count)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_server_decodes_json(value: object) -> None:
    (message,) = framing.create("json").messages(value)
    line = registry.create("json", 1 << 20).decode(message)
    assert isinstance(line, bytes)
    assert line.count(b"\n") == 1
    assert json.loads(line) == value


def test_the_exit_in_a_close_frame() -> None:
    killed = results.Exit(None, "40", "signal 40", 1011)
    assert results.exit_from_close(1011, "signal 40") == killed
    assert str(killed) == "signal 40"


def test_names_of_signals() -> None:
    for name in framing.SIGNALS:
        assert framing.signal_name(name) == name
        assert framing.signal_name(f"SIG{name}") == name
        assert framing.signal_name(signal.Signals[f"SIG{name}"]) == name
    for wrong in ("", "STOP", 0, 19, "9"):
        with pytest.raises(ValueError, match=r"ignal"):
            framing.signal_name(wrong)
