"""The syntax of addresses to listen on: the accepted forms, and hints for others."""

from __future__ import annotations

import pytest

from chimirror.config import listen_syntax


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:30747", ("127.0.0.1", 30747)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%lo]:80", ("fe80::1%lo", 80)),
    ],
)
def test_split(text: str, found: tuple[str, int]) -> None:
    assert listen_syntax.split(text) == found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "write :30747"),
        ("30747", "write 127.0.0.1:30747"),
        ("localhost", "write localhost:30747"),
        ("[::1]", "write [::1]:30747"),
        ("::1", "write [::1]:30747"),
        ("fe80::1:80", "write [fe80::1]:80 or [fe80::1:80]:30747"),
        ("a:b:c", "write [ADDRESS]:PORT"),
        ("a\0:b:c", "write [ADDRESS]:PORT"),
        (":80", "0.0.0.0:80 or [::]:80 for every network"),
        ("*:80", "write 127.0.0.1:80 for this machine alone"),
        ("localhost:http", "write a number from 0 to 65535"),
        ("localhost:65536", "write a number from 0 to 65535"),
        ("localhost:000080", "write a number from 0 to 65535"),
        ("localhost:٣", "write a number from 0 to 65535"),
        ("localhost:", "write a number from 0 to 65535"),
        ("[localhost]:80", "write [::1]:PORT"),
        ("[::1:80", "write [::1]:PORT"),
        ("/run/a.sock", "write unix:/run/NAME.sock"),
        ("@name", "write unix:/run/NAME.sock"),
        ("unix:", "write unix:/run/NAME.sock"),
        ("unix:@abstract", "write unix:/run/NAME.sock"),
    ],
)
def test_rejected_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(ValueError) as refused:
        listen_syntax.check(text)
    assert hint in str(refused.value)


def test_a_path_is_not_looked_at() -> None:
    assert listen_syntax.check("unix:run/a:b") == "unix:run/a:b"
