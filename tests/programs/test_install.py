"""Installs with Debian's own Python and pipx, by the commands of README.md.

Debian marks its interpreter as externally managed, so that pip refuses to install
outside of an environment. The commands run in this tree, with a new home directory. No
package index is used: pip finds the installed libraries of the tests as wheels.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import install_commands
import readme
from install_commands import run, shell
from processes import until

index, environment = install_commands.index, install_commands.environment

PYTHON = "/usr/bin/python3"
WAYS = {
    "pipx": ("pipx install .", 'PATH="$HOME/.local/bin:$PATH"'),
    "venv": ("python3 -m venv ~/.local/chimirror", ""),
}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not os.path.exists("/etc/debian_version"), reason="no Debian"),
]


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
