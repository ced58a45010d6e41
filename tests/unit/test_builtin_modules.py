"""The C modules behave like the packages of the same names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import chimirror
from chimirror import builtin_modules


def test_environment_equals_os_environ() -> None:
    program = "import os; from chimirror.builtin_modules import environ_dict as copy; "
    program += "assert copy() == dict(os.environ)"
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
    assert int(
        getattr(builtin_modules.signal, name) == getattr(signal, name)
    ) or callable(getattr(builtin_modules.signal, name))


def test_all_names_exist() -> None:
    assert all(hasattr(builtin_modules, name) for name in builtin_modules.__all__)
    assert os.devnull == builtin_modules.DEV_NULL
