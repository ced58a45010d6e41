"""A session of a real server or bridge, and a chimirror-ctl that finds no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError
from chimirror.ctl.paths import HostPaths
from chimirror.host import runtime_dir
from ctl_process import only_this_server
from fake_host import Screen, ctl
from processes import until
from serve import ROOT, Bridge, server
from websocket_peer import Peer

# chimirror-ctl that finds only the session of the test.
CTL = """
import sys
from chimirror.ctl import main, paths
host = paths.HostPaths((sys.argv.pop(1),), run=sys.argv.pop(1))
main.this_host = lambda: host
sys.exit(main.main())
"""
CAT = ["sh", "-c", "echo up; exec cat"]


class Steered:
    """A session, and host paths on which it is found."""

    def __init__(self, host: HostPaths, peer: Peer) -> None:
        self.host = host
        self.peer = peer
        assert peer.open(framing="stdio").status == 101
        self.id: str = peer.message()["id"]
        assert peer.output(3) == b"up\n"

    def ask(self, *argv: str) -> str:
        verb, *words = argv
        return ctl(self.host, verb, self.id[:16], *words).text

    def fail(self, *argv: str) -> tuple[int, str]:
        verb, *words = argv
        with pytest.raises(CommandError) as caught:
            run([verb, self.id, *words], self.host, Screen())
        return caught.value.status, str(caught.value)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start chimirror-ctl with a verb and options, for this session."""
        places = [*self.host.runtime_dirs, self.host.run]
        words = [*argv, self.id[:16]]
        command = [sys.executable, "-P", "-c", CTL, *places, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe)


@contextmanager
def of_a_server(path: Path, place: Path) -> Iterator[Steered]:
    del place
    with server(path, CAT, "--workers=2") as service, Peer(service.connect()) as peer:
        yield Steered(only_this_server(path, service), peer)


@contextmanager
def of_a_bridge(path: Path, place: Path) -> Iterator[Steered]:
    host = HostPaths((str(place.parent),), run=str(path / "run"))
    with Bridge(CAT) as bridge, Peer(bridge.socket) as peer:
        steered = Steered(host, peer)
        socket = place / runtime_dir.control(steered.id)
        until(socket.exists, "its control socket")
        until((place / steered.id).read_text, "its status")
        yield steered
        peer.close()
        bridge.finish()
