"""Tests what one client or one application file can do to the zygote of a server.

Floods of signals, commands that are too large, and starts that kill zygotes affect no
other session. Processes are real.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chimirror.server.zygote_manager import MAX_EARLY_DEATHS
from processes import MARK, Memory, comm, descendants, ended, marked, until
from serve import ROOT, Service, preloading, pure_package, running
from serve import pure_server as server
from shell_sessions import (
    SHELL,
    SOON,
    ask,
    join,
    kill_zygote,
    pid_of,
    suspended,
    told,
)
from websocket_peer import Peer, Reply, stdin, text, upgrade

CAT = ["sh", "-c", "echo up; exec cat"]
CONT = text({"type": "signal", "name": "CONT"}) * 100
MIB = 1 << 20
MAX_SENT = 64 * MIB  # more than the buffers of a connection


def send_until_blocked(peer: Peer) -> int:
    """Send signals until the server reads no more. Returns the number of bytes."""
    peer.socket.setblocking(False)
    sent, rest = 0, CONT
    while sent < MAX_SENT and select.select([], [peer.socket], [], 0.5)[1]:
        size = peer.socket.send(rest)
        sent, rest = sent + size, rest[size:] or CONT
    return sent


def test_who_floods_with_signals_waits_and_others_do_not(tmp_path: Path) -> None:
    with server(tmp_path, CAT, "--workers=1") as service:
        flooders = [Peer(service.connect()) for _ in range(2)]
        for flooder in flooders:
            assert flooder.open(framing="stdio").status == 101
        (zygote,), memory = service.zygotes(), Memory(service.workers())
        with Peer(service.connect()) as other, suspended(zygote):
            for flooder in flooders:
                assert send_until_blocked(flooder) < MAX_SENT
            ask(other)
            os.kill(zygote, signal.SIGCONT)
            assert other.head().status == 101
            assert other.output(3) == b"up\n"
        assert memory.growth() < 8 * MIB
        for flooder in flooders:  # it is read again
            assert select.select([], [flooder.socket], [], 30)[1]
            flooder.close()


@contextmanager
def patched(
    directory: Path, patch: str, *arguments: str, root: str = ROOT
) -> Iterator[Service]:
    """Run a server whose timeouts are changed by a statement."""
    modules = "main, start_guard, stop_guard, zygote_manager"
    script = f"from chimirror.server import {modules}\n{patch}\nmain.main()"
    mark = uuid.uuid4().hex
    argv = [sys.executable, "-P", "-c", script, "--env", f"{MARK}={mark}"]
    argv += ["--listen=127.0.0.1:0", *arguments]
    with running(directory, argv, mark, root=root) as service:
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        yield service


def application(apps: Path, name: str, *command: str, **fields: object) -> None:
    lines = {"command": command, **fields}.items()
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines)
    (apps / f"{name}.toml").write_text(text.replace("pass_env", "pass-env"))


def request(service: Service, target: str) -> Reply:
    with Peer(service.connect()) as peer:
        peer.send_raw(upgrade(target, "stdio", ()))
        return peer.refusal()


def test_what_is_too_large_is_refused_and_hurts_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ABC":
        monkeypatch.setenv(name, "x" * 100_000)
        monkeypatch.setenv(name * 2, "\1" * 60_000)
    application(tmp_path, "good", *CAT)
    application(tmp_path, "file", "echo", "x" * 700_000)
    application(tmp_path, "variables", "echo", pass_env=["A", "B", "C"])
    application(tmp_path, "packet", "echo", pass_env=["AA", "BB", "CC"])
    application(tmp_path, "many", "echo", *[""] * 15_000)
    application(tmp_path, "gone", *CAT, directory="/no/such")
    options = ("--apps", str(tmp_path), "--workers=1")
    with server(tmp_path, [], *options) as service:
        before = service.zygotes()
        with Peer(service.connect()) as peer:
            assert peer.open("/good", framing="stdio").status == 101
            for name in ("file", "variables", "packet", "gone"):
                assert request(service, f"/{name}").status == 500, name
            with Peer(service.connect()) as other:
                assert other.open("/many").status == 101
            peer.message()
            peer.send(stdin(b"alive\n"))
            assert peer.output(9) == b"up\nalive\n"
        assert service.zygotes() == before
        service.find("command and environment have 30[0-9]{4} bytes, more than 262144")
        service.find("its command and environment are too large: 10[0-9]{5} bytes")
        service.find("/no/such: No such file or directory")


MODULE = """
    import os, signal, sys
    def before():
        if os.path.exists("fatal"):
            os.kill(os.getpid(), 9)
    os.register_at_fork(before=before)
    def main():
        print("up", flush=True)
        for line in sys.stdin:
            print(line, end="", flush=True)
"""


def test_a_start_that_kills_zygotes_fails_and_sessions_live(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(textwrap.dedent(MODULE))
    with preloading(tmp_path, "fragile:main", "--workers=1") as service:
        with Peer(service.connect()) as peer:
            assert peer.open(framing="stdio").status == 101
            assert peer.message()["type"] == "session"
            (tmp_path / "fatal").touch()
            for status in (500, 500, 503):
                (zygote,) = service.zygotes()
                assert request(service, "/").status == status
                if status == 500:
                    pattern = rf"the zygote \(pid {zygote}\) ended: signal KILL"
                    service.find(pattern)
                    until(lambda: service.zygotes() not in ([], [zygote]), "the next")  # noqa: B023 (called at once)
            peer.send(stdin(b"alive\n"))
            assert peer.output(9) == b"up\nalive\n"
        log = service.log.read_text()
        assert log.count("fragile:main: the zygote died of this start") == 2
        assert "it has killed 2 zygotes" in log


HANGING = MODULE.replace("os.kill(os.getpid(), 9)", "signal.pause()")


def test_a_start_that_hangs_fails_and_others_are_served(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(textwrap.dedent(HANGING))
    patch = "guard = start_guard.ZygoteGuard; guard.timeout, guard.interval = 2, 0.2"
    options = ("--workers=1", f"--directory={tmp_path}", "--preload=fragile:main")
    with ExitStack() as stack:
        service = stack.enter_context(patched(tmp_path, patch, *options))
        peer = stack.enter_context(Peer(service.connect()))
        assert peer.open(framing="stdio").status == 101
        assert peer.message()["type"] == "session"
        (tmp_path / "fatal").touch()
        with Peer(service.connect()) as first, Peer(service.connect()) as second:
            ask(first)
            service.find("killed the zygote .*: it has hung in a start for 2 s")
            assert first.refusal().status == 500
            (tmp_path / "fatal").unlink()
            ask(second)
            assert second.head().status == 101
        peer.send(stdin(b"alive\n"))
        assert peer.output(9) == b"up\nalive\n"


def test_sessions_outlive_any_number_of_zygotes(tmp_path: Path) -> None:
    patch = "zygote_manager.MIN_LIFETIME = 1000; zygote_manager.RESTART_DELAY = 0.001"
    options, root = ("--workers=1", "--", *SHELL), pure_package(tmp_path)
    with ExitStack() as stack:
        service = stack.enter_context(patched(tmp_path, patch, *options, root=root))
        peer = stack.enter_context(join(service))
        pid = pid_of(peer)
        for _ in range(MAX_EARLY_DEATHS + 2):
            (zygote,) = named(service, "zygote")
            os.kill(zygote, signal.SIGKILL)
            service.find(rf"the zygote \(pid {zygote}\) ended: signal KILL")
            until(lambda: named(service, "zygote") not in ([], [zygote]), "next")  # noqa: B023 (called at once)
        assert pid_of(peer) == pid
        join(service).close()


def named(service: Service, name: str) -> list[int]:
    """Return the processes of the service with this name."""
    every = [process.pid for process in descendants(service.pid)]
    return [pid for pid in every if comm(pid) == name]


def test_signals_survive_the_zygote(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1") as service, join(service) as peer:
        assert told(peer, "trap 'echo heard' USR1; echo ok", 3) == b"ok\n"
        pid = pid_of(peer)
        with suspended(service.zygotes()[0]):
            peer.send({"type": "signal", "name": "USR1"}, stdin(b"echo on\n"))
            assert peer.output(3) == b"on\n", "the worker has read the signal"
            kill_zygote(service)
        assert peer.output(6) == b"heard\n"
        assert pid_of(peer) == pid


# The last resort of a stop


@pytest.mark.parametrize("stuck", ["worker", "zygote"])
def test_a_stuck_process_does_not_hinder_the_stop(stuck: str, tmp_path: Path) -> None:
    patch = "stop_guard.KILL_MARGIN = zygote_manager.STOP_TIMEOUT = 0.2"
    options = ("--workers=2", "--drain-timeout=1h", "--", *SHELL)
    with patched(tmp_path, patch, *options) as service, join(service) as peer:
        pid = pid_of(peer)
        victims = (
            named(service, comm(service.pid))
            if stuck == "worker"
            else service.zygotes()
        )
        with suspended(victims[0]):
            service.process.terminate()
            service.find("draining: 1 session")  # two in one turn would count once
            service.process.terminate()
            assert service.process.wait(SOON) == 0
        assert ended(pid, 0)
        assert marked(service.mark) == []
        log = service.log.read_text()
        assert re.search(rf"killed (the )?{stuck} .*\(?pid {victims[0]}\): ", log)
