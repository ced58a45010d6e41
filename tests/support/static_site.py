"""Serves a directory to browsers, as examples tell their users to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def static_site(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback. Yields its origin."""
    serving = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1"]
    argv = [*serving, "--directory", str(directory), "0"]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdout=pipe, stderr=none, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split("(")[1].split("/)")[0]
        finally:
            process.terminate()
