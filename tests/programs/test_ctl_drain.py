"""Tests drain and undrain of chimirror-ctl, with a real server and a fake systemctl.

The same with real units is in tests/systemd/test_ctl.py.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.ctl import drained_units, unit_names
from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError
from chimirror.ctl.paths import HostPaths
from ctl_process import connected, host, service
from fake_host import Machine, Screen, ctl
from processes import until
from serve import Service
from websocket_peer import Closed, Peer, upgrade

__all__ = ["host", "service"]

# A server


def echo(peer: Peer) -> None:
    peer.send([1])
    assert peer.output(4) == b"[1]\n"


def refusal(service: Service) -> tuple[int, str, bool]:
    """Return status, text and whether there is a Retry-After."""
    with Peer(service.connect()) as peer:
        peer.send_raw(upgrade("/", "json", ()))
        reply = peer.refusal()
        return reply.status, reply.body.decode(), "retry-after" in reply.fields


def statuses(service: Service) -> set[int]:
    """Return the responses of both workers, which accept in any order."""
    found = set()
    for _ in range(20):
        with Peer(service.connect()) as peer:
            found.add(peer.open().status)
    return found


def checks(service: Service) -> list[int]:
    """Return the responses to a browser and to health checks of load balancers."""
    found = []
    for head in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"OPTIONS / HTTP/1.0\r\n\r\n",
    ):
        with Peer(service.connect()) as peer:
            peer.send_raw(head)
            found.append(peer.refusal().status)
    return found


def test_a_server_rejects_and_admits_again(service: Service, host: HostPaths) -> None:
    with connected(service) as one:
        assert ctl(host, "drain").text == "sessions left: 1\n"
        assert ctl(host, "drain").text == "sessions left: 1\n"
        assert refusal(service) == (
            503,
            "this service is going down; try again later\n",
            True,
        )
        assert statuses(service) == {503}
        assert checks(service) == [503, 503, 503]
        echo(one)
        accepts = f"accepts sessions: server {service.pid}\n"
        assert ctl(host, "undrain").text == accepts
        assert statuses(service) == {101}
        assert checks(service) == [200, 200, 204]
        assert ctl(host, "undrain").text == accepts
        echo(one)
    log = service.log.read_text()
    assert log.count("no new sessions until chimirror-ctl undrain") == 1
    assert log.count("new sessions again") == 1


def test_a_new_worker_rejects_too(service: Service, host: HostPaths) -> None:
    ctl(host, "drain")
    before = set(service.workers())
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        now = set(service.workers())
        return len(now) == 2 and not now & before

    until(replaced, "new workers")
    assert statuses(service) == {503}
    until(lambda: ctl(host, "undrain").text, "a worker that can be asked")
    assert statuses(service) == {101}


def test_drain_now_closes_them(service: Service, host: HostPaths) -> None:
    with connected(service) as one, connected(service) as other:
        ctl(host, "drain", "--now")
        assert one.receive() == other.receive() == Closed(1001, "drain")
    ctl(host, "undrain")
    with connected(service) as again:
        echo(again)


def test_a_server_that_stops_admits_none(
    service: Service, host: HostPaths, capfd: pytest.CaptureFixture[str]
) -> None:
    with connected(service) as one:
        ctl(host, "drain")
        service.process.terminate()
        until(service.refuses, "it stops")
        assert ctl(host, "undrain").text == ""
        echo(one)
    text = f"server {service.pid} is stopping; start another one"
    assert text in capfd.readouterr().err


def test_servers_that_cannot_be_asked(
    service: Service, host: HostPaths, capfd: pytest.CaptureFixture[str]
) -> None:
    """An older one has no such method, and another one does not answer."""
    place = Path(host.runtime_dirs[0]) / "servers"
    with answering(place / "1" / "0", OLD), answering(place / "2" / "0", b"oops\n"):
        screen = Screen()
        assert run(["drain"], host, screen) == os.EX_TEMPFAIL
        assert statuses(service) == {503}
    said = capfd.readouterr().err
    assert "server 1 has to be stopped instead: worker 0 of server 1: " in said
    assert "no method 'drain'" in said
    assert "worker 0 of server 2: unreadable response: " in said
    assert ctl(host, "undrain").text


OLD = b"""\
{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no method 'drain'"}}
"""


@contextmanager
def answering(path: Path, line: bytes) -> Iterator[None]:
    """Answer all requests at a control socket with the same line."""
    path.parent.mkdir()

    def serve() -> None:
        for reply in (line, b"oops\n"):  # to drain and to sessions
            with listener.accept()[0] as one:
                one.recv(4096)
                one.sendall(reply)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()
    path.unlink()
    path.parent.rmdir()


def test_nothing_to_drain(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "run" / "systemd" / "system").rmdir()
    for verb, text in (
        ("drain", "no server and no socket unit runs here"),
        ("undrain", "nothing is drained here"),
    ):
        with pytest.raises(CommandError, match=text) as caught:
            run([verb], machine.host, Screen())
        assert caught.value.status == os.EX_UNAVAILABLE


# Socket units

SYSTEMCTL = """\
case "$1" in
show)
    for unit in $LOADED; do
        echo "Id=$unit"; echo LoadState=loaded; echo ActiveState=active
        echo "ActiveEnterTimestampMonotonic=$STARTED"; echo
    done
    for unit in $IDLE; do
        echo "Id=$unit"; echo LoadState=loaded; echo ActiveState=inactive
        echo "ActiveEnterTimestampMonotonic=$STARTED"; echo
    done ;;
start) [ -z "$SAID" ] || { echo "$SAID" >&2; exit 1; } ;;
esac
"""
GAME = "chimirror-game.socket"


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Host paths of a machine with sockets, and a fake systemctl."""
    machine = Machine(tmp_path)
    machine.program("systemctl", SYSTEMCTL)
    machine.write(f"etc/systemd/system/{GAME}", unit_names.MARK)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("LOADED", f"chimirror.socket {GAME}")
    monkeypatch.setenv("IDLE", "chimirror-server.socket")
    monkeypatch.setenv("SAID", "")
    monkeypatch.setenv("STARTED", "4711")
    return machine


def calls(machine: Machine) -> list[str]:
    lines = (machine.directory / "systemctl.log").read_text().splitlines()
    return [line for line in lines if not line.startswith("show")]


def test_sockets_that_were_active_are_started_again(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ctl(units.host, "drain").text == "sessions left: 0\n"
    monkeypatch.setenv("LOADED", "")
    monkeypatch.setenv("IDLE", f"chimirror.socket chimirror-server.socket {GAME}")
    assert ctl(units.host, "drain").text == "sessions left: 0\n"
    assert ctl(units.host, "undrain").text == (
        f"accepts sessions: chimirror.socket\naccepts sessions: {GAME}\n"
    )
    assert calls(units) == [
        f"stop --no-block -- chimirror.socket {GAME}",
        f"start -- chimirror.socket {GAME}",
    ]
    with pytest.raises(CommandError, match="nothing is drained here"):
        ctl(units.host, "undrain")


def test_a_second_drain_forgets_no_socket(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctl(units.host, "drain")
    monkeypatch.setenv("LOADED", "chimirror-server.socket")
    ctl(units.host, "drain")
    machine = units.directory / "etc/systemd/system" / GAME
    machine.unlink()  # `remove` has deleted this application meanwhile
    ctl(units.host, "undrain")
    assert calls(units)[-1] == "start -- chimirror.socket chimirror-server.socket"


def test_a_socket_that_does_not_start_can_be_tried_again(
    units: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctl(units.host, "drain")
    monkeypatch.setenv("SAID", "Job for chimirror.socket failed.")
    with pytest.raises(CommandError, match=r"Job for .* failed"):
        ctl(units.host, "undrain")
    monkeypatch.setenv("SAID", "")
    assert ctl(units.host, "undrain").text.count("accepts sessions") == 2


@pytest.mark.parametrize(("started", "drained"), [("4712", False), ("0", True)])
def test_a_socket_that_was_started_by_hand_is_not_drained(
    units: Machine, monkeypatch: pytest.MonkeyPatch, started: str, drained: bool
) -> None:
    """Also if an operator stopped that socket again. systemd may forget the time."""
    ctl(units.host, "drain")
    monkeypatch.setenv("LOADED", "")
    monkeypatch.setenv("IDLE", f"chimirror.socket chimirror-server.socket {GAME}")
    monkeypatch.setenv("STARTED", started)
    assert drained_units.names(units.host) == (
        ["chimirror.socket", GAME] if drained else []
    )
    if not drained:
        with pytest.raises(CommandError, match="nothing is drained here"):
            ctl(units.host, "undrain")


def test_other_names_in_the_file_are_ignored(units: Machine) -> None:
    units.write("run/chimirror/drained", "sshd.service 1\nchimirror.socket 4711\n")
    assert ctl(units.host, "undrain").text == "accepts sessions: chimirror.socket\n"
