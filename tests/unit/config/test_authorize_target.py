"""Where an authorizer is, as an operator writes it, and how a command is split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.config import command_words
from chimirror.config.authorize_target import EXEC, HTTP, UNIX, fields, parse


def test_http() -> None:
    target = parse("http://127.0.0.1:9090/auth?x=%20")
    assert (target.kind, target.host, target.port) == (HTTP, "127.0.0.1", 9090)
    assert target.uri == "/auth?x=%20"
    assert (parse("http://[::1]").host, parse("http://[::1]").port) == ("::1", 80)
    assert parse("http://auth.example.org/").uri == "/"
    assert parse("http://localhost:1") == parse("http://localhost:1/")
    assert len({parse("http://localhost"), parse("http://localhost/")}) == 1


def test_unix() -> None:
    assert parse("http+unix:/run/a").path == "/run/a"
    assert (parse("http+unix:/run/a").kind, parse("http+unix:/run/a").uri) == (
        UNIX,
        "/",
    )
    target = parse("http+unix:/run/a:b:/auth")
    assert (target.path, target.uri) == ("/run/a:b", "/auth")


def test_exec() -> None:
    target = parse("exec:/bin/helper --file 'a b'")
    assert (target.kind, target.argv) == (EXEC, ("/bin/helper", "--file", "a b"))


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("", "write http://127.0.0.1:9090/PATH"),
        ("localhost:80", "write http://127.0.0.1:9090/PATH"),
        ("http:localhost", "write http://127.0.0.1:9090/PATH"),
        ("https://localhost/", "write http:// or http+unix:"),
        ("http://u:secret@localhost/", "write http://HOST:PORT/PATH"),
        ("http:///x", "write"),
        ("http://::1:80/", "write [::1]:80"),
        ("http://localhost:0/", "write the port"),
        ("http://localhost:x/", "write a number"),
        ("http://localhost?x", "write a / after the port"),
        ("http://loc%61l/", "write http://HOST/"),
        ("http://localhost/a b", "write %20"),
        ("http://localhost/ü", "write %20"),
        ("http://localhost/#x", "leave it out"),
        ("http+unix:run/a", "write http+unix:/run/NAME.sock"),
        ("http+unix:", "write http+unix:/run/NAME.sock"),
        ("http+unix:@a", "write http+unix:/run/NAME.sock"),
        ("http+unix:/" + 107 * "a", "write a shorter one"),
        ("http+unix:/run/a:/b c", "write %20"),
        ("exec:", 'write "exec:/usr/bin/COMMAND ARG"'),
        ("exec: ''", 'write "exec:/usr/bin/COMMAND ARG"'),
        ("exec:a 'b", "close it"),
        ("exec:a \0", "leave it out"),
    ],
)
def test_other_targets_are_refused(text: str, cure: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse(text)
    assert cure in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  a\tb  c ", ("a", "b", "c")),
        ("'a b' \"c 'd'\"", ("a b", "c 'd'")),
        ("a'b 'c\"d\"", ("ab cd",)),
        ("'' \"\"", ("", "")),
        (r"\x20 a\x20b \040 \s", (" ", "a b", " ", " ")),
        (r"\a\b\f\n\r\t\v\\\"\'", ("\a\b\f\n\r\t\v\\\"'",)),
        (r"'\x41\u20ac' \U0001f600", ("A€", "😀")),
        (r"\xc3\xbc \xff", ("ü", "\udcff")),
        ("$HOME %h ${X} ; | @a", ("$HOME", "%h", "${X}", ";", "|", "@a")),
        ("ü\udcff", ("ü\udcff",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert command_words.split(text) == words


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_quoted_words_are_kept(words: list[str]) -> None:
    quoted = [word.replace("\\", r"\\").replace('"', r"\"") for word in words]
    assert command_words.split(" ".join(f'"{word}"' for word in quoted)) == tuple(words)


@given(st.text())
def test_every_text_is_split_or_refused(text: str) -> None:
    try:
        words = command_words.split(text)
    except ValueError as error:
        assert "; " in str(error)
    else:
        assert all(isinstance(word, str) for word in words)


@pytest.mark.parametrize(
    "text",
    ["\\", r"\q", r"\x2", r"\xzz", r"\x00", r"\08", r"\400", r"\ud800", r"\U00110000"],
)
def test_other_escapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an escape; write "):
        command_words.split(text)


def test_a_quote_is_closed() -> None:
    with pytest.raises(ValueError, match="is not closed"):
        command_words.split("a \"b 'c'")


def test_fields() -> None:
    assert fields("Remote-User") == ("remote-user", "")
    assert fields("X-User,X-Groups") == ("x-user", "x-groups")


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "a,b,c", "a,A", "a b", "WWW-Authenticate", "ü"]
)
def test_other_fields_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=";"):
        fields(text)
