"""Requests without a yes: nothing starts, and no application is shown."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimirror.access import FAILED, FORBIDDEN, UNKNOWN, Answer
from identified_session import Asking

METHODS = st.sampled_from(["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "get"])
TARGETS = st.sampled_from(
    [
        *("/sesame", "/sesame/", "/sesame/asyncapi.json", "/sesame?a", "//sesame"),
        *("http://localhost/sesame", "http://sesame/", "/%73esame", "/SESAME", "/b/a"),
        *("/", "/other", "/sesam", "/.well-known/chimirror", "/asyncapi.json", "*"),
        *("/.well-known/chimirror.js", "/other/../sesame", "/.well-known//chimirror"),
        *("/term/sesame", "/term/.well-known/chimirror", "http://localhost/term"),
    ]
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2"])
HANDSHAKE = [
    *("Host: localhost", "Upgrade: websocket", "Connection: Upgrade"),
    *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
]
FIELDS = [
    *("Sec-WebSocket-Protocol: chimirror.json.v1", "Remote-User: root"),
    *("Sec-WebSocket-Protocol: chimirror.control.v1", "X-Forwarded-For: 127.0.0.1"),
    *("Sec-WebSocket-Protocol: chimirror.bearer.YQ", "If-None-Match: *", "Accept: */*"),
    *("Chimirror-Subprotocol: chimirror.json.v1", "Accept: text/html", "X: a, b"),
    *("Chimirror-Subprotocol: chimirror.control.v1", "Authorization: Basic QTpC"),
    *("Origin: http://localhost", "Origin: http://evil.example", "X-User: root"),
    *("X_User: root", "X-Forwarded-User: root", "Host: other", "Content-Length: 0"),
]
ANSWERS = st.sampled_from(
    [None, Answer(UNKNOWN), Answer(FORBIDDEN), Answer(FAILED, text="broken")]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    line = " ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    missing = draw(st.sets(st.sampled_from(HANDSHAKE), max_size=2))
    if draw(st.booleans()):  # a plain request
        missing |= set(HANDSHAKE[1:])
    fields = [each for each in HANDSHAKE if each not in missing]
    fields += draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    return "\r\n".join([line, *draw(st.permutations(fields)), "", ""]).encode()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("apps")
    text = 'command = ["cat"]\n[interface]\ntitle = "treasure"\n'
    (path / "sesame.toml").write_text(text)
    return path


def received(session: Asking) -> bytes:
    session.client.setblocking(False)
    data = b""
    with suppress(BlockingIOError):
        while more := session.client.recv(65536):
            data += more
    return data


@given(requests(), requests(), st.data(), ANSWERS)
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_nothing_is_shown_or_started(
    directory: Path,
    first: bytes,
    second: bytes,
    data: st.DataObject,
    answer: Answer | None,
) -> None:
    options = ("--apps", str(directory), "--console", "--web-client", "--control")
    with Asking(*options, "--base-path", "/term") as session:
        sent = first + second if data.draw(st.booleans()) else first
        at = data.draw(st.integers(0, len(sent)))
        session.ask(sent[:at])
        session.ask(sent[at:])
        if answer is not None and session.authorizer.questions:
            session.answer(answer)
        reply = received(session)
        assert session.application.started == 0
        assert not reply.startswith(b"HTTP/1.1 101")
        assert b"treasure" not in reply
        if b"sesame" not in sent:
            assert b"sesame" not in reply
