"""The pure parts of the client: URLs, messages, signals, and words made safe."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.client import interrupts, stdio, texts, url
from chimirror.wire import contract, framing


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
    with pytest.raises(texts.UsageError, match="cannot use the URL"):
        url.parse(text)


def test_a_password_is_not_told() -> None:
    with pytest.raises(texts.UsageError) as caught:
        url.parse("http://user:secret@x/#f")
    assert "secret" not in str(caught.value)


@given(st.text())
def test_any_url_is_a_target_or_a_usage_error(text: str) -> None:
    for scheme in ("", "ws://", "ws+unix:"):
        try:
            str(url.parse(scheme + text)).encode()
        except texts.UsageError as error:
            assert str(error).isprintable()


@given(st.binary())
def test_stdin_is_what_the_server_reads(data: bytes) -> None:
    server = framing.create("stdio", 1 << 20)
    assert server.decode(stdio.stdin(data)) == data


def test_the_other_messages_are_what_the_server_reads() -> None:
    server = framing.create("stdio", 1 << 20)
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
    assert isinstance(event, stdio.Output)
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
    assert not rule.ends(signal.SIGINT, 0.0, running=True)
    rule.pong(rule.ping())
    assert rule.ends(signal.SIGINT, 0.9, running=True)  # again
    assert not rule.ends(signal.SIGTERM, 1.0, running=True)  # another one
    assert not rule.ends(signal.SIGINT, 2.0, running=True)  # later
    payload = rule.ping()
    rule.pong(b"another")
    assert not rule.ends(signal.SIGUSR1, 5.0, running=True)
    assert rule.ends(signal.SIGTERM, 9.0, running=True)  # unanswered
    rule.pong(payload)
    assert not rule.ends(signal.SIGHUP, 9.0, running=True)
    assert rule.ends(signal.SIGQUIT, 9.0, running=False)  # nobody to tell
