"""Tests examples/unroll where the system has no memory, or refuses to execute it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from example_apps import EXAMPLES

pytestmark = pytest.mark.timeout(300)  # the compiler is slow on a busy machine

UNROLL = EXAMPLES / "unroll"
DRIVER = Path(__file__).parents[1] / "support" / "unroll_failures.c"
WRAPPED = ("malloc", "calloc", "realloc", "mmap", "mprotect")


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Compile the driver and the library with sanitizers."""
    program = tmp_path / "failures"
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            f"-I{UNROLL}",
            f"-Wl,{','.join(f'--wrap={name}' for name in WRAPPED)}",
            "-o",
            program,
            DRIVER,
            *sorted(UNROLL.glob("*.c")),
        ],
        check=True,
    )
    return program


def test_each_failing_call_is_an_error_or_interprets(driver: Path) -> None:
    done = subprocess.run([driver], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    if platform.machine() == "x86_64":
        refused = "the system refuses executable memory"
        mmap = f"mmap: {refused} (mmap: Cannot allocate memory), 0 and 0 bytes"
        mprotect = f"mprotect: {refused} (mprotect: Permission denied), 0 and 0 bytes"
        calls = [mmap, mprotect] * 2
    else:
        refused = "there is machine code only for x86-64, 0 and 0 bytes"
        calls = [f"mmap: {refused}", f"mprotect: {refused}"] * 2
    assert done.stdout.splitlines() == [
        "allocations: checked",
        "later too: checked",
        *calls,
        "writable and executable: never",
    ]
