"""Installs with Debian's own Python and pipx, by the commands of README.md.

Debian marks its interpreter as externally managed, so that pip refuses to install
outside of an environment. The commands run in this tree, with a new home directory. No
package index is used: pip finds the installed libraries of the tests as wheels.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import readme
import systemd_machine as machines
from processes import until
from readme import ROOT

PYTHON = "/usr/bin/python3"
PIP_OF_DEBIAN = "/usr/share/python-wheels"  # with setuptools, for new environments
WAYS = {
    "pipx": ("pipx install .", 'PATH="$HOME/.local/bin:$PATH"'),
    "venv": ("python3 -m venv ~/.local/chimirror", ""),
}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not os.path.exists("/etc/debian_version"), reason="no Debian"),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of wheels."""
    directory = tmp_path_factory.mktemp("wheels")
    machines.pack(directory)
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


def test_the_interpreter_is_externally_managed() -> None:
    code = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    said = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    assert (Path(said.stdout.strip()) / "EXTERNALLY-MANAGED").exists()


@pytest.mark.parametrize("way", WAYS)
def test_a_session(way: str, environment: dict[str, str], tmp_path: Path) -> None:
    first, path = WAYS[way]
    setup = f"{readme.block(first)}\n{path}\n"
    installed = run(f"{setup}command -v chimirror-server chimirror-bridge", environment)
    assert "DEPRECATION" not in installed
    programs = installed.splitlines()[-2:]
    assert all(program.startswith(str(tmp_path)) for program in programs)
    socket = tmp_path / "socket"
    serving = f"exec {programs[0]} --listen unix:socket -- cat"
    with shell(f"cd {tmp_path}; {serving}", environment) as server:
        until(socket.exists, "a listener")
        client = (
            f"{Path(programs[0]).with_name('chimirror-connect')} ws+unix:{socket}:/"
        )
        assert run(f"echo hello | {client}", environment) == "hello\n"
        server.terminate()
        assert server.wait(30) == 0
