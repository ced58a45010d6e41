"""Tests that memory for large messages is requested from the kernel once only."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import chimirror

PROGRAM = """
import resource, sys
from chimirror.server import preimport
preimport.raise_malloc_thresholds()
def message():
    return [b"x" * (1 << 20) for _ in range(3)]
message()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    message()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its heap")
def test_memory_of_large_messages_is_used_again() -> None:
    """Without the thresholds, each of 150 blocks is mapped anew: 256 pages of 4 KiB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(chimirror.__file__).parent.parent,
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) < 50
