"""JSON documents over HTTP: GET, HEAD and revalidation after RFC 9110."""

from __future__ import annotations

import json
import sys

import pytest

from chimirror.protocol import http
from chimirror.resources.json_response import JSONDocument, JSONResponse, text

DOCUMENT = {"title": "Größe", "list": [1, None]}


def request(*fields: str, method: str = "GET") -> http.HTTPRequest:
    head = "\r\n".join([f"{method} /asyncapi.json HTTP/1.1", "Host: a", *fields])
    parsed = http.parse(f"{head}\r\n\r\n".encode())
    assert parsed
    return parsed[0]


def respond(*fields: str, head: bool = False) -> tuple[str, dict[str, str], bytes]:
    response = JSONResponse(JSONDocument(text(DOCUMENT)), request(*fields)).response(
        head=head
    )
    start, _, body = response.partition(b"\r\n\r\n")
    status, *lines = start.decode("ascii").split("\r\n")
    fields_by_name = dict(line.split(": ", 1) for line in lines)
    assert len(fields_by_name) == len(lines)
    return status, fields_by_name, body


def test_a_document() -> None:
    status, fields, body = respond()
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


def test_head_request() -> None:
    assert respond(head=True) == (*respond()[:2], b"")


@pytest.mark.parametrize(
    "field", ["{}", "W/{}", "*", '"a", {}', '"a"\r\nIf-None-Match: {}']
)
def test_matching_etag_gets_304(field: str) -> None:
    tag = respond()[1]["ETag"]
    status, fields, body = respond("If-None-Match: " + field.format(tag))
    assert (status, fields["ETag"], body) == ("HTTP/1.1 304 Not Modified", tag, b"")
    assert fields["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("field", ['"a"', "", "w/{}", "{}x"])
def test_other_etag_gets_the_document(field: str) -> None:
    tag = respond()[1]["ETag"]
    assert respond("If-None-Match: " + field.format(tag))[0] == "HTTP/1.1 200 OK"


def test_etag_changes_with_the_document() -> None:
    other = JSONResponse(JSONDocument(text({"title": "Grösse"})), request()).response()
    assert respond()[1]["ETag"].encode() not in other


@pytest.mark.parametrize(
    "document",
    [
        {"a": [], "b": {}, "c": [1, 2.5, None, True], "d": {"e": '\x7f\n"'}},
        {"title": "Größe", "lone": "\ud800"},
        {"large": 1 << 70},
    ],
)
def test_both_encoders_write_the_same(document: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "orjson", raising=False)
        plain = text(document)
    import orjson  # noqa: F401 (its presence decides)

    assert text(document) == plain
    assert plain.isascii()
