"""Runs the commands of README.md for a systemd host, as they are written.

In a new machine (systemd_machine), where no package index is used. README.md says how
an upgrade treats sessions: it is tested with the same version.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

import library_wheels
import readme
import systemd_machine as machines
from machine_sessions import SERVER_PORT
from systemd_machine import PORT, ROOT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

PROGRAM = """\
import sys
for line in sys.stdin:
    print(line.upper(), end="", flush=True)
"""
CONFIGURATION = "/etc/chimirror/chimirror.conf"


def opened(machine: Machine, stack: ExitStack, port: int = PORT) -> Peer:
    peer = stack.enter_context(Peer(machine.connect(port)))
    assert peer.open("/animals").status == 101
    return peer


def shouts(peer: Peer) -> None:
    peer.send("hello")
    assert peer.output(8) == b'"HELLO"\n'


def test_the_blocks_in_order(tmp_path: Path) -> None:
    if lacking := machines.missing():
        pytest.skip(lacking)
    library_wheels.pack(tmp_path)
    texts = [block.text for block in readme.blocks()]
    installs, upgrades = (text for text in texts if text.startswith("make install\n"))
    assert "systemctl enable" in installs
    assert "systemctl try-restart" in upgrades
    (setting,) = (
        text for text in texts if text.endswith("your-program.py\n") and "=" in text
    )
    (adds,) = (text for text in texts if text.startswith("chimirror-ctl add "))

    with machines.boot(tmp_path) as machine, ExitStack() as stack:

        def do(text: str) -> str:
            script = f"cd {ROOT}\n{text}"
            index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
            return machine.do(
                "sh", "-ec", script, PIP_ROOT_USER_ACTION="ignore", **index
            )

        do(installs)
        assert b"animal" in opened(machine, stack).output(40)
        machine.write("/srv/game/your-program.py", PROGRAM)
        machine.write("/srv/game/animals.py", PROGRAM)
        configuration = machine.path(CONFIGURATION)
        changed = configuration.read_text() + setting
        configuration.write_text(changed)
        # The peers of this test answer no ping while the upgrade runs.
        patient = 'Environment="CHIMIRROR_OPTIONS=--ping-interval off"'
        machine.drop_in("chimirror@.service", "Service", patient)
        kept = opened(machine, stack)
        shouts(kept)
        address = f"ListenStream=127.0.0.1:{SERVER_PORT}"
        machine.drop_in("chimirror-server.socket", "Socket", "ListenStream=", address)
        soon = 'Environment="CHIMIRROR_OPTIONS=--drain-timeout 0 --ping-interval off"'
        machine.drop_in("chimirror-server.service", "Service", soon)
        machine.do("systemctl", "start", "chimirror-server.socket")
        ended = opened(machine, stack, SERVER_PORT)
        shouts(ended)

        do(upgrades)
        shouts(kept)
        assert ended.transcript().closed == Closed(1001, "drain")
        shouts(opened(machine, stack))
        shouts(opened(machine, stack, SERVER_PORT))
        assert configuration.read_text() == changed

        do(adds)
        configuration.write_text("CHIMIRROR_COMMAND=--apps /etc/chimirror/apps\n")
        peer = stack.enter_context(Peer(machine.connect()))
        assert peer.open("/animals", framing="lines").status == 101
        peer.send("hello")
        assert peer.receive() == b'"HELLO"'
