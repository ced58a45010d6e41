"""Writes TOML: strings, booleans, numbers, arrays and tables."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def document(pairs: Mapping[tuple[str, ...], object]) -> str:
    """Format a document, one line for each key.

    Raises:
        ValueError: TOML cannot express a value.
    """
    lines = [
        f"{'.'.join(map(_key, path))} = {value(data)}" for path, data in pairs.items()
    ]
    return "\n".join(lines) + "\n"


def value(data: object) -> str:
    """Format a value on one line."""
    if isinstance(data, str):
        # A JSON string is a TOML string, except that TOML escapes DEL.
        return json.dumps(data, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(data, (bool, int, float)):
        return json.dumps(data)
    if isinstance(data, list):
        return f"[{', '.join(map(value, data))}]"
    if isinstance(data, dict):
        pairs = [f"{_key(name)} = {value(item)}" for name, item in data.items()]
        return f"{{ {', '.join(pairs)} }}"
    raise ValueError("an application file cannot hold null; leave it out")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else value(name)
