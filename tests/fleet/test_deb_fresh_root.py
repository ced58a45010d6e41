"""The Debian package in a new root of Debian, which has no Python before.

mmdebstrap(1) makes the root, with the package files that apt(8) needs, because the
machine (systemd_machine) has no network.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import systemd_machine as machines
from debian_packages import VERSION, build
from systemd_machine import Machine
from websocket_peer import Closed, Peer

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("debian")]

# apt(8) of this machine, for the new root: all that `apt install` takes there.
DOWNLOAD = (
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only '
    '--option APT::Install-Recommends=true install "{}"'
)


def make_root(directory: Path, package: Path) -> None:
    """Make the root of an image for `boot`, with what the package depends on."""
    done = subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
            "--include=systemd,systemd-sysv,dbus",
            "--dpkgopt=force-unsafe-io",
            # Keeps the lists of packages, and the downloaded ones.
            "--skip=cleanup/apt",
            f"--customize-hook={DOWNLOAD.format(package)}",
            *("bookworm", str(directory / "rootfs")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (directory / "complete").touch()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build(tmp_path / "tree")


@pytest.fixture
def machine(package: Path) -> Iterator[Machine]:
    with TemporaryDirectory() as directory:
        make_root(Path(directory), package)
        with machines.boot(package.parent, image=Path(directory)) as found:
            yield found


def test_two_commands_serve_a_game(machine: Machine, package: Path) -> None:
    assert not machine.path("/usr/bin/python3").exists()
    machine.do(
        *("env", "-C", str(package.parent)),
        *("apt", "--yes", "install", f"./{package.name}"),
        DEBIAN_FRONTEND="noninteractive",
    )
    machine.do("systemctl", "enable", "--now", "chimirror.socket")
    with Peer(machine.connect()) as peer:
        assert peer.open("/").status == 101
        assert b"animal" in peer.output(40)
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")
    said = machine.do("chimirror-bridge", "--version")
    assert said.startswith(f"chimirror-bridge {VERSION}\n")
    assert machine.do("systemctl", "--failed", "--quiet", "--no-legend") == ""
