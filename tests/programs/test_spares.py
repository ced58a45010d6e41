"""Spares of a real server: processes that are started before their clients come.

Each test waits for a state of processes, of the log or of a connection. Times and
limits of one worker are tested in tests/unit/server/test_spares.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from control_clients import authorized
from ctl_process import only_this_server
from fake_host import ctl
from processes import ended, parent_of, read, until
from pty_session import PtyClient
from serve import Service, pure_server, server
from shell_sessions import SHELL, SOON, join, kill_zygote, told
from spare_programs import ECHO, GRACES, await_spares, born, enter, joined, started
from websocket_peer import Closed, Peer

Start = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(params=[server, pure_server], ids=["worker", "zygote"])
def start(request: pytest.FixtureRequest) -> Start:
    """How applications are started: by the workers, or by the zygote."""
    found: Start = request.param
    return found


def test_a_client_gets_a_process_that_was_there(start: Start, tmp_path: Path) -> None:
    options = ("--workers=1", "--spares=3", *GRACES)
    with start(tmp_path, ECHO, *options) as service:
        waiting = sorted(await_spares(service, 3), key=born)
        one = enter(service)
        assert one.pid in waiting
        assert born(one.pid) == born(waiting[0])
        assert one.echoes()
        environ = read(f"/proc/{one.pid}/environ").split(b"\0")
        assert f"CHIMIRROR_SESSION={one.session}".encode() in environ
        one.close()
        assert ended(one.pid, SOON)
        await_spares(service, 3)
        service.await_ends(1)
        assert one.session in service.log.read_text()


def test_no_process_serves_two(start: Start, tmp_path: Path) -> None:
    options = ("--workers=2", "--spares=4", *GRACES)
    pids = []
    with start(tmp_path, ECHO, *options) as service:
        for _ in range(40):
            one = enter(service)
            assert one.echoes()
            pids.append((one.pid, one.session))
            one.close()
        service.await_ends(40)
    assert len({session for _, session in pids}) == 40
    assert len({pid for pid, _ in pids}) == 40


def test_a_burst_beyond_the_spares_loses_nobody(start: Start, tmp_path: Path) -> None:
    options = ("--workers=2", "--spares=4", *GRACES)
    with start(tmp_path, ECHO, *options) as service, ExitStack() as stack:
        waiting = await_spares(service, 4)
        peers = [stack.enter_context(Peer(service.connect())) for _ in range(100)]
        for peer in peers:
            assert peer.open(framing="stdio").status == 101
        sessions = [joined(peer) for peer in peers]
        pids = {one.pid for one in sessions}
        assert len(pids) == 100
        assert pids & waiting
        for one in sessions:
            assert one.echoes()


def test_output_before_the_client_comes_first(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo early; echo err >&2; exec cat"]
    options = ("--workers=1", "--spares=1", *GRACES)
    with server(tmp_path, command, *options) as service:
        await_spares(service, 1)
        with started(service) as peer:
            assert peer.message()["type"] == "session"
            said = [peer.message() for _ in range(2)]
            assert {one["type"]: one["payload"] for one in said} == {
                "stdout": "ZWFybHkK",
                "stderr": "ZXJyCg==",
            }


def test_each_file_has_its_own_number(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    words = ", ".join(f'"{word}"' for word in ECHO)
    (apps / "with.toml").write_text(f"command = [{words}]\nspares = 2\n")
    (apps / "without.toml").write_text(f"command = [{words}]\n")
    with server(tmp_path, [], "--apps", str(apps), "--workers=1") as service:
        waiting = await_spares(service, 2)
        without, one = enter(service, "/without"), enter(service, "/with")
        assert without.pid not in waiting
        assert one.pid in waiting
        without.close()
        one.close()


# What they do not know


def test_a_spare_has_no_variables_of_a_request(tmp_path: Path) -> None:
    options = ("--workers=1", "--spares=1", "--env=LEVEL=3", *GRACES)
    with server(tmp_path, ECHO, *options) as service:
        await_spares(service, 1)
        one = enter(service, "/?query")
        found = read(f"/proc/{one.pid}/environ").decode().split("\0")
        names = {line.partition("=")[0] for line in found}
        assert {"PATH", "LEVEL", "PYTHONUNBUFFERED"} <= names
        assert not {"QUERY_STRING", "REMOTE_ADDR", "HTTP_HOST"} & names
        one.close()


LISTENER = """
import os, socket, sys
control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"])).makefile()
for line in sys.stdin:
    print(control.readline(), end="", flush=True)
"""


@pytest.mark.parametrize("spares", [0, 1])
def test_the_control_channel_tells_the_request(tmp_path: Path, spares: int) -> None:
    """It is told to the spare, and to the process that is started without one."""
    program = [sys.executable, "-c", LISTENER]
    options = ("--workers=1", "--spares=1", "--control", *GRACES)
    with server(tmp_path, program, *options) as service, ExitStack() as stack:
        await_spares(service, 1)
        for _ in range(2 - spares):  # the second one finds no spare
            peer = stack.enter_context(started(service, "/?level=%ff"))
        hello = peer.message()
        with authorized(service.connect, hello) as control:
            assert control.ask("session.environment") == -32601
        told_line = told(peer, "", 2)
        while not told_line.endswith(b"\n"):
            told_line += peer.output(1)
        message = json.loads(told_line)
        assert message["method"] == "session.environment"
        assert message["params"]["QUERY_STRING"] == "level=%ff"
        assert message["params"]["REMOTE_ADDR"] == "127.0.0.1"


RESIZED = """
import os, signal
show = lambda *_: print(*os.get_terminal_size(0))
signal.signal(signal.SIGWINCH, show)
show()
while True: signal.pause()
"""


def test_the_size_of_a_terminal_follows(tmp_path: Path) -> None:
    program = [sys.executable, "-c", RESIZED]
    options = ("--workers=1", "--spares=1", "--pty", *GRACES)
    with server(tmp_path, program, *options) as service:
        await_spares(service, 1)
        fields = ("Sec-WebSocket-Protocol: chimirror.stdio.v1, chimirror.size.100x40",)
        with Peer(service.connect()) as peer:
            assert peer.open(framing="", fields=fields).status == 101
            assert peer.message()["type"] == "session"
            PtyClient(peer, 0).expect(r"\b100 40\b")


# Spares that end by themselves


@pytest.mark.parametrize("command", [["date"], ["sh", "-c", "echo why >&2; exit 3"]])
def test_programs_that_end_get_no_more_spares(
    tmp_path: Path, command: list[str]
) -> None:
    """There is one warning of both workers, and sessions as without spares."""
    options = ("--workers=2", "--spares=2", *GRACES)
    with server(tmp_path, command, *options) as service:
        service.find("no more spares of (date|sh)")
        if command != ["date"]:
            assert "(exit 3, why)" in service.log.read_text()
        until(lambda: not service.applications(), "none is left", SOON)
        with started(service) as peer:
            assert isinstance(peer.transcript().closed, Closed)
        service.await_ends(1)
        assert service.log.read_text().count("no more spares") == 1


def test_a_killed_spare_is_replaced(start: Start, tmp_path: Path) -> None:
    options = ("--workers=1", "--spares=2", *GRACES)
    with start(tmp_path, ECHO, *options) as service:
        first, _ = sorted(await_spares(service, 2), key=born)
        os.kill(first, signal.SIGKILL)
        assert ended(first, SOON)
        one = enter(service)
        assert one.pid not in (first,)
        one.close()
        until(
            lambda: (
                first not in service.applications() and len(service.applications()) == 2
            ),
            "it is replaced",
            SOON,
        )


# Retirement


def test_a_changed_file_renews_spares(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    file, program = apps / "a.toml", tmp_path / "program"
    program.write_text("printf %08d $$; exec cat\n")
    file.write_text(f'command = ["bash", "{program}"]\nspares = 2\n')
    options = ("--apps", str(apps), "--workers=1", *GRACES)
    with server(tmp_path, [], *options) as service:
        first = await_spares(service, 2)
        program.write_text("printf %08d $$; exec cat # changed\n")
        for pid in first:
            assert ended(pid, SOON)
        second = await_spares(service, 2)
        file.write_text(f'command = ["bash", "{program}"]\nspares = 1\n')
        for pid in second:
            assert ended(pid, SOON)
        (third,) = await_spares(service, 1)
        one = enter(service, "/a")
        assert one.pid == third
        file.unlink()
        await_spares(service, 0, one.pid)
        assert one.echoes()
        one.close()


def test_spares_are_replaced_by_age(start: Start, tmp_path: Path) -> None:
    options = ("--workers=1", "--spares=2", "--spare-age=300ms", *GRACES)
    with start(tmp_path, ECHO, *options) as service:
        first = await_spares(service, 2)
        for pid in first:
            assert ended(pid, SOON)
        until(service.applications, "others", SOON)
        assert not first & set(service.applications())
        assert "ended" not in service.log.read_text()


@pytest.mark.parametrize("is_drain", [True, False], ids=["SIGTERM", "ctl"])
def test_a_drain_ends_spares_in_order(
    start: Start, tmp_path: Path, is_drain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    polite = f"while read -r line; do :; done; echo eof >>{said}"
    trapped = f"trap 'echo TERM >>{said}' TERM; {polite}; while :; do sleep 0.05; done"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    options = ("--workers=1", "--spares=1", "--stop-grace=50ms", "--kill-grace=300ms")
    with start(tmp_path, ["bash", "-c", trapped], *options) as service:
        (pid,) = await_spares(service, 1)
        if is_drain:
            os.kill(service.pid, signal.SIGTERM)
        else:
            host = only_this_server(tmp_path, service)
            assert ctl(host, "drain").text == "sessions left: 0\n"
        assert ended(pid, SOON)
        assert said.read_text() == "eof\nTERM\n"
        if not is_drain:
            assert not service.applications()
            ctl(host, "undrain")
            assert await_spares(service, 1) != {pid}


def test_ctl_shows_spares_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    options = ("--workers=1", "--spares=1", "--max-sessions=1", *GRACES)
    with server(tmp_path, ECHO, *options) as service:
        host = only_this_server(tmp_path, service)
        (pid,) = await_spares(service, 1)
        one = enter(service)
        assert one.pid == pid
        assert one.echoes()
        (spare,) = await_spares(service, 1, one.pid)
        states = {
            row["application_pid"]: row["state"]
            for row in json.loads(ctl(host, "sessions", "--json").text)
        }
        assert states == {one.pid: "open", spare: "spare"}
        assert ctl(host, width=200).text.endswith("\n\n1 session and 1 spare\n")
        assert len(ctl(host, "sessions").rows()) == 1
        assert ctl(host, "drain").text == "sessions left: 1\n"
        with Peer(service.connect()) as second:
            assert second.open().status == 503
        one.close()


# Deaths


def test_spares_of_a_dead_worker_end(start: Start, tmp_path: Path) -> None:
    options = ("--workers=1", "--spares=2", *GRACES)
    with start(tmp_path, ECHO, *options) as service:
        first = await_spares(service, 2)
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        for pid in first:
            assert ended(pid, SOON)
        service.find(rf"worker \d \(pid {worker}\) ended: signal KILL")
        assert not first & await_spares(service, 2)
        one = enter(service)
        one.close()
        service.await_ends(1)


def test_spares_outlive_the_zygote(tmp_path: Path) -> None:
    options = ("--workers=1", "--spares=2", *GRACES)
    with pure_server(tmp_path, ECHO, *options) as service:
        first = await_spares(service, 2)
        kill_zygote(service)
        one = enter(service)
        assert one.pid in first
        assert one.echoes()
        one.close()
        assert ended(one.pid, SOON)


def test_spares_end_with_the_supervisor(start: Start, tmp_path: Path) -> None:
    options = ("--workers=2", "--spares=2", *GRACES)
    with start(tmp_path, ECHO, *options) as service:
        first = await_spares(service, 2)
        service.process.kill()
        service.process.wait()
        for pid in first:
            assert ended(pid, SOON)


def test_descendants_of_a_spare_end_with_its_session(
    start: Start, tmp_path: Path
) -> None:
    options = ("--workers=1", "--spares=1", *GRACES)
    with start(tmp_path, SHELL, *options) as service:
        await_spares(service, 1)
        with join(service) as peer:
            assert told(peer, "setsid -f sleep 1000 >&- 2>&-; echo ok", 3) == b"ok\n"
        until(
            lambda: all(
                parent_of(pid) != 1 and b"sleep" not in read(f"/proc/{pid}/cmdline")
                for pid in service.applications()
            ),
            "it ends",
            SOON,
        )
