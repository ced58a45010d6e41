"""The pure parts of the client: URLs, messages, signals, and words made safe."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.client import (
    InvalidURL,
    LineTooLong,
    Output,
    framing,
    inbox,
    stdio,
    texts,
    url,
)
from chimirror.connect import interrupts
from chimirror.wire import contract
from chimirror.wire import framing as theirs


@pytest.mark.parametrize(
    ("text", "place", "resource"),
    [
        ("ws://localhost", "localhost port 80", "/"),
        ("WSS://Example.org/a?b", "example.org port 443", "/a?b"),
        ("ws://u:p@[::1]:30747/x", "::1 port 30747", "/x"),
        ("ws+unix:/run/x.sock", "/run/x.sock", "/"),
        ("ws+unix:///run/x.sock:/a?b=:/", "/run/x.sock", "/a?b=:/"),
        ("ws+unix:x%3A/y%25:/", "x:/y%", "/"),
    ],
)
def test_urls(text: str, place: str, resource: str) -> None:
    target = url.parse(text)
    assert str(target) == place
    assert target.uri.resource_name == resource


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:30747",
        "ws:localhost",
        "ws://",
        "ws://x:y/",
        "ws://x/#f",
        "ws://x/a b",
        "ws://u@x/",
        "ws+unix:",
        "ws+unix://host/x",
        "ws+unix:/x?y",
        "ws+unix:" + "x" * 108,
        "ws+unix:x%00",
        "ws://\udcff/",
    ],
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(InvalidURL, match="cannot use the URL"):
        url.parse(text)


def test_a_password_is_not_told() -> None:
    with pytest.raises(InvalidURL) as caught:
        url.parse("http://user:secret@x/#f")
    assert "secret" not in str(caught.value)


@given(st.text())
def test_any_url_is_a_target_or_a_usage_error(text: str) -> None:
    for scheme in ("", "ws://", "ws+unix:"):
        try:
            str(url.parse(scheme + text)).encode()
        except InvalidURL as error:
            assert str(error).isprintable()


@given(st.binary())
def test_stdin_is_what_the_server_reads(data: bytes) -> None:
    server = theirs.create("stdio", 1 << 20)
    assert server.decode(stdio.stdin(data)) == data


def test_the_other_messages_are_what_the_server_reads() -> None:
    server = theirs.create("stdio", 1 << 20)
    assert server.decode(stdio.EOF) is contract.EOF
    for number in interrupts.FORWARDED:
        name = number.name.removeprefix("SIG")
        sent = server.decode(stdio.signal(name))
        assert isinstance(sent, contract.Signal)
        assert sent.name == name


@given(st.binary(), st.sampled_from(["stdout", "stderr"]), st.booleans())
def test_output_in_any_spelling(data: bytes, stream: str, spaced: bool) -> None:
    payload = stdio.stdin(data)[27:-2].decode()
    separators = (", ", ": ") if spaced else (",", ":")
    message = json.dumps({"type": stream, "payload": payload}, separators=separators)
    event = stdio.decode(message.encode())
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
        stdio.decode(message)
    except stdio.Violation as error:
        assert error.code in {1007, 1008}


@given(st.text())
def test_safe_is_printable_and_bounded(text: str) -> None:
    assert texts.safe(text).isprintable()
    assert len(texts.safe(text * 1000, 100)) <= 103
    texts.safe(text).encode()


def test_signals_end_the_client_when_nothing_else_helps() -> None:
    rule = interrupts.Interrupts()
    assert not rule.ends(signal.SIGINT, 0.0, answered=True)
    assert rule.ends(signal.SIGINT, 0.9, answered=True)  # again
    assert not rule.ends(signal.SIGTERM, 1.0, answered=True)  # another one
    assert not rule.ends(signal.SIGINT, 2.0, answered=True)  # later
    assert not rule.ends(signal.SIGUSR1, 5.0, answered=False)
    assert rule.ends(signal.SIGTERM, 9.0, answered=False)


# What the client library keeps.


CHUNKS = st.lists(
    st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"bc\nd\n"]) | st.binary()
)


@given(CHUNKS)
def test_lines_in_any_pieces_are_the_same(pieces: list[bytes]) -> None:
    box = inbox.Inbox()
    whole = b"".join(pieces)
    *ended, rest = whole.split(b"\n")
    found = []
    for piece in pieces:
        box.put("stdout", piece)
        while (line := box.line("stdout", 1 << 20, last=False)) is not None:
            found.append(line)
    assert found == [line.removesuffix(b"\r") for line in ended]
    assert box.line("stdout", 1 << 20, last=True) == (rest or None)
    assert box.size == 0


@given(
    st.lists(st.tuples(st.sampled_from(inbox.STREAMS), st.binary(min_size=1))),
    st.sets(st.sampled_from(inbox.STREAMS)),
)
def test_the_order_is_kept(said: list[tuple[str, bytes]], streams: set[str]) -> None:
    box = inbox.Inbox()
    for stream, data in said:
        box.put(stream, data)
    found = []
    while piece := box.take(streams):
        found.append(piece)
    assert found == [piece for piece in said if piece[0] in streams]
    box.discard(*inbox.STREAMS)
    assert box.size == 0


@given(st.lists(st.binary(), min_size=1), st.integers(0, 20))
def test_no_line_is_longer_than_its_limit(pieces: list[bytes], limit: int) -> None:
    """And what is too long can be read in pieces: nothing is lost."""
    box = inbox.Inbox()
    for piece in pieces:
        box.put("stdout", piece)
    whole = b""
    while True:
        try:
            line = box.line("stdout", limit, last=True)
        except LineTooLong:
            taken = box.take(["stdout"])
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


def test_an_inbox_is_full_until_most_of_it_is_read() -> None:
    box = inbox.Inbox()
    levels = []
    for _ in range(1000):
        box.put("stdout", bytes(1000))
        if box.full:
            break
    levels.append(box.size)
    while box.full:
        box.take(["stdout"])
    levels.append(box.size)
    step = 1000 + inbox.OVERHEAD
    assert inbox.HIGH < levels[0] <= inbox.HIGH + step
    assert inbox.LOW - step < levels[1] <= inbox.LOW


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_what_the_server_reads(value: object) -> None:
    (message,) = framing.create("json").messages(value)
    line = theirs.create("json", 1 << 20).decode(message)
    assert isinstance(line, bytes)
    assert line.count(b"\n") == 1
    assert json.loads(line) == value


def test_names_of_signals() -> None:
    for name in framing.SIGNALS:
        assert framing.signal_name(name) == name
        assert framing.signal_name(f"SIG{name}") == name
        assert framing.signal_name(signal.Signals[f"SIG{name}"]) == name
    for wrong in ("", "STOP", 0, 19, "9"):
        with pytest.raises(ValueError, match=r"ignal"):
            framing.signal_name(wrong)
