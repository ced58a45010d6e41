"""close, kill and drain, of real bridges and servers; units are in test_ctl_live.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.ctl import ending, sources, systemd, usage
from chimirror.ctl.failure import Failure
from chimirror.ctl.host import Host
from chimirror.ctl.main import run
from chimirror.system import runtime
from hosts import Machine, Screen, ctl, identity, status
from launch import Bridge, Service, server
from peers import Closed, Peer
from sessions import vanished
from settling import PATIENCE, ended, name_of, until

ROOT = Path(__file__).parent.parent


def alone(tmp_path: Path, service: Service) -> Host:
    """A machine on which no server but this one is to be seen."""
    place = runtime.directory(os.environ, os.geteuid())
    real = Path(place or tmp_path) / "servers" / str(service.pid)
    until((real / "0").exists, "its control socket")
    servers = tmp_path / "alone" / "servers"
    servers.mkdir(parents=True)
    (servers / str(service.pid)).symlink_to(real)
    return Host((str(tmp_path / "alone"),), run=str(tmp_path / "run"))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with server(tmp_path, ["cat"], "--workers=2") as found:
        yield found


@pytest.fixture
def host(tmp_path: Path, service: Service) -> Host:
    return alone(tmp_path, service)


@contextmanager
def connected(service: Service) -> Iterator[Peer]:
    with Peer(service.connect()) as peer:
        assert peer.open().status == 101
        yield peer


def session_of(peer: Peer, host: Host) -> str:
    """The id of the session of this client, by its own address."""
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


def test_close_and_kill_one_of_a_server(service: Service, host: Host) -> None:
    with (
        connected(service) as one,
        connected(service) as other,
        connected(service) as third,
    ):
        first, second = session_of(one, host), session_of(other, host)
        left = session_of(third, host)
        assert ctl(host, "close", first[:12]).text == f"{first}\n"
        assert closed(one).code == 1001
        one.close()
        assert ctl(host, "kill", second).text == f"{second}\n"
        until(lambda: other.socket.recv(100) == b"", "its end")
        until(
            lambda: [row[0] for row in ctl(host, "sessions").rows()] == [left],
            "the third alone",
        )
        told = json.loads(ctl(host, "show", left, "--json").text)
        (process,) = told["processes"]
        assert process == [told["application_pid"], "cat"]
        assert told["tasks"] == 1


def test_none_is_ended_where_one_is_missing(service: Service, host: Host) -> None:
    with connected(service) as one:
        first = session_of(one, host)
        with pytest.raises(Failure, match="no live session ffff") as caught:
            run(["close", first, "ffff"], host, Screen())
        assert caught.value.status == os.EX_NOINPUT
        assert session_of(one, host) == first


def test_drain_lets_sessions_end(service: Service, host: Host) -> None:
    with connected(service) as one:
        session_of(one, host)
        assert ctl(host, "drain").text == "sessions left: 1\n"
        until(lambda: not listens(service), "no more listening")
        assert session_of(one, host)
        one.send_close()
        closed(one)
        one.close()
    assert ended(service.pid, 30)


def listens(service: Service) -> bool:
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def test_drain_now_closes_them(service: Service, host: Host) -> None:
    with connected(service) as one:
        session_of(one, host)
        ctl(host, "drain", "--now")
        assert closed(one).code == 1001
        one.close()
    assert ended(service.pid, 30)


def test_nothing_to_drain(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "run" / "systemd" / "system").rmdir()
    with pytest.raises(Failure, match="nothing is accepting") as caught:
        ctl(machine.host, "drain")
    assert caught.value.status == os.EX_UNAVAILABLE


# Bridges without a unit


@contextmanager
def bridge(machine: Machine) -> Iterator[tuple[Peer, Bridge]]:
    """A real bridge, whose status file we write: root's is elsewhere."""
    with (
        Bridge(["sh", "-c", "cat; exit 3"], "--stop-grace=0") as running,
        Peer(running.socket) as peer,
    ):
        assert peer.open().status == 101
        until(lambda: applications(running.pid), "its application")
        (application,) = applications(running.pid)
        machine.tell(1, pid=running.pid, application_pid=application)
        yield peer, running


def applications(pid: int) -> list[int]:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in words]


@pytest.mark.parametrize("verb", ["close", "kill"])
def test_a_bridge_without_a_unit(
    tmp_path: Path, verb: str, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    host = machine.host._replace(proc="/proc")
    with bridge(machine) as (peer, running):
        (one,) = sources.gather(host).sessions
        assert one.usage.tasks is not None
        assert one.usage.tasks >= 2
        assert ctl(host, verb, identity(1)[:10]).text == f"{identity(1)}\n"
        assert peer.receive() == Closed(1001, "drain")
        peer.close()
        said = running.finish()[1]
        assert (b'"CHIMIRROR_EXIT":"signal KILL"' in said) == (verb == "kill")
    assert capfd.readouterr().err == ""


def test_a_bridge_that_does_not_turn(tmp_path: Path) -> None:
    """It cannot say anything, and goes all the same."""
    machine = Machine(tmp_path)
    host = machine.host._replace(proc="/proc")
    with bridge(machine) as (peer, running):
        (application,) = applications(running.pid)
        running.process.send_signal(signal.SIGSTOP)
        looks = iter(range(int(ending.PATIENCE / ending.LOOK)))

        def pause(_: float) -> None:
            if next(looks, None) is None:  # by now it is being killed
                ended(running.pid, PATIENCE)

        kill(host, identity(1), pause=pause)
        assert vanished(peer)
        until(lambda: name_of(application) == "", "the end of its application")
        running.finish()


def test_one_that_ends_by_itself_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    machine.tell(1, pid=999_999_999)
    machine.process(999_999_999)
    ctl(machine.host, "close", identity(1))
    assert f"{identity(1)} has ended by itself" in capfd.readouterr().err


# Units


# The first ends when it is told to, the second only by force, the third not even so.
ENDING = """\
case "$*" in *=USR1*) rm -f "$UNITS"/invocation:chimirror@1-* ;; esac
case "$*" in *=KILL*) rm -f "$UNITS"/invocation:chimirror@2-* ;; esac
[ -z "$SAID" ] || { echo "$SAID" >&2; exit 1; }
"""


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with three of them, and a systemctl."""
    machine = Machine(tmp_path)
    machine.program("systemctl", ENDING)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("UNITS", f"{tmp_path}/run/systemd/units")
    monkeypatch.setenv("SAID", "")
    return machine


def calls(machine: Machine) -> list[str]:
    return (machine.directory / "systemctl.log").read_text().splitlines()


def kill(host: Host, *ids: str, pause: Callable[[float], None] = lambda _: None) -> str:
    """As the program does, but without patience."""
    screen = Screen()
    given = usage.parse(["kill", *ids])
    assert ending.kill(given, host, screen, pause) == os.EX_OK
    return screen.text


def test_units_are_told_by_their_names(
    units: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = units.unit(1), units.unit(2)
    units.tell(2, pid=os.getpid())  # what a file says is no way to end anything
    ctl(units.host, "close", "00000002")
    assert kill(units.host, "00000001", "00000002", "00000001") == (
        f"{identity(1)}\n{identity(2)}\n"
    )
    assert calls(units) == [
        f"stop --no-block -- {two}",
        f"kill --kill-whom=main --signal=USR1 -- {one} {two}",
        f"kill --kill-whom=all --signal=KILL -- {two}",
    ]
    assert capfd.readouterr().err == (
        f"chimirror-ctl: {identity(2)} did not end at once, "
        "and was killed with its bridge\n"
    )


def test_a_unit_that_ends_before_it_is_told(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID", "Failed to kill unit: Unit not loaded.")
    units.unit(1)
    kill(units.host, "00000001")
    assert len(calls(units)) == 1


def test_a_unit_that_cannot_be_killed(units: Machine) -> None:
    three = units.unit(3)
    with pytest.raises(Failure, match=f"cannot be killed: {three}") as caught:
        kill(units.host, "00000003")
    assert caught.value.status == os.EX_UNAVAILABLE


def test_units_of_somebody_else(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID", "Failed to kill unit: Access denied")
    units.unit(2)
    with pytest.raises(Failure, match="Access denied") as caught:
        kill(units.host, "00000002")
    assert caught.value.status == os.EX_NOPERM


def test_more_units_than_fit_on_a_line(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one part fails, the others are told all the same."""
    monkeypatch.setenv("SAID", "Unit not loaded.")
    monkeypatch.setattr(systemd, "MOST", 2)
    with pytest.raises(Failure, match="not loaded"):
        systemd.on_units(("stop",), ["a", "b", "c"])
    assert calls(units) == ["stop -- a b", "stop -- c"]


# The program


def program(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "chimirror.ctl.main", *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_and_version() -> None:
    assert program("--help").stdout.startswith("Look after the sessions")
    assert program("--version").stdout.startswith("chimirror-ctl 0")


def test_a_failure_is_one_line_and_a_status() -> None:
    done = program("show", "no-id")
    assert (done.returncode, done.stdout) == (os.EX_USAGE, "")
    assert done.stderr == "chimirror-ctl: no-id is not the beginning of an ID\n"


def test_nobody_reads() -> None:
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
    """The fields that these tests write are those that sessions are told by."""
    from chimirror import report
    from stage import Stage

    with Stage() as stage:
        stage.open()
        told = report.describe(stage.service, stage.session)
    assert set(told) == set(status(1))
