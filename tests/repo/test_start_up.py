"""What the bridge imports before its first byte: few modules, and none that is dear.

A module of the package costs about 0.16 ms of a start that may take twice as long as
that of a bare interpreter.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import chimirror

PACKAGE = Path(chimirror.__file__).parent
MAX_MODULES = 37
# Beyond a bare interpreter: modules that are built into it, and one file of constants.
CHEAP = {
    "__future__",
    "_collections",
    "_json",
    "_sha1",
    "_socket",
    "_stat",
    "binascii",
    "gc",
    "select",
}


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that `import chimirror.bridge` loads in a bare interpreter."""
    program = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import chimirror.bridge
print(*set(sys.modules) - before)"""
    argv = [sys.executable, "-I", "-S", "-c", program, str(PACKAGE.parent)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    return set(done.stdout.split())


def test_own_modules_are_few(loaded: set[str]) -> None:
    own = {name for name in loaded if name.split(".")[0] == "chimirror"}
    assert "chimirror.session.session" in own
    assert len(own) <= MAX_MODULES, sorted(own)


def test_other_modules_are_cheap(loaded: set[str]) -> None:
    others = {name for name in loaded if name.split(".")[0] != "chimirror"}
    assert not others - CHEAP
