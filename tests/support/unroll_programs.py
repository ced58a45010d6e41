"""Builds the programs of examples/unroll, and talks to them over pipes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

LINKAGES = ("unroll-static", "unroll-shared", "unroll-loaded")
SANITIZERS = "address,undefined"
# The interpreter answers these as machine code does.
MEASURED = {"ran", "why", "bytes", "nanoseconds"}
NATIVE = "machine code" if platform.machine() == "x86_64" else "interpreter"
SUM = "s = 0; for (i = 0; i < 10; ++i) { s = s + i; print s; }"


def build(directory: Path, *variables: str) -> Path:
    """Compile all programs into a directory. Returns it.

    Args:
        variables: of the Makefile.
    """
    # Under `make test`, make would use its job server.
    clean = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    argv = ["make", "-s", "-j2", "-C", str(EXAMPLES), "unroll", f"BIN={directory}"]
    done = subprocess.run(
        [*argv, *variables], env=clean, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return directory


@pytest.fixture(scope="module", params=["", SANITIZERS], ids=["plain", "sanitized"])
def programs_directory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The programs, as usual and with sanitizers."""
    return build(tmp_path_factory.mktemp("unroll"), f"SANITIZE={request.param}")


@pytest.fixture(scope="module")
def plain_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("unroll"))


class UnrollProcess:
    """One process of a program, which answers message after message."""

    def __init__(
        self, program: Path, *options: str, before: Sequence[str] = ()
    ) -> None:
        pipe = subprocess.PIPE
        argv = [*before, str(program), *options]
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)

    def ask(self, program: str) -> dict[str, Any]:
        """Send a program as a JSON string. Returns the answer."""
        return self.ask_raw(json.dumps(program).encode())

    def ask_raw(self, message: bytes) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(message + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> UnrollProcess:
        return self

    def __exit__(self, *error: object) -> None:
        """End the input. The process ends without a complaint."""
        _, complaint = self.process.communicate()
        if not error[0]:
            assert (self.process.returncode, complaint) == (0, b"")


def meaning(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on the machine."""
    return {name: value for name, value in answer.items() if name not in MEASURED}


def nested(depth: int, turns: int = 222) -> str:
    """Return a program of loops inside each other, one on each line."""
    loops = "".join(
        f"for (v{i} = 0; v{i} < {turns}; ++v{i}) {{\n" for i in range(depth)
    )
    return loops + "}" * depth
