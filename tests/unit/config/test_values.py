"""Framings, hosts, origins, networks, variables: good texts, and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimirror.config import values

if TYPE_CHECKING:
    from collections.abc import Callable


def test_framings() -> None:
    assert values.framings("json") == ("json",)
    assert values.framings("lsp,lines,json,stdio") == ("lsp", "lines", "json", "stdio")


@pytest.mark.parametrize(
    ("parse", "text", "error"),
    [
        (values.framings, "", '"" is not a framing; write json, stdio, lines or lsp'),
        (values.framings, "json,", '"" is not a framing; write json, stdio, lines or'),
        (values.framings, "Json", '"Json" is not a framing; write json, stdio, lines'),
        (values.framings, "json,json", '"json" is named twice; name each framing once'),
        (values.stderr, "drop", '"drop" is not known; write client, log or discard'),
        (values.directory, "", "the path is empty; write the directory to start in"),
    ],
)
def test_words(parse: Callable[[str], object], text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("Upgrade", "connection", "Sec-WebSocket-Accept", "Content-Length", "Date"),
        *("Transfer-Encoding", "SET-COOKIE", "Server", "Access-Control-Allow-Origin"),
    ],
)
def test_fields_of_http_hold_no_session_id(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.session_id_header(name)
    assert f'"{name}" has a meaning of its own in HTTP; write' in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\r\n", "x" * 65])
def test_a_field_of_the_session_id_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.session_id_header(name)
    text = f'"{name}" is not the name of a field; write X-Session-Id'
    assert str(caught.value) == text


def test_a_field_of_the_session_id_keeps_its_case() -> None:
    for name in ("Acp-Connection-Id", "X" * 64, "upgraded"):
        assert values.session_id_header(name) == name


def test_subprotocols() -> None:
    assert values.subprotocols([]) == {}
    expected = {"mcp": "lines", "a.b": "json"}
    assert values.subprotocols(["mcp=lines", "a.b=json"]) == expected


HOST = "is not a host name; write it without scheme, port or path"
ORIGIN = "is not an origin; write scheme, name and port alone"
STAR = "as in vscode-webview://*; else name each origin, such as https://app.example"


@pytest.mark.parametrize(
    ("parse", "texts", "error"),
    [
        (values.subprotocols, ["mcp"], '"mcp" is not NAME=FRAMING; write mcp=lines'),
        (values.subprotocols, ["=lines"], '"=lines" is not NAME=FRAMING'),
        (values.subprotocols, ["a b=lines"], '"a b=lines" is not NAME=FRAMING'),
        (values.subprotocols, ["mcp=x"], '"x" is not a framing; write json, stdio'),
        (values.subprotocols, ["a=json", "a=json"], '"a" is given twice'),
        (
            values.subprotocols,
            ["chimirror.x=json"],
            "built in; allow it with --framing",
        ),
        (values.hosts, ["https://x"], HOST),
        (values.hosts, ["x:80"], HOST),
        (values.hosts, ["x/y"], HOST),
        (values.hosts, ["*"], HOST),
        (values.hosts, [""], HOST),
        (values.hosts, ["bücher.example"], "is not ASCII; write the name in its xn--"),
        (values.origins, ["null"], '"null" cannot be allowed, because all sandboxed'),
        (values.origins, ["*"], STAR),
        (values.origins, ["https://*"], STAR),
        (values.origins, ["WSS://*"], STAR),
        (values.origins, ["https://*.x.example"], STAR),
        (values.origins, ["app://*.x"], STAR),
        (values.origins, ["app://*:80"], STAR),
        (values.origins, ["app-*://x"], STAR),
        (values.origins, ["https://bücher.example"], "write the name in its xn-- form"),
        (values.origins, ["x.example"], ORIGIN),
        (values.origins, ["https://x.example/a"], ORIGIN),
        (values.origins, ["https://x.example:65536"], ORIGIN),
        (values.origins, ["https://[::1"], ORIGIN),
        (values.origins, ["https://[fe80::1%25lo]"], ORIGIN),
        (values.origins, ["https://u@x.example"], ORIGIN),
        (values.origins, ["://x"], ORIGIN),
        (values.networks, ["10.0.0.1/8"], "is not a network; write 10.0.0.0/8"),
        (values.networks, ["::ffff:10.0.0.1/104"], "write 10.0.0.0/8"),
        (values.networks, ["fe80::1%lo"], "compared without one; write fe80::1"),
        (values.networks, ["proxy"], "write 192.0.2.7, 10.0.0.0/8, fd00::/8 or unix"),
        (values.listen, ["a:1", "a:1"], '"a:1" is given twice'),
        (values.pass_env, ["A,,B"], '"" does not begin with a variable name'),
        (values.pass_env, ["1A"], '"1A" does not begin with a variable name'),
        (values.pass_env, ["HTTP_PROXY"], "write --env HTTP_PROXY=VALUE"),
        (values.pass_env, ["CHIMIRROR_SESSION"], "is set by each session itself"),
        (values.variables, ["A"], '"A" has no value; write A=VALUE, or --pass-env A'),
        (values.variables, ["=x"], '"=x" does not begin with a variable name'),
        (values.variables, ["A-B=x"], '"A-B=x" does not begin with a variable name'),
        (values.variables, ["CHIMIRROR_SESSION=1"], "is set by each session itself"),
    ],
)
def test_refusals(
    parse: Callable[[list[str]], object], texts: list[str], error: str
) -> None:
    with pytest.raises(ValueError) as caught:
        parse(texts)
    assert error in str(caught.value)


def test_hosts_are_compared_in_lower_case() -> None:
    assert values.hosts(["App.Example.ORG", "a_b"]) == ("app.example.org", "a_b")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("HTTPS://A.Example:443/", "https://a.example"),
        ("http://b:80", "http://b"),
        ("wss://b:443", "wss://b"),
        ("http://[0::1]:8080", "http://[::1]:8080"),
        ("app://C:443", "app://c:443"),
        ("file:///", "file://"),
        ("Tauri://*", "tauri://*"),
        ("chrome-extension://*/", "chrome-extension://*"),
    ],
)
def test_equal_origins_have_one_text(text: str, origin: str) -> None:
    assert values.origins([text]) == values.origins([origin]) == (origin,)


def test_networks() -> None:
    texts = ["192.0.2.7", "fd00::/8", "unix"]
    assert values.networks(texts) == ("192.0.2.7/32", "fd00::/8", "unix")
    mapped = ["::ffff:10.0.0.0/104", "::ffff:c000:207", "::ffff:0:0/96", "::/95"]
    plain = ("10.0.0.0/8", "192.0.2.7/32", "0.0.0.0/0", "::/95")
    assert values.networks(mapped) == plain


def test_variables() -> None:
    assert values.pass_env(["A,_b", "A", "HTTP_COOKIE"]) == ("A", "_b", "HTTP_COOKIE")
    assert values.variables(["A=1", "B=", "A==2"]) == {"A": "=2", "B": ""}


def test_preload() -> None:
    assert values.preload("game:play") == "game:play"
    assert values.preload("a.b:C.run") == "a.b:C.run"
    for text in ("", "game", "game:", ":play", "a-b:c", "a..b:c", "a:b:c", "a: b"):
        with pytest.raises(ValueError, match="is not MODULE:FUNCTION"):
            values.preload(text)


def test_sockets() -> None:
    assert values.socket("/run/zygote") == "/run/zygote"
    for text in ("", "@name", "unix:/run/x", "a\0b"):
        with pytest.raises(ValueError, match="is no path"):
            values.socket(text)
