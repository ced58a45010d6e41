"""Tests Ctrl-Z on a server in a terminal: a real shell stops and continues its job."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import uuid
from pathlib import Path

from processes import MARK, descendants, is_pending, name_of, stopped, until
from serve import LAUNCH, PROGRAMS, running, script
from tmux import Window, window
from websocket_peer import Closed, Peer

SHELL = ["bash", "--norc", "--noprofile", "-i"]
OPTIONS = (
    *("--workers=1", "--listen=127.0.0.1:0", "--ping-interval=0"),
    "--drain-timeout=0",
)
OWN = 4  # guardian, supervisor, zygote and worker


def processes_of(shell: Window) -> tuple[set[int], set[int]]:
    """Return the processes of the server, and those of its applications."""
    every = {one.pid for one in descendants(shell.pid())}
    own = {pid for pid in every if PROGRAMS.search(name_of(pid))}
    return own, every - own


def address_in(log: Path) -> tuple[str, int]:
    """Wait until a server listens. Returns its address."""
    pattern = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
    until(lambda: log.exists() and pattern.search(log.read_text()), "it listens")
    return "127.0.0.1", int(pattern.findall(log.read_text())[0])


def echoes(peer: Peer) -> bool:
    peer.send({"a": 1})
    return peer.output(8) == b'{"a":1}\n'


def test_a_server_stops_as_a_job(tmp_path: Path) -> None:
    """Its applications lead groups of their own, and go on."""
    log = tmp_path / "log"
    run = script(tmp_path, [*LAUNCH, "chimirror.server", *OPTIONS, "--", "cat"])
    with window(tmp_path, "shell", SHELL) as shell:
        shell.type(shlex.join([str(run)]) + f" 2>{shlex.quote(str(log))}", "Enter")
        with Peer(socket.create_connection(address_in(log))) as peer:
            assert peer.open().status == 101
            assert echoes(peer)
            own, applications = processes_of(shell)
            assert [len(own), len(applications)] == [OWN, 1]
            for _ in range(2):
                shell.type("C-z")
                shell.until(lambda: own <= stopped(), "all of it stop")
                assert not applications & stopped()
                shell.type("fg", "Enter")
                shell.until(lambda: not own & stopped(), "all of it go on")
                assert echoes(peer)
            shell.type("C-c")
            assert peer.transcript().closed == Closed(1001, "drain")
        shell.until(lambda: not descendants(shell.pid()), "its end")


def test_without_a_shell_a_server_goes_on(tmp_path: Path) -> None:
    """Nothing could continue it. A server that stands still would not end."""
    mark = uuid.uuid4().hex
    program = [*LAUNCH, "chimirror.server", f"--env={MARK}={mark}", *OPTIONS]
    with running(tmp_path, ["setsid", *program, "--", "cat"], mark) as service:
        service.address = address_in(service.log)
        os.kill(service.process.pid, signal.SIGTSTP)
        until(lambda: not is_pending(service.process.pid, signal.SIGTSTP), "it wakes")
