"""`make install` and `make uninstall` on a fresh system: everything, and then nothing.

Law: a machine of its own (machine.py), whose files are compared before and after.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import machine as machines
from machine import ROOT, Machine
from peers import Closed, Peer

pytestmark = pytest.mark.timeout(120)

# What a running system writes by itself, and what others keep of users and catalogs.
THEIRS = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/log", "/var/tmp")
UNITS = (
    "chimirror.socket",
    "chimirror@.service",
    "chimirror-server.socket",
    "chimirror-server.service",
    "chimirror-zygote.socket",
    "chimirror-zygote.service",
    "chimirror.slice",
    "run-chimirror.mount",
)


def files(machine: Machine) -> set[str]:
    pruned = [word for path in THEIRS for word in ("-path", path, "-prune", "-o")]
    said = machine.do("find", "/", "-xdev", *pruned, "-print").splitlines()
    return {
        name
        for name in said
        if "__pycache__" not in name and not name.startswith("/etc/.pwd")
    }


def make(machine: Machine, target: str) -> str:
    return machine.do("make", "--no-print-directory", "-C", str(ROOT), target)


def test_everything_comes_and_goes(tmp_path: Path) -> None:
    if lacking := machines.missing():
        pytest.skip(lacking)
    machines.pack(tmp_path)
    with machines.boot(tmp_path) as machine:
        before, accounts = files(machine), machine.do("getent", "passwd")
        machine.install(tmp_path)
        installed = files(machine) - before
        everything_is_there(machine, installed)
        machine.install(tmp_path)  # once more is an upgrade
        assert files(machine) - before == installed
        machine.do("systemctl", "enable", "--now", "chimirror.socket")
        machine.configure("/usr/bin/cat")
        with Peer(machine.connect()) as peer:
            assert peer.open().status == 101
            limits = ("--sessions=50", "--session-timeout=1h", "--memory-max=1G")
            machine.do("chimirror-ctl", "limit", *limits)
            machine.do("chimirror-ctl", "limit", "--runtime", *limits)
            own = ("--own-socket", "127.0.0.1:4000", "--", "/usr/bin/cat")
            machine.do("chimirror-ctl", "add", "game", *own)
            machine.do("systemctl", "enable", "--now", "chimirror-game.socket")
            make(machine, "uninstall")
            assert peer.receive() == Closed(1001, "drain")
        # What the operator wrote stays.
        left = files(machine) - before
        assert left == {"/etc/chimirror", "/etc/chimirror/chimirror.conf"}
        assert not before - files(machine)
        assert machine.do("getent", "passwd") == accounts
        assert not machine.path("/run/chimirror").exists()
        listed = machine.do("systemctl", "list-units", "--all", "chimirror*")
        assert "\n0 loaded units" in listed


def everything_is_there(machine: Machine, installed: set[str]) -> None:
    for program in ("bridge", "server", "connect", "ctl", "zygote"):
        assert f"/usr/local/bin/chimirror-{program}" in installed
        machine.do(f"chimirror-{program}", "--version")
    for page in (ROOT / "man").iterdir():
        target = f"/usr/local/share/man/man{page.suffix[1:]}/{page.name}"
        assert machine.path(target).is_symlink()
    for place in ("bash-completion/completions/", "zsh/site-functions/_"):
        assert machine.path(f"/usr/local/share/{place}chimirror-ctl").is_symlink()
    said = machine.do("chimirror-ctl", "history")  # reads the journal
    assert "systemd-python" not in said
    machine.do("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *UNITS)
    # At every start of the machine it is there before what is made in it.
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
