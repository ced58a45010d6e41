"""Tests close and kill of chimirror-ctl, with real bridges and servers.

The same with units is in tests/systemd/test_ctl.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.ctl import control_client, discovery, systemd, usage
from chimirror.ctl.commands import stop
from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError
from chimirror.ctl.paths import HostPaths
from chimirror.ctl.session_info import SessionInfo
from ctl_process import connected, host, service
from fake_host import Machine, Screen, ctl, identity, status
from machine_sessions import closed_abruptly
from processes import PATIENCE, ended, marked, only_child, until
from serve import Bridge, Service
from websocket_peer import Closed, Peer

__all__ = ["host", "service"]

ROOT = Path(__file__).parents[2]


def session_of(peer: Peer, host: HostPaths) -> str:
    """Return the id of a client's session, found by the client's address."""
    host_name, port = peer.socket.getsockname()
    row: list[list[str]] = []

    def ask() -> bool:
        screen = ctl(host, "sessions", "--peer", f"{host_name}:{port}")
        row[:] = screen.rows()
        return bool(row)

    until(ask, "its session")
    return row[0][0]


def closed(peer: Peer) -> Closed:
    found = peer.receive()
    assert isinstance(found, Closed)
    return found


def test_close_and_kill_one_of_a_server(service: Service, host: HostPaths) -> None:
    with (
        connected(service) as one,
        connected(service) as other,
        connected(service) as third,
    ):
        first, second = session_of(one, host), session_of(other, host)
        left = session_of(third, host)
        assert ctl(host, "close", first[:12]).text == f"{first}\n"
        assert closed(one) == Closed(1001, "closed by operator")
        one.close()
        assert ctl(host, "kill", second).text == f"{second}\n"
        assert closed(other) == Closed(1001, "killed by operator")
        other.close()
        until(
            lambda: [row[0] for row in ctl(host, "sessions").rows()] == [left],
            "the third alone",
        )
        told = json.loads(ctl(host, "show", left, "--json").text)
        (process,) = told["processes"]
        assert process == [told["application_pid"], "cat"]
        assert told["tasks"] == 1


def test_none_is_ended_where_one_is_missing(service: Service, host: HostPaths) -> None:
    with connected(service) as one:
        first = session_of(one, host)
        with pytest.raises(CommandError, match="no live session ffff") as caught:
            run(["close", first, "ffff"], host, Screen())
        assert caught.value.status == os.EX_NOINPUT
        assert session_of(one, host) == first


# Bridges without a unit


@contextmanager
def bridge(machine: Machine) -> Iterator[tuple[Peer, Bridge]]:
    """Start a bridge. The test writes its status file, in a private directory."""
    with (
        Bridge(["sh", "-c", "cat; exit 3"], "--stop-grace=0") as running,
        Peer(running.socket) as peer,
    ):
        assert peer.open().status == 101
        application = only_child(running.serving)
        machine.tell(1, pid=running.serving, application_pid=application)
        yield peer, running


@pytest.mark.parametrize(("verb", "done"), [("close", "closed"), ("kill", "killed")])
def test_a_bridge_without_a_unit(
    tmp_path: Path, verb: str, done: str, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    host = machine.host._replace(proc="/proc")
    with bridge(machine) as (peer, running):
        (one,) = discovery.discover(host).sessions
        assert one.usage.tasks is not None
        assert one.usage.tasks >= 2
        assert ctl(host, verb, identity(1)[:10]).text == f"{identity(1)}\n"
        assert peer.receive() == Closed(1001, f"{done} by operator")
        peer.close()
        said = running.finish()[1]
        assert (b'"CHIMIRROR_EXIT":"signal KILL"' in said) == (verb == "kill")
    assert capfd.readouterr().err == ""


def test_a_stopped_bridge_is_killed(tmp_path: Path) -> None:
    """A stopped bridge cannot notify its client, but is ended nevertheless."""
    machine = Machine(tmp_path)
    host = machine.host._replace(proc="/proc")
    with bridge(machine) as (peer, running):
        serving = running.serving
        os.kill(serving, signal.SIGSTOP)
        looks = iter(range(int(stop.END_TIMEOUT / stop.POLL_INTERVAL)))

        def pause(_: float) -> None:
            if next(looks, None) is None:  # it is already being killed
                ended(serving, PATIENCE)

        kill(host, identity(1), pause=pause)
        assert closed_abruptly(peer)
        until(lambda: not marked(running.mark), "all its processes have ended")
        running.finish()


def test_session_that_ends_by_itself_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    machine.tell(1, pid=999_999_999)
    machine.process(999_999_999)
    ctl(machine.host, "close", identity(1))
    said = capfd.readouterr().err
    assert said == "chimirror-ctl: session 00000001 has ended by itself\n"


# Units


# The first unit ends when asked, the second by force, the third not at all.
ENDING = """\
case "$*" in *=USR1*) rm -f "$UNITS"/invocation:chimirror@1-* ;; esac
case "$*" in *=KILL*) rm -f "$UNITS"/invocation:chimirror@2-* ;; esac
[ -z "$SAID" ] || { echo "$SAID" >&2; exit 1; }
"""


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Host paths of a machine with three units, and a fake systemctl."""
    machine = Machine(tmp_path)
    machine.program("systemctl", ENDING)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("UNITS", f"{tmp_path}/run/systemd/units")
    monkeypatch.setenv("SAID", "")
    return machine


def calls(machine: Machine) -> list[str]:
    return (machine.directory / "systemctl.log").read_text().splitlines()


def kill(
    host: HostPaths, *ids: str, pause: Callable[[float], None] = lambda _: None
) -> str:
    """Run the command as the program does, but with short timeouts."""
    screen = Screen()
    given = usage.parse(["kill", *ids])
    assert stop.kill(given, host, screen, pause) == os.EX_OK
    return screen.text


def test_units_are_identified_by_name(
    units: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = units.unit(1), units.unit(2)
    units.tell(2, pid=os.getpid())  # fields of a file alone never end a process
    ctl(units.host, "close", "00000002")
    assert kill(units.host, "00000001", "00000002", "00000001") == (
        f"{identity(1)}\n{identity(2)}\n"
    )
    assert calls(units) == [
        f"kill --kill-whom=main --signal=USR2 -- {two}",
        f"kill --kill-whom=main --signal=USR1 -- {one} {two}",
        f"kill --kill-whom=all --signal=KILL -- {two}",
    ]
    assert capfd.readouterr().err == (
        "chimirror-ctl: session 00000002 did not end at once, "
        "and was killed with its bridge\n"
    )


def test_unit_that_has_already_ended(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID", "Failed to kill unit: Unit not loaded.")
    units.unit(1)
    kill(units.host, "00000001")
    assert len(calls(units)) == 1


def test_a_unit_that_cannot_be_killed(units: Machine) -> None:
    three = units.unit(3)
    with pytest.raises(CommandError, match=f"03 cannot be killed: {three};") as caught:
        kill(units.host, "00000003")
    assert caught.value.status == os.EX_UNAVAILABLE


def test_units_of_other_projects(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID", "Failed to kill unit: Access denied")
    units.unit(2)
    with pytest.raises(CommandError, match="Access denied; run it as root") as caught:
        kill(units.host, "00000002")
    assert caught.value.status == os.EX_NOPERM
    assert str(caught.value).startswith("session 00000002: ")


def test_a_bridge_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_pid: int, _number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    machine = Machine(tmp_path)
    machine.tell(1)
    machine.process(101)
    monkeypatch.setattr(os, "kill", deny)
    for verb in ("close", "kill"):
        with pytest.raises(CommandError, match="session 00000001 belongs to") as caught:
            ctl(machine.host, verb, identity(1))
        assert caught.value.status == os.EX_NOPERM


def test_a_worker_that_does_not_answer_keeps_no_other_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Worker(control_client.ControlClient):
        def __init__(self, path: str, about: str) -> None:
            if path.endswith("/0"):
                raise control_client.NoAnswer(f"{about} is stopped")
            self._socket = socket.socket()

        def end_sessions(self, ids: list[str], *, force: bool) -> list[str]:
            return ids

    found = discovery.Discovered([], [], [], [])
    for number in (1, 2):
        path = f"/x/servers/77/{number - 1}"
        one = SessionInfo(identity(number), 1, 0, server=77, socket=path)
        found.sessions.append(one)
    monkeypatch.setattr(discovery, "discover", lambda _host: found)
    monkeypatch.setattr(control_client, "ControlClient", Worker)
    screen = Screen()
    ids = (identity(1), identity(2))
    assert run(["close", *ids], HostPaths(()), screen) == os.EX_TEMPFAIL
    assert screen.text == f"{identity(2)}\n"
    assert capfd.readouterr().err == (
        "chimirror-ctl: not ended: session 00000001: worker 0 of server 77 is stopped\n"
    )


def test_more_units_than_fit_on_a_line(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one worker fails, the others are notified nevertheless."""
    monkeypatch.setenv("SAID", "Unit not loaded.")
    monkeypatch.setattr(systemd, "MAX_UNITS", 2)
    with pytest.raises(CommandError, match="not loaded"):
        systemd.on_units(("stop",), ["a", "b", "c"])
    assert calls(units) == ["stop -- a b", "stop -- c"]


# The program


def program(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "chimirror.ctl.main", *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_and_version() -> None:
    assert program("--help").stdout.startswith("Show, control, limit and end")
    assert program("--version").stdout.startswith("chimirror-ctl 0")


def test_a_failure_is_one_line_and_a_status() -> None:
    done = program("show", "no-id")
    assert (done.returncode, done.stdout) == (os.EX_USAGE, "")
    assert done.stderr == "chimirror-ctl: no-id is not the beginning of an ID\n"


def test_closed_stdout() -> None:
    command = [sys.executable, "-P", "-m", "chimirror.ctl.main", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_interrupted() -> None:
    command = [sys.executable, "-P", "-m", "chimirror.ctl.main", "sessions", "--watch"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"id\t")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT


def test_status_files_are_of_this_shape() -> None:
    """The fields that these tests write are those that identify sessions."""
    from chimirror.session import summary
    from session_harness import SessionHarness

    with SessionHarness() as harness:
        harness.open()
        told = summary.summarize(harness.context, harness.session)
    assert set(told) == set(status(1))
