"""Input of text framings: messages, and input that is reported instead of sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.client import Output
from chimirror.connect import text_framings
from chimirror.connect.text_framings import InputError, LspText

BODIES = [b'{"a":1}', b"[1,\n2]", '"\u00e4"'.encode(), b"1e999", b"9" * 5000]


def read(name: str, *pieces: bytes) -> tuple[list[bytes], list[str]]:
    """Return the messages and the reports for the whole input."""
    reports: list[str] = []
    found = text_framings.create_input(text_framings.create(name), reports.append)
    messages = [message for piece in pieces for message in found.feed(piece)]
    messages += found.end()
    return messages, reports


@pytest.mark.parametrize(
    ("name", "data", "messages"),
    [
        ("lines", b"a\r\n\nb", [b"a", b"", b"b"]),
        ("lines", b"", []),
        ("json", b'1\n\n {"a": [2]} \r\n"x"', [b"1", b' {"a": [2]} ', b'"x"']),
        ("json", b"-0.5e-9999\n" + b"9" * 5000, [b"-0.5e-9999", b"9" * 5000]),
        ("lsp", b'\n{"a":1}\n[]', [b'{"a":1}', b"[]"]),
        ("lsp", b" \n", []),
    ],
)
def test_lines_become_messages(name: str, data: bytes, messages: list[bytes]) -> None:
    assert read(name, data) == (messages, [])
    assert read(name, *[data[n : n + 1] for n in range(len(data))]) == (messages, [])


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("lines", b"a\rb", "it has a carriage return: a\\rb"),
        ("lines", b"a\xff", "not UTF-8 at byte 1: a\\xff"),
        ("json", b"yes", 'not JSON at character 0 (a text needs quotes: "yes"): yes'),
        ("json", b"NaN", "not JSON (a text needs"),
        ("json", b"\xef\xbb\xbf1", "not JSON at character 0"),
        ("json", b'"\xff"', "not UTF-8 at byte 1"),
        ("json", b"[" * 100_000, "nested too deeply: [[[["),
        ("lsp", b"{}}\x1b[2J", "not JSON at character 2"),
    ],
)
def test_a_bad_line_is_reported_alone(name: str, line: bytes, text: str) -> None:
    messages, (report,) = read(name, b"1\n" + line + b"\n2")
    assert messages == [b"1", b"2"]
    assert report.startswith("line 2 of the input is not sent: ")
    assert text in report
    assert report.isprintable()
    assert len(report) < 200


@pytest.mark.parametrize("name", ["lines", "json"])
def test_a_line_that_is_too_long(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_framings, "MAX_TEXT", 100)
    good = b'"' + b"x" * 98 + b'"'
    messages, reports = read(name, good, b"\r\n" + b"y" * 60, b"y" * 60, b"\n1\n")
    assert messages == [good, b"1"]
    assert len(reports) == 1
    assert reports[0].startswith("line 2 of the input is not sent: longer than 64M: yy")


@given(st.lists(st.sampled_from(BODIES)), st.integers(1, 50), st.sampled_from(" \t"))
def test_bodies_behind_headers(bodies: list[bytes], size: int, space: str) -> None:
    heads = f"Content-Type: x\r\ncontent-LENGTH:{space}%d\r\n\r\n".encode()
    data = b"".join(heads % len(body) + body for body in bodies)
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    assert read("lsp", *pieces) == (bodies, [])


def test_a_bad_body_is_reported_alone() -> None:
    bodies = [b"1", b"oops", b"2"]
    data = b"".join(b"Content-Length: %d\r\n\r\n%b" % (len(b), b) for b in bodies)
    messages, (report,) = read("lsp", data)
    assert messages == [b"1", b"2"]
    assert report.startswith("message 2 of the input is not sent: not JSON")


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"Content-Type: " + b"x" * 5000,
    ],
)
def test_a_bad_header_ends_the_input(header: bytes) -> None:
    with pytest.raises(InputError, match="message 2 of the input has no header"):
        read("lsp", b"Content-Length: 2\r\n\r\n{}" + header)


def test_input_that_ends_within_a_body() -> None:
    messages, reports = read("lsp", b"Content-Length: 9\r\n\r\n{}")
    assert messages == []
    assert reports == ["the input ends within a message, which is not sent"]


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"{}\n", b"[1, 2]\n"), (b"Content-Length: 2\r\n\r\n{}", None)],
)
def test_lsp_output_has_the_form_of_the_input(data: bytes, text: bytes | None) -> None:
    used = LspText()
    assert list(text_framings.create_input(used, pytest.fail).feed(data)) == [b"{}"]
    shown = text if text is not None else b"Content-Length: 6\r\n\r\n[1,\n2]"
    assert used.decode(b"[1,\n2]") == Output("stdout", shown)


@given(st.binary())
def test_sent_json_is_json(data: bytes) -> None:
    messages, _ = read("json", data)
    for message in messages:
        json.loads(message)
