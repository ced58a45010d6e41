"""Commands of a user who installs chimirror with Debian's own Python.

They run in this tree, with a new home directory. No package index is used: pip finds
the installed libraries of the tests as wheels.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import library_wheels
from readme import ROOT

PIP_OF_DEBIAN = "/usr/share/python-wheels"  # with setuptools, for new environments


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of wheels."""
    directory = tmp_path_factory.mktemp("wheels")
    library_wheels.pack(directory)
    return directory


@pytest.fixture
def environment(index: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a new user."""
    return {
        "HOME": str(tmp_path),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{index} {PIP_OF_DEBIAN}",
        "PIP_NO_CACHE_DIR": "1",
    }


@contextmanager
def shell(script: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a script in this tree. Kills it at the end."""
    with subprocess.Popen(
        ["bash", "-ec", script],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(script: str, environment: dict[str, str]) -> str:
    with shell(script, environment) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return said
