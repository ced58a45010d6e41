"""The C modules do what the packages do, under the packages' names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import chimirror
from chimirror.system import lean


def test_the_environment_is_that_of_os() -> None:
    program = "import os; from chimirror.system.lean import environment as ours; "
    program += "assert ours() == dict(os.environ)"
    variables = {**os.environb, b"W": b"\xff\xc3\xbc=", b"EMPTY": b""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=variables,
        cwd=Path(chimirror.__file__).parent.parent,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["SIGCHLD", "set_wakeup_fd", "pthread_sigmask"])
def test_signals(name: str) -> None:
    assert int(getattr(lean.signal, name) == getattr(signal, name)) or callable(
        getattr(lean.signal, name)
    )


def test_what_is_promised_is_there() -> None:
    assert all(hasattr(lean, name) for name in lean.__all__)
    assert os.devnull == lean.DEV_NULL
