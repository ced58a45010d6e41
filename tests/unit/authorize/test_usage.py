"""The command line of chimirror-authorize."""

from __future__ import annotations

import os

import pytest

from chimirror.authorize import usage
from chimirror.authorize.messages import StartError

JWT = "jwt --issuer i --audience a"


def test_defaults() -> None:
    found = usage.parse(["htpasswd", "users"])
    assert found == usage.CommandLine("htpasswd", ("users",))


def test_options_of_a_service() -> None:
    argv = "--listen unix:/a --max-age 1min --listen [::1]:9 tokens f --cookie c"
    found = usage.parse([*argv.split(), "--socket-mode", "0660"])
    assert found == usage.CommandLine(
        "tokens",
        ("f",),
        listen=("unix:/a", "[::1]:9"),
        socket_mode=0o660,
        max_age=60.0,
        cookie="c",
    )


def test_a_new_token() -> None:
    argv = "token f ann --application a --expires 2027-01-01 --application b"
    found = usage.parse(argv.split())
    assert (found.words, found.applications) == (("f", "ann"), ("a", "b"))
    assert found.expires == "2027-01-01"


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version(word: str) -> None:
    names = {"-h": "--help"}
    assert usage.parse(["tokens", word]).verb == names.get(word, word)


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        ("", "no verb; write htpasswd, tokens, jwt, pam or token"),
        ("htpaswd f", '"htpaswd" is not htpasswd, tokens, jwt, pam or token'),
        ("htpasswd", "write htpasswd FILE"),
        ("token f", "write token FILE NAME"),
        ("tokens f g", "write tokens FILE"),
        (
            "htpasswd f --cookie c",
            "htpasswd takes no --cookie; that belongs to tokens, jwt",
        ),
        ("token f n --listen a:1", "token takes no --listen; that belongs to htpasswd"),
        ("tokens f --list a:1", "--list is not an option; write --listen"),
        ("tokens f --listen 9000", '--listen: "9000" is not an address and port'),
        ("tokens f --max-age soon", '--max-age: "soon" is not a time'),
        ("tokens f --socket-mode 9", '--socket-mode: "9"'),
        ("jwt --issuer i", "jwt needs --audience and --jwks"),
        (f"{JWT} --jwks http://x/", '--jwks: "http://x/" can be forged on its way'),
        (f"{JWT} --jwks f word", "write jwt without further words"),
        ("tokens f --cookie a=b", '--cookie: "a=b" is no name'),
    ],
)
def test_faults(argv: str, fault: str) -> None:
    with pytest.raises(StartError) as caught:
        usage.parse(argv.split())
    assert fault in str(caught.value)
    assert caught.value.status == os.EX_USAGE
    assert str(caught.value).endswith(
        "\nUsage: chimirror-authorize [options]... VERB [FILE]"
    )


@pytest.mark.parametrize(
    ("text", "is_url"),
    [
        *(("keys.json", False), ("/etc/https:/keys", False), ("https://x/jwks", True)),
        *(("http://localhost:1/a", True), ("http://127.0.0.1/", True)),
        *(("http://[::1]:80/", True), ("HTTPS://x/", True)),
    ],
)
def test_places_of_keys(text: str, is_url: bool) -> None:
    found = usage.parse([*JWT.split(), "--jwks", text])
    assert (found.jwks, found.jwks_is_url) == (text, is_url)


def test_every_option_belongs_to_verbs_that_exist() -> None:
    found = {verb for verbs in usage.SCOPES.values() for verb in verbs}
    assert found <= {*usage.VERBS} == {*usage.FORMS}
    alone = {option.name for option in usage.OPTIONS} - usage.SCOPES.keys()
    serving = {"--listen", "--socket-mode", "--max-age"}
    assert alone == {*serving, "--help", "--version"}
