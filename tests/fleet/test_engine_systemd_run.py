"""Tests examples/engines/systemd_run.toml: each session is a unit of a booted machine.

The server runs as root in the machine, in a unit of its own.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine_sessions import CHECKS, GAME, Engine, Serving, application_file
from processes import MARK, marked, until
from systemd_machine import Machine

# Each check runs on a busy machine too.
pytestmark = pytest.mark.timeout(900)

APPS = "/etc/games"
PORT = 30749
SESSION = re.compile(r"chimirror-[0-9a-f]{32}\.service")


class SystemdRun:
    """The systemd of the machine."""

    name = "systemd_run"

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        for file in application_file(directory / "apps", self.name).iterdir():
            machine.write(f"{APPS}/{file.name}", file.read_text())
        machine.write("/usr/local/bin/game", GAME)
        machine.path("/usr/local/bin/game").chmod(0o755)

    @contextmanager
    def serve(self, *options: str) -> Iterator[Serving]:
        mark = uuid.uuid4().hex
        unit = ("--unit=games", "--property=Type=notify", "--property=KillMode=mixed")
        serve = ("/opt/chimirror/bin/chimirror-server", f"--listen=127.0.0.1:{PORT}")
        fixed = (f"--apps={APPS}", f"--env={MARK}={mark}", "--ping-interval=off")
        run = ("systemd-run", "--quiet", "--collect", *unit)
        self.machine.do(*run, *serve, *fixed, *options)
        try:
            yield Serving(lambda: self.machine.connect(PORT), mark)
        finally:
            self.machine.do("systemctl", "stop", "games.service")
        until(lambda: not marked(mark), "no wrapper is left")

    def remaining(self) -> list[str]:
        argv = ("systemctl", "list-units", "--all", "--plain", "--no-legend")
        return SESSION.findall(self.machine.do(*argv, "chimirror-*.service"))


@pytest.mark.parametrize("check", CHECKS)
def test_session(
    check: Callable[[Engine], None], machine: Machine, tmp_path: Path
) -> None:
    check(SystemdRun(machine, tmp_path))
