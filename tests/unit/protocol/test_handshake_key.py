"""The key of a handshake and its answer."""

from __future__ import annotations

import hashlib
import importlib
import sys

import pytest

from chimirror.protocol.handshake import is_key, switching_protocols

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (KEY, True),
        (b"", False),
        (KEY[:-1], False),
        (KEY + b"=", False),
        (KEY + KEY, False),
        (b" " + KEY[1:], False),
        (KEY[4:], False),
    ],
)
def test_keys(value: bytes, good: bool) -> None:
    assert is_key(value) == good


def test_switching_protocols() -> None:
    """The example of RFC 6455, sections 1.2 and 1.3."""
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    )
    assert switching_protocols(KEY, None) == answer + b"\r\n"
    assert switching_protocols(KEY, b"chat") == (
        answer + b"Sec-WebSocket-Protocol: chat\r\n\r\n"
    )
    assert switching_protocols(KEY, None, b"A: b\r\n") == answer + b"A: b\r\n\r\n"


def test_a_python_without_its_own_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_sha1", None)
    spec = importlib.util.find_spec("chimirror.protocol.handshake")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    assert copy.sha1 is hashlib.sha1
