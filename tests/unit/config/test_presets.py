"""Presets of --protocol: each one is the options that it stands for, and no more."""

from __future__ import annotations

import pytest

from chimirror.config import Config, parser, presets

# Written out, so that a change of the table is a change of a promise.
EXPANSIONS = {
    "acp": "--framing lines,stdio --max-message 16M --max-line 64M"
    " --session-id-header Acp-Connection-Id",
    "mcp": "--framing lines,stdio --subprotocol mcp=lines --max-message 16M"
    " --max-line 64M",
    "lsp": "--framing lsp,stdio --max-message 16M --max-line 64M",
    "dap": "--framing lsp,stdio --max-message 16M --max-line 64M",
}


def fields(config: Config) -> dict[str, object]:
    names = set(Config.__slots__) - {"protocol", "preset"}
    return {name: getattr(config, name) for name in names}


def refusal(*argv: str) -> str:
    with pytest.raises(parser.UsageError) as caught:
        parser.parse_bridge([*argv, "cat"])
    return caught.value.text


def test_every_preset_has_an_expansion() -> None:
    assert presets.PRESETS.keys() == EXPANSIONS.keys()


@pytest.mark.parametrize("name", EXPANSIONS)
def test_a_preset_means_the_options_that_it_stands_for(name: str) -> None:
    words = EXPANSIONS[name].split()
    for read in (parser.parse_bridge, parser.parse_server):
        found = read(["--protocol", name, "cat"])
        assert fields(found) == fields(read([*words, "cat"]))
        texts = dict(zip(words[::2], words[1::2], strict=True))
        assert found.protocol == name
        assert {f"--{key}": text for key, text in found.preset.items()} == texts


@pytest.mark.parametrize("before", [True, False])
def test_an_option_that_is_given_replaces_that_of_the_preset(before: bool) -> None:
    given = ["--framing", "stdio", "--max-line=1M", "--subprotocol", "x=json"]
    preset = ["--protocol", "mcp"]
    argv = [*given, *preset] if before else [*preset, *given]
    found = parser.parse_server([*argv, "cat"])
    assert (found.framings, found.max_line) == (("stdio",), 1 << 20)
    assert found.subprotocols == {"x": "json"}
    assert (found.protocol, found.preset) == ("mcp", {"max-message": "16M"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("ACP", "acp"), ("mpc", "mcp"), ("ls", "lsp"), ("x", "acp, mcp, lsp or dap")],
)
def test_an_unknown_protocol_is_answered_with_the_nearest(name: str, hint: str) -> None:
    text = f'--protocol: "{name}" is not a protocol with a preset; write {hint}'
    assert refusal("--protocol", name) == text


def test_a_preset_may_contradict_an_option() -> None:
    text = "--pty: lines has no place for what a terminal shows"
    assert refusal("--protocol=acp", "--pty") == text


def test_protocol_is_given_once() -> None:
    text = "--protocol is given twice; give it once"
    assert refusal("--protocol=acp", "--protocol=lsp") == text
