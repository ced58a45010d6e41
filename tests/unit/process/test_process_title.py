"""The command line and the name under which a process is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import chimirror

PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv.pop(1))
from chimirror.process import children, process_title
children.set_dumpable(False)
process_title.show_as("chimirror-bridge", json.loads(sys.argv[1]) * int(sys.argv[2]))
read = lambda name: open(f"/proc/self/{name}").read()
print(json.dumps([read("cmdline"), read("comm"), sys.argv, os.environ["SECRET"]]))
"""


def shown(words: tuple[str, ...], times: int = 1) -> tuple[str, str]:
    """Return the command line and the name of a process with repeated arguments."""
    argv = [json.dumps(words), str(times)]
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            PROGRAM,
            Path(chimirror.__file__).parents[1],
            *argv,
        ],
        env={"SECRET": "hidden"},
        capture_output=True,
        check=True,
        text=True,
    )
    line, name, arguments, secret = json.loads(done.stdout)
    assert arguments == ["-c", *argv]  # unchanged, as is the environment
    assert secret == "hidden"
    return line, name


@pytest.mark.parametrize("words", [(), ("cat",), ("--env", "A=b  c", "", "é", "x")])
def test_words_stay_apart(words: tuple[str, ...]) -> None:
    line, name = shown(words)
    head = "\0".join(["chimirror-bridge", *words])
    assert line.startswith(f"{head}\0")
    assert not line.removeprefix(head).strip("\0")
    assert name == "chimirror-bridg\n"


def test_what_does_not_fit_is_cut() -> None:
    """The environment behind the command line is neither overwritten nor shown."""
    line, _ = shown(("abc",), 10_000)
    assert line.startswith("chimirror-bridge\0abc\0abc\0")
    assert line.endswith("\0")
    assert "hidden" not in line
