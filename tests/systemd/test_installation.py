"""Tests that `make install` installs everything and `make uninstall` removes all of it.

Runs in a new machine (systemd_machine) and compares its files before and after.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import library_wheels
import systemd_machine as machines
from machine_files import MachineState, files
from systemd_machine import ROOT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

CONFIGURATION = "/etc/chimirror/chimirror.conf"
DROP_IN = "/etc/systemd/system/chimirror@.service.d/override.conf"
UNITS = (
    "chimirror.socket",
    "chimirror@.service",
    "chimirror-server.socket",
    "chimirror-server.service",
    "chimirror-zygote.socket",
    "chimirror-zygote.service",
    "chimirror-authorize.socket",
    "chimirror-authorize.service",
    "chimirror-agent.socket",
    "chimirror-agent@.service",
    "chimirror-server-metrics.socket",
    "chimirror-server-agent.socket",
    "chimirror.slice",
    "run-chimirror.mount",
)


def make(machine: Machine, target: str) -> str:
    return machine.do("make", "--no-print-directory", "-C", str(ROOT), target)


def test_install_and_uninstall(tmp_path: Path) -> None:
    if lacking := machines.missing():
        pytest.skip(lacking)
    library_wheels.pack(tmp_path)
    with machines.boot(tmp_path) as machine:
        before = MachineState(machine)
        machine.install(tmp_path)
        installed = files(machine) - before.files
        everything_is_there(machine, installed)
        machine.install(tmp_path)  # a second installation is an upgrade
        assert files(machine) - before.files == installed
        machine.do("systemctl", "enable", "--now", "chimirror.socket")
        edit = ("sed", "-i", "/^#CHIMIRROR_COMMAND=/c CHIMIRROR_COMMAND=/usr/bin/cat")
        machine.do(*edit, CONFIGURATION)
        with Peer(machine.connect()) as peer:
            assert peer.open().status == 101
            limits = ("--sessions=50", "--session-timeout=1h", "--memory-max=1G")
            machine.do("chimirror-ctl", "limit", *limits)
            machine.do("chimirror-ctl", "limit", "--runtime", *limits)
            machine.do("chimirror-ctl", "limit", "--cpu-quota=50%")
            no_limits = ("--session-timeout=default", "--memory-max=default")
            machine.do("chimirror-ctl", "limit", *no_limits, "--cpu-quota=default")
            own = ("--own-socket", "127.0.0.1:4000", "--", "/usr/bin/cat")
            machine.do("chimirror-ctl", "add", "game", *own)
            machine.do("systemctl", "enable", "--now", "chimirror-game.socket")
            machine.do("mkdir", "/etc/systemd/system/chimirror-zygote.service.d")
            machine.write(DROP_IN, "[Service]\nNice=1\n")
            said = make(machine, "uninstall")
            assert peer.receive() == Closed(1001, "drain")
        # Files of the operator stay, and are named.
        kept = {CONFIGURATION, DROP_IN}
        assert {line for line in said.splitlines() if line.startswith("/")} == kept
        before.compare(machine, kept)


def everything_is_there(machine: Machine, installed: set[str]) -> None:
    for program in ("bridge", "server", "connect", "ctl", "zygote", "authorize"):
        assert f"/usr/local/bin/chimirror-{program}" in installed
        machine.do(f"chimirror-{program}", "--version")
    for page in (ROOT / "man").iterdir():
        target = f"/usr/local/share/man/man{page.suffix[1:]}/{page.name}"
        assert machine.path(target).is_symlink()
    for place in ("bash-completion/completions/", "zsh/site-functions/_"):
        assert machine.path(f"/usr/local/share/{place}chimirror-ctl").is_symlink()
    said = machine.do("chimirror-ctl", "history")  # may read the journal
    assert "systemd-python" not in said
    machine.do("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *UNITS)
    # At each boot it is mounted before files are created below it.
    mount = machine.do("systemctl", "show", "run-chimirror.mount", "-P", "Before")
    tmpfiles = "systemd-tmpfiles-setup.service"
    made = machine.do("systemctl", "show", tmpfiles, "-P", "After")
    wanted = machine.do("systemctl", "show", "local-fs.target", "-P", "Wants")
    assert "local-fs.target" in mount.split()
    assert "local-fs.target" in made.split()
    assert "run-chimirror.mount" in wanted.split()
    listed = machine.do("journalctl", "--dump-catalog")
    assert "Subject: A session has started" in listed
    assert "Subject: A request was refused" in listed
