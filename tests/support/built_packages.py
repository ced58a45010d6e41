"""The wheel and the source distribution of this tree, each built once for a worker.

Copies the tree for packages of a later version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*argv: str | Path, **env: str) -> None:
    """Run one step of an installation in this tree."""
    run_in(ROOT, argv, env)


def run_in(directory: Path, argv: Sequence[str | Path], env: dict[str, str]) -> None:
    """Run a command. Its output is the text of a failure."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    result = subprocess.run(
        argv,
        cwd=directory,
        env=clean | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def build(target: str, directory: Path, *, tree: Path = ROOT, **env: str) -> Path:
    """Build a wheel or sdist in this environment."""
    hatchling = (sys.executable, "-m", "hatchling", "build", "-t", target)
    run_in(tree, (*hatchling, "-d", directory), env)
    (built,) = directory.iterdir()
    return built


def copy_tree(directory: Path, version: str) -> None:
    """Copy the source tree, with this version."""
    shutil.copytree(
        ROOT,
        directory,
        ignore=shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__"),
    )
    # The pattern above also matches the script.
    shutil.copy2(ROOT / "systemd/debian/build", directory / "systemd/debian")
    for file in ("pyproject.toml", "chimirror/__init__.py"):
        text = (directory / file).read_text()
        found = re.sub(
            r'(?<=version)((?:__)? = )".*"', rf'\1"{version}"', text, count=1
        )
        (directory / file).write_text(found)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))
