"""The path of --base-path: good texts, and refusals with the right one."""

from __future__ import annotations

import pytest

from chimirror.config import base_path

# Every character that a segment may hold as it is (RFC 3986, section 3.3).
PLAIN = "/az-AZ.09_~!$&'()*+,;=:@"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/", ""),
        ("/term", "/term"),
        ("/term/", "/term"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a%20b/%C3%A9%2F%25", "/a%20b/%C3%A9%2F%25"),
        (PLAIN, PLAIN),
        ("/...", "/..."),
    ],
)
def test_paths(text: str, path: str) -> None:
    assert base_path.parse(text) == path


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", "/"),
        ("term", "/term"),
        ("//", "/"),
        ("//x", "/x"),
        ("/x//", "/x"),
        ("/a//b", "/a/b"),
        ("/.", "/"),
        ("/a/./b", "/a/b"),
        ("/..", "/"),
        ("/a/../b", "/b"),
        ("/../../b/", "/b"),
        ("/%2e%2E/b", "/b"),
        ("/term?x", "/term"),
        ("/term#x", "/term"),
        ("/a b", "/a%20b"),
        ("/é", "/%C3%A9"),
        ("/\udce9", "/%E9"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%74erm", "/term"),
        ("/a%", "/a%25"),
        ("/a%2", "/a%252"),
        ("/a%zz", "/a%25zz"),
        ("/a% 1", "/a%25%201"),
        ("/a\nb\x7f", "/ab"),
        ("/a%00%0A", "/a"),
        ('/a"<b>', "/a%22%3Cb%3E"),
        ("https://h.example/term/", "/term"),
        ("https://h.example", "/"),
    ],
)
def test_other_texts_are_refused_with_the_right_one(text: str, right: str) -> None:
    with pytest.raises(ValueError) as caught:
        base_path.parse(text)
    fault = f'"{text}" is not an absolute path as in URLs; write {right}'
    assert str(caught.value) == fault
    assert base_path.parse(right) == right.removesuffix("/")
