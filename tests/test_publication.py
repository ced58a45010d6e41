"""Documents over HTTP: what RFC 9110 wants of a GET that may be asked again."""

from __future__ import annotations

import json

import pytest

from chimirror.wire import http
from chimirror.wire.publication import Publication

DOCUMENT = {"title": "Größe", "list": [1, None]}


def asked(*fields: str, method: str = "GET") -> http.Request:
    head = "\r\n".join([f"{method} /asyncapi.json HTTP/1.1", "Host: a", *fields])
    parsed = http.parse(f"{head}\r\n\r\n".encode())
    assert parsed
    return parsed[0]


def answer(*fields: str, head: bool = False) -> tuple[str, dict[str, str], bytes]:
    response = Publication(DOCUMENT, asked(*fields)).response(head=head)
    start, _, body = response.partition(b"\r\n\r\n")
    status, *lines = start.decode("ascii").split("\r\n")
    told = dict(line.split(": ", 1) for line in lines)
    assert len(told) == len(lines)
    return status, told, body


def test_a_document() -> None:
    status, fields, body = answer()
    assert status == "HTTP/1.1 200 OK"
    assert json.loads(body) == DOCUMENT
    assert fields.pop("ETag").strip('"').isalnum()
    assert fields == {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }


def test_head_is_get_without_the_body() -> None:
    assert answer(head=True) == (*answer()[:2], b"")


@pytest.mark.parametrize(
    "field", ["{}", "W/{}", "*", '"a", {}', '"a"\r\nIf-None-Match: {}']
)
def test_who_has_it_gets_none(field: str) -> None:
    tag = answer()[1]["ETag"]
    status, fields, body = answer("If-None-Match: " + field.format(tag))
    assert (status, fields["ETag"], body) == ("HTTP/1.1 304 Not Modified", tag, b"")
    assert fields["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("field", ['"a"', "", "w/{}", "{}x"])
def test_who_has_another_gets_this(field: str) -> None:
    tag = answer()[1]["ETag"]
    assert answer("If-None-Match: " + field.format(tag))[0] == "HTTP/1.1 200 OK"


def test_the_tag_changes_with_the_document() -> None:
    other = Publication({"title": "Grösse"}, asked()).response()
    assert answer()[1]["ETag"].encode() not in other
