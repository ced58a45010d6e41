"""Presets of --protocol: the options that a foreign protocol needs.

A preset is a set of options that exist, as the texts of a command line. The parser of
each option reads its text. An option that is given replaces the preset's. Loaded only
for --protocol and for --help. Pure: knows no program.
"""

from __future__ import annotations

from chimirror.config.options import SESSION, options_of
from chimirror.text import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from typing import Any

    from chimirror.config.options import Option

    Texts = dict[str, str]  # of options, by their names without dashes

MAX_NAME = 64  # characters of an unknown name that are compared
# An agent or a server of tools answers with whole files in one line.
_SIZES = {"max-message": "16M", "max-line": "64M"}
_BODIES = {"framing": "lsp,stdio", **_SIZES}
_LINES = {"framing": "lines,stdio", **_SIZES}

PRESETS: dict[str, Texts] = {
    "acp": {**_LINES, "session-id-header": "Acp-Connection-Id"},
    "mcp": {**_LINES, "subprotocol": "mcp=lines"},
    "lsp": _BODIES,
    "dap": _BODIES,
}


def protocol(text: str) -> str:
    """Read the name of a protocol.

    Raises:
        ValueError: There is no such preset. Names the nearest one.
    """
    if text in PRESETS:
        return text
    *first, last = PRESETS
    close = nearest(text[:MAX_NAME], PRESETS)
    hint = close or f"{', '.join(first)} or {last}"
    raise ValueError(f'"{text}" is not a protocol with a preset; write {hint}')


def expand(name: str, given: Container[str]) -> Texts:
    """Return the options of a preset that are not given.

    Args:
        name: A name of PRESETS. Any other name has no options.
        given: Names of options, without their dashes.
    """
    preset = PRESETS.get(name, {})
    return {option: text for option, text in preset.items() if option not in given}


def _rows() -> dict[str, Option]:
    table = options_of(SESSION)
    return {option.name.removeprefix("--"): option for option in table}


def read(texts: Texts) -> dict[str, object]:
    """Read the texts of a preset as fields of a Config."""
    rows = _rows()
    found: dict[str, object] = {}
    for name, text in texts.items():
        option = rows[name]
        found[option.field] = option.parse([text] if option.repeats else text)
    return found


def override(base: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Override the fields of a command line with those of an application file.

    A preset of the file replaces that of the command line. Otherwise, `preset` keeps
    the options that the file does not set.
    """
    rows = _rows()
    kept: Texts = {}
    defaults: dict[str, object] = {}
    for name, text in base["preset"].items():
        option = rows[name]
        if "protocol" in fields:
            defaults[option.field] = option.value
        elif option.field not in fields:
            kept[name] = text
    return {**base, **defaults, "preset": kept, **fields}


def describe() -> list[str]:
    """Describe the presets in lines for --help, after the list of options."""
    lines = ["Options that --protocol stands for, unless they are given:"]
    for name, texts in PRESETS.items():
        words = [f"--{option} {text}" for option, text in texts.items()]
        lines += [f"  {name}  {' '.join(words[:3])}"]
        lines += [f"       {word}" for word in words[3:]]
    return lines
