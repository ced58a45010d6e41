"""TOML out of what it has a form for: strings, truths, numbers, lists and tables."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def document(pairs: Mapping[tuple[str, ...], object]) -> str:
    """One line for each key.

    Raises:
        ValueError: a value has no form.
    """
    lines = [f"{'.'.join(map(_key, at))} = {value(what)}" for at, what in pairs.items()]
    return "\n".join(lines) + "\n"


def value(what: object) -> str:
    """A value, on one line."""
    if isinstance(what, str):
        # JSON's strings are TOML's, but for DEL.
        return json.dumps(what, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(what, (bool, int, float)):
        return json.dumps(what)
    if isinstance(what, list):
        return f"[{', '.join(map(value, what))}]"
    if isinstance(what, dict):
        pairs = [f"{_key(name)} = {value(each)}" for name, each in what.items()]
        return f"{{ {', '.join(pairs)} }}"
    raise ValueError("null has no form in an application file; leave it out")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else value(name)
