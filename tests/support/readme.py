"""The code blocks of README.md, in order. Knows nothing of the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block: its language and its text, with a newline at the end."""

    language: str
    text: str

    @property
    def first(self) -> str:
        """The first line, which tests and messages call the block by."""
        return self.text.partition("\n")[0]


def blocks() -> list[Block]:
    """Return all code blocks of README.md."""
    return [Block(*found) for found in BLOCK.findall((ROOT / "README.md").read_text())]


def block(first: str) -> str:
    """Return the text of the only block with this first line."""
    (found,) = (each.text for each in blocks() if each.first == first)
    return found
