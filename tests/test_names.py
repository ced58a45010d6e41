"""Framings, hosts, origins, networks, variables: what is read, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimirror import names

if TYPE_CHECKING:
    from collections.abc import Callable


def test_framings() -> None:
    assert names.framings("json") == ("json",)
    assert names.framings("lsp,lines,json,stdio") == ("lsp", "lines", "json", "stdio")


@pytest.mark.parametrize(
    ("parse", "text", "error"),
    [
        (names.framings, "", '"" is not a framing; write json, stdio, lines or lsp'),
        (names.framings, "json,", '"" is not a framing; write json, stdio, lines or'),
        (names.framings, "Json", '"Json" is not a framing; write json, stdio, lines'),
        (names.framings, "json,json", '"json" is named twice; name each framing once'),
        (names.stderr, "drop", '"drop" is not known; write client, log or discard'),
        (names.directory, "", "the path is empty; write the directory to start in"),
    ],
)
def test_words(parse: Callable[[str], object], text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert error in str(caught.value)


def test_subprotocols() -> None:
    assert names.subprotocols([]) == {}
    expected = {"mcp": "lines", "a.b": "json"}
    assert names.subprotocols(["mcp=lines", "a.b=json"]) == expected


HOST = "is not a host name; write it without scheme, port or path"
ORIGIN = "is not an origin; write scheme, name and port alone"


@pytest.mark.parametrize(
    ("parse", "texts", "error"),
    [
        (names.subprotocols, ["mcp"], '"mcp" is not NAME=FRAMING; write mcp=lines'),
        (names.subprotocols, ["=lines"], '"=lines" is not NAME=FRAMING'),
        (names.subprotocols, ["a b=lines"], '"a b=lines" is not NAME=FRAMING'),
        (names.subprotocols, ["mcp=x"], '"x" is not a framing; write json, stdio'),
        (names.subprotocols, ["a=json", "a=json"], '"a" is given twice'),
        (names.subprotocols, ["chimirror.x=json"], "built in; allow it with --framing"),
        (names.hosts, ["https://x"], HOST),
        (names.hosts, ["x:80"], HOST),
        (names.hosts, ["x/y"], HOST),
        (names.hosts, ["*"], HOST),
        (names.hosts, [""], HOST),
        (names.hosts, ["bücher.example"], "is not ASCII; write the name in its xn--"),
        (names.origins, ["null"], ORIGIN),
        (names.origins, ["*"], ORIGIN),
        (names.origins, ["x.example"], ORIGIN),
        (names.origins, ["https://x.example/"], ORIGIN),
        (names.origins, ["https://u@x.example"], ORIGIN),
        (names.origins, ["://x"], ORIGIN),
        (names.networks, ["10.0.0.1/8"], "is not a network; write 10.0.0.0/8"),
        (names.networks, ["proxy"], "write 192.0.2.7, 10.0.0.0/8, fd00::/8 or unix"),
        (names.listen, ["a:1", "a:1"], '"a:1" is given twice'),
        (names.pass_env, ["A,,B"], '"" does not begin with a variable name'),
        (names.pass_env, ["1A"], '"1A" does not begin with a variable name'),
        (names.pass_env, ["HTTP_PROXY"], "write --env HTTP_PROXY=VALUE"),
        (names.pass_env, ["CHIMIRROR_SESSION"], "is set by each session itself"),
        (names.variables, ["A"], '"A" has no value; write A=VALUE, or --pass-env A'),
        (names.variables, ["=x"], '"=x" does not begin with a variable name'),
        (names.variables, ["A-B=x"], '"A-B=x" does not begin with a variable name'),
        (names.variables, ["CHIMIRROR_SESSION=1"], "is set by each session itself"),
    ],
)
def test_refusals(
    parse: Callable[[list[str]], object], texts: list[str], error: str
) -> None:
    with pytest.raises(ValueError) as caught:
        parse(texts)
    assert error in str(caught.value)


def test_hosts_and_origins_are_compared_in_lower_case() -> None:
    assert names.hosts(["App.Example.ORG", "a_b"]) == ("app.example.org", "a_b")
    assert names.origins(
        ["HTTPS://A.Example:443", "http://b:80", "http://[::1]:8080", "app://c:443"]
    ) == ("https://a.example", "http://b", "http://[::1]:8080", "app://c:443")


def test_networks() -> None:
    texts = ["192.0.2.7", "fd00::/8", "unix"]
    assert names.networks(texts) == ("192.0.2.7/32", "fd00::/8", "unix")


def test_variables() -> None:
    assert names.pass_env(["A,_b", "A", "HTTP_COOKIE"]) == ("A", "_b", "HTTP_COOKIE")
    assert names.variables(["A=1", "B=", "A==2"]) == {"A": "=2", "B": ""}


def test_what_is_preloaded() -> None:
    assert names.preload("game:play") == "game:play"
    assert names.preload("a.b:C.run") == "a.b:C.run"
    for text in ("", "game", "game:", ":play", "a-b:c", "a..b:c", "a:b:c", "a: b"):
        with pytest.raises(ValueError, match="is not MODULE:FUNCTION"):
            names.preload(text)


def test_sockets() -> None:
    assert names.socket("/run/zygote") == "/run/zygote"
    for text in ("", "@name", "unix:/run/x", "a\0b"):
        with pytest.raises(ValueError, match="is no path"):
            names.socket(text)
