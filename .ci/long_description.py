"""Metadata hook of hatchling: README.md as the long description of the package.

An index shows it without the files of this repository. So relative links become their
text, and the picture is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"<picture>.*?</picture>\n\n", re.DOTALL)
RELATIVE_LINK = re.compile(r"\[([^]]*)\]\((?!\w+:)[^)]*\)")


class LongDescription(MetadataHookInterface):
    """Sets the field `readme`."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text to the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": convert(text),
        }


def convert(text: str) -> str:
    """Return a text in Markdown without relative links and pictures."""
    return RELATIVE_LINK.sub(r"\1", PICTURE.sub("", text))
