"""What a server does before it forks workers: imports, and settings of malloc(3)."""

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


IMPORTS = """
import sys
from chimirror.config import parser
from chimirror.server import preimport
preimport.preimport(parser.parse_server([*sys.argv[1:], "--", "cat"]))
print(*sys.modules)
"""
EXEC, HTTP = "chimirror.access.exec_transport", "chimirror.access.http_transport"


@pytest.mark.parametrize(
    ("options", "transports"),
    [
        ((), set()),
        (("--authorize", "exec:cat"), {EXEC}),
        (("--authorize", "http://localhost/"), {HTTP}),
    ],
)
def test_only_the_transport_in_use_is_imported(
    options: tuple[str, ...], transports: set[str]
) -> None:
    argv = [sys.executable, "-c", IMPORTS, *options]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    found = set(done.stdout.split())
    assert found & {EXEC, HTTP} == transports
    assert any(name.startswith("chimirror.access") for name in found) == bool(options)


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
