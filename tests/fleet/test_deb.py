"""The Debian package: its content, an upgrade under sessions, its removal.

The packages are built from this source tree and installed by apt(8) in new machines
(systemd_machine).
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

import systemd_machine as machines
from debian_packages import NEXT, VERSION, build
from machine_files import MachineState, files
from machine_sessions import SERVER, SERVER_PORT, echo, open_session
from processes import until
from systemd_machine import PATH, Machine
from websocket_peer import CONTINUATION, TEXT, Closed, Peer, frame

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("debian")]

CONFIGURATION = "/etc/chimirror/chimirror.conf"
DROP_IN = "/etc/systemd/system/chimirror@.service.d/override.conf"
TOP = "/usr/lib/chimirror"
APT = ("apt-get", "--yes", "--quiet", "--no-install-recommends")
UNITS = ("chimirror.socket", "chimirror@.service", SERVER, "chimirror-zygote.service")


class Packages(NamedTuple):
    directory: Path
    first: Path
    second: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    directory = tmp_path_factory.mktemp("debian")
    first, second = build(directory / "first"), build(directory / "second", NEXT)
    return Packages(directory, first, second)


def apt(machine: Machine, *words: str) -> str:
    return machine.do(*APT, *words, DEBIAN_FRONTEND="noninteractive")


def copies(machine: Machine) -> list[str]:
    """Return the versions that have files."""
    return sorted(path.name for path in machine.path(TOP).glob("[0-9]*"))


def versions_of_server(machine: Machine) -> set[str]:
    """Return the versions of the libraries that the processes have loaded."""
    found: set[str] = set()
    for pid in machine.processes(SERVER):
        try:
            text = Path(f"/proc/{pid}/maps").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        found |= {*re.findall(rf"{TOP}/([^/-]+)-[^/]*/", text)}
    return found


def log_of(machine: Machine) -> str:
    return machine.run("journalctl", "--quiet", f"--unit={SERVER}").stdout


def content(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.rglob("*")
        if file.is_file() and file.name != "replaced"
    }


def test_two_builds_are_equal_and_lintian_is_content(
    packages: Packages, tmp_path: Path
) -> None:
    again = build(tmp_path / "again")
    assert again.read_bytes() == packages.first.read_bytes()
    (changes,) = (tmp_path / "again/build/deb").glob("*.changes")
    levels = ("--display-info", "--fail-on=error,warning,info", "--allow-root")
    done = subprocess.run(["lintian", *levels, changes], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_life_of_an_installation(packages: Packages) -> None:
    if lacking := machines.missing():
        pytest.skip(lacking)
    with machines.boot(packages.directory) as machine, ExitStack() as stack:
        # Containers often have one that forbids all starts.
        machine.do("rm", "-f", "/usr/sbin/policy-rc.d")
        before = MachineState(machine)
        apt(machine, "install", str(packages.first))
        everything_is_there(machine)
        configure(machine)
        upgrade_under_sessions(machine, packages, stack)
        remove_under_sessions(machine, stack)
        # A removal keeps the configuration, a purge only files of the operator.
        assert machine.path(CONFIGURATION).exists()
        add_former_unit(machine)
        apt(machine, "purge", "chimirror")
        before.compare(machine, {DROP_IN})


def everything_is_there(machine: Machine) -> None:
    assert len(copies(machine)) == 1
    machine.do("dpkg", "--verify", "chimirror")
    for program in ("bridge", "server", "connect", "ctl", "zygote", "authorize"):
        said = machine.do(f"chimirror-{program}", "--version")
        assert said.startswith(f"chimirror-{program} {VERSION}\n")
    assert "applications are started by the workers" in machine.do(
        "chimirror-server", "--version"
    )
    machine.do("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *UNITS)
    assert "Subject: A session has started" in machine.do(
        "journalctl", "--dump-catalog"
    )
    for page in (Path(__file__).parents[2] / "man").iterdir():
        shown = f"/usr/share/man/man{page.suffix[1:]}/{page.name}.gz"
        assert machine.path(shown).exists()
    # The operator decides which ports are open.
    for socket in machines.SOCKETS:
        assert machine.state(socket) == "inactive"
        asked = machine.run("systemctl", "is-enabled", socket)
        assert asked.stdout.strip() == "disabled"
    mount = machine.do("systemctl", "show", "local-fs.target", "-P", "Wants")
    assert "run-chimirror.mount" in mount.split()
    machine.do("systemctl", "enable", "--now", "chimirror.socket")
    with Peer(machine.connect()) as peer:
        assert peer.open("/").status == 101
        assert b"animal" in peer.output(40)


def configure(machine: Machine) -> None:
    """Serve cat on both sockets, without pings, which these peers do not answer."""
    edit = ("sed", "-i", "/^#CHIMIRROR_COMMAND=/c CHIMIRROR_COMMAND=/usr/bin/cat")
    machine.do(*edit, CONFIGURATION)
    silent = 'Environment="CHIMIRROR_OPTIONS=--ping-interval off{}"'
    machine.drop_in("chimirror@.service", "Service", silent.format(""))
    # This test ends the drain.
    forever = silent.format(" --drain-timeout 1h")
    machine.drop_in(SERVER, "Service", forever, "TimeoutStopSec=1h")
    address = f"ListenStream=127.0.0.1:{SERVER_PORT}"
    machine.drop_in("chimirror-server.socket", "Socket", "ListenStream=", address)
    machine.do("systemctl", "enable", "--now", "chimirror-server.socket")


def upgrade_under_sessions(
    machine: Machine, packages: Packages, stack: ExitStack
) -> None:
    """No client is refused, and every session ends by itself or with 1001 drain."""
    kept, short, long = (
        open_session(machine, stack, port)
        for port in (machines.PORT, SERVER_PORT, SERVER_PORT)
    )
    for peer in (kept, short, long):
        echo(peer)
    (old,) = copies(machine)
    whole = content(machine.path(f"{TOP}/{old}"))
    words = ("install", str(packages.second))
    upgrade = subprocess.Popen(
        ["nsenter", "--all", f"--target={machine.init}", "--", *APT, *words],
        env={"PATH": PATH, "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with upgrade:
        served = 0
        while machine.state(SERVER) == "active":
            assert upgrade.poll() is None, upgrade.communicate()[0]
            with Peer(machine.connect()) as peer:
                assert peer.open().status == 101
                echo(peer)
            served += 1
        assert served
        # The server drains. Its clients wait for the next one.
        until(lambda: "again to end them now" in log_of(machine), "it drains")
        waiting = stack.enter_context(Peer(machine.connect(SERVER_PORT)))
        echo(short)
        short.send_close()
        assert short.transcript().closed == Closed(1000, "")
        echo(long)
        machine.do("systemctl", "kill", "--kill-whom=main", SERVER)
        assert long.transcript().closed == Closed(1001, "drain")
        assert waiting.open().status == 101
        echo(waiting)
        said, _ = upgrade.communicate()
        assert upgrade.returncode == 0, said
    assert versions_of_server(machine) == {NEXT}
    # The bridge imports a module for this message. No file of its version has changed.
    assert content(machine.path(f"{TOP}/{old}")) == whole
    parts = (frame(TEXT, b'{"a":', fin=False), frame(CONTINUATION, b"1}"))
    kept.send_raw(b"".join(parts))
    assert kept.output(8) == b'{"a":1}\n'
    assert len(copies(machine)) == 2
    with Peer(machine.connect()) as peer:
        assert peer.open().status == 101
        echo(peer)
    kept.send_close()
    assert kept.transcript().closed == Closed(1000, "")
    until(lambda: not machine.sessions(), "no bridge is left")
    # The same version again: no process is replaced.
    apt(machine, "reinstall", str(packages.second))
    echo(waiting)
    waiting.send_close()
    assert waiting.transcript().closed == Closed(1000, "")
    (new,) = copies(machine)
    assert new.startswith(f"{NEXT}-")


def remove_under_sessions(machine: Machine, stack: ExitStack) -> None:
    """All sessions end, as by `make uninstall`."""
    own = ("--own-socket", "127.0.0.1:4000", "--", "/usr/bin/cat")
    machine.do("chimirror-ctl", "limit", "--sessions=50", "--memory-max=1G")
    machine.do("chimirror-ctl", "limit", "--runtime", "--sessions=50")
    machine.do("chimirror-ctl", "add", "game", *own)
    machine.do("systemctl", "enable", "--now", "chimirror-game.socket")
    for unit in ("chimirror@.service", SERVER, "chimirror-server.socket"):
        machine.do("rm", "-r", f"/run/systemd/system/{unit}.d/test.conf")
    machine.do("systemctl", "daemon-reload")
    machine.write(DROP_IN, "[Service]\nNice=1\n")
    peers = [open_session(machine, stack, port) for port in (machines.PORT, 4000)]
    apt(machine, "remove", "chimirror")
    for peer in peers:
        assert peer.transcript().closed == Closed(1001, "drain")


def add_former_unit(machine: Machine) -> None:
    """Leave the state of a unit that only a former version of the package had."""
    unit = "/lib/systemd/system/chimirror-former.socket"
    content = "[Socket]\nListenStream=4001\n[Install]\nWantedBy=sockets.target\n"
    machine.write(unit, content)
    before = files(machine)
    enable = ("deb-systemd-helper", "enable", "chimirror-former.socket")
    machine.do(*enable, DPKG_MAINTSCRIPT_PACKAGE="chimirror")
    assert len(files(machine) - before) >= 3  # a link, and two files of state
    machine.do("rm", unit)
