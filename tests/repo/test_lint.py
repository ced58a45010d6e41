"""The linters, run as tests over every file that they understand.

mandoc runs in test_manual.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Measuring the coverage of the linters would take longer than running them.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def program(name: str) -> str:
    """Return the path of a linter of the system. Skips the test if it is missing."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} on this machine")
    return found


def scripts() -> list[Path]:
    """Return every file with a shell in its first line."""
    files = [*ROOT.glob("*"), *ROOT.glob(".ci/*"), *ROOT.glob("[!.]*/**/*")]
    return [
        file
        for file in files
        if file.is_file()
        and file.relative_to(ROOT).parts[0] not in {"build", "dist"}
        and re.match(rb"#!.*\b(ba|da)?sh\b", file.read_bytes()[:80])
    ]


@pytest.mark.timeout(300)  # mypy without a cache reads the types of every library
@pytest.mark.parametrize(
    "command",
    [
        "ruff format --check",
        "ruff check --quiet --output-format=concise",
        "mypy",
        "codespell",
        "vulture",
    ],
)
def test_python(command: str) -> None:
    tool, *options = command.split()
    # codespell has no __main__, so `-m codespell` fails.
    module = "codespell_lib" if tool == "codespell" else tool
    result = run(sys.executable, "-m", module, *options)
    assert result.returncode == 0, result.stdout


def test_shell() -> None:
    found = scripts()
    assert ROOT / "chimirror" / "launcher.sh" in found
    result = run(program("shellcheck"), *found)
    assert result.returncode == 0, result.stdout
