"""TOML out of Python values, for the tests of those who read it."""

from __future__ import annotations

import json


def value(found: object) -> str:
    """A value on one line."""
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, str):
        return json.dumps(found, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(found, list):
        return f"[{', '.join(map(value, found))}]"
    if isinstance(found, dict):
        pairs = [f"{value(str(name))} = {value(each)}" for name, each in found.items()]
        return f"{{ {', '.join(pairs)} }}"
    return str(found)


def document(fields: dict[str, object]) -> str:
    """One line for each key."""
    return "".join(f"{name} = {value(each)}\n" for name, each in fields.items())
