"""The linters, run as tests over everything that they understand.

(mandoc's part is in test_manual.py, with all else that is asked of the manual.)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Measuring the linters would take longer than they do.
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
    """A linter that the system has to provide; without it there is nothing to say."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} on this machine")
    return found


def scripts() -> list[Path]:
    """Every file whose first line asks for a shell."""
    files = [*ROOT.glob("*"), *ROOT.glob(".ci/*"), *ROOT.glob("[!.]*/**/*")]
    return [
        file
        for file in files
        if file.is_file()
        and file.relative_to(ROOT).parts[0] not in {"build", "dist"}
        and re.match(rb"#!.*\b(ba|da)?sh\b", file.read_bytes()[:80])
    ]


@pytest.mark.timeout(300)  # a cold mypy has the types of every library to read
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
    # (codespell has no __main__ that `-m codespell` would find.)
    module = "codespell_lib" if tool == "codespell" else tool
    done = run(sys.executable, "-m", module, *options)
    assert done.returncode == 0, done.stdout


def test_shell() -> None:
    found = scripts()
    assert ROOT / "chimirror" / "launcher.sh" in found
    done = run(program("shellcheck"), *found)
    assert done.returncode == 0, done.stdout
