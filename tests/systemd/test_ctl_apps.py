"""Tests applications by name, and with their own units, under a real systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ctl_on_machine import await_open_sessions, ctl, ctl_failure, ctl_json
from machine_sessions import SERVER_PORT, serve_many, systemctl_show, wait_until_idle
from processes import until
from systemd_machine import PORT, Machine
from websocket_peer import Closed, Peer, upgrade

pytestmark = pytest.mark.timeout(300)

APPS = "/etc/chimirror/apps"
OWN_PORT = 30750
SAY = 'printf "%s\\n" "$0" "$@" "$SCRIPT_NAME"; exec cat'
ODD = ["a b", 'd"e', "f\\g", "$HOME", "%n", "'", "`x`"]


@pytest.fixture
def named(machine: Machine) -> Machine:
    """The machine, configured to serve applications by name."""
    machine.write("/etc/chimirror/chimirror.conf", f"CHIMIRROR_COMMAND=--apps {APPS}\n")
    return machine


@pytest.fixture
def owned(machine: Machine) -> Iterator[Machine]:
    yield machine
    machine.run("chimirror-ctl", "remove", "game")


def opened(machine: Machine, stack: ExitStack, target: str, port: int = PORT) -> Peer:
    peer = stack.enter_context(Peer(machine.connect(port)))
    assert peer.open(target, framing="lines").status == 101
    return peer


def heard(peer: Peer, count: int) -> list[str]:
    lines = []
    for _ in range(count):
        got = peer.receive()
        assert isinstance(got, bytes)
        lines.append(got.decode())
    return lines


def test_applications_by_name(named: Machine) -> None:
    for name in ("one", "two"):
        said = ctl(
            named, "add", name, "--set", "framing=lines", "--", "sh", "-c", SAY, name
        )
        assert f"{APPS}/{name}.toml: written\n" == said
    named.write(f"{APPS}/bad.toml", 'command = ["cat"]\n\nframing = "xml"\n')
    serve_many_by_name(named)
    with ExitStack() as stack:
        for port in (PORT, SERVER_PORT):
            for name in ("one", "two"):
                peer = opened(named, stack, f"/{name}/x", port)
                assert heard(peer, 2) == [name, f"/{name}"]
            with Peer(named.connect(port)) as peer:
                peer.send_raw(upgrade("/bad", "lines", ()))
                assert peer.refusal().status == 500
        seen = sorted(one["application"] for one in await_open_sessions(named, 4))
        assert seen == ["one", "one", "two", "two"]
    wait_until_idle(named)
    for entry in named.journal(CHIMIRROR_CAUSE="application-file"):
        assert entry["CHIMIRROR_DETAIL"].startswith(
            'bad.toml:3: "xml" is not a framing'
        )
    assert {one["application"] for one in ctl_json(named, "history")} >= {"one", "two"}
    status, said = ctl_failure(named, "check")
    assert status == os.EX_CONFIG
    assert f'{APPS}/bad.toml:3: "xml" is not a framing; write' in said
    assert ctl(named, "remove", "bad").startswith(f"{APPS}/bad.toml: removed")
    assert "application bad" not in ctl(named, "check")
    ctl(named, "remove", "one")
    with Peer(named.connect()) as peer:
        peer.send_raw(upgrade("/one", "lines", ()))
        assert peer.refusal().status == 404


def serve_many_by_name(machine: Machine) -> None:
    conf = machine.path("/etc/chimirror/chimirror.conf").read_text()
    serve_many(machine)
    machine.write("/etc/chimirror/chimirror.conf", conf)


def test_an_application_with_units_of_its_own(owned: Machine) -> None:
    machine = owned
    said = ctl(
        machine,
        *("add", "game", "--own-socket", f"127.0.0.1:{OWN_PORT}"),
        *("--set", "framing=lines", "--set", "env.LEVEL=3 4", "--"),
        *("/bin/sh", "-c", f'echo "$LEVEL"; {SAY}', *ODD),
    )
    assert said.splitlines()[-1] == "now: systemctl enable --now chimirror-game.socket"
    machine.do("systemctl", "enable", "--now", "chimirror-game.socket")
    with ExitStack() as stack:
        peer = opened(machine, stack, "/any/path", OWN_PORT)
        assert heard(peer, len(ODD) + 2) == ["3 4", *ODD, ""]
        (one,) = await_open_sessions(machine, 1)
        assert one["application"] == "game"
        assert one["unit"].startswith("chimirror-game@")
        assert systemctl_show(machine, one["unit"], "Slice") == "chimirror-game.slice"
        assert (
            systemctl_show(machine, "chimirror-game.slice", "Slice")
            == "chimirror.slice"
        )
        assert "chimirror-game.socket has its sessions" in ctl(machine, "check")
        # The shipped units go on beside it, with their own applications.
        other = stack.enter_context(Peer(machine.connect()))
        assert other.open("/").status == 101
        said = ctl(machine, "remove", "game")
        assert said.startswith("chimirror-game.socket, chimirror-game@.service")
        assert peer.receive() == Closed(1001, "closed by operator")
        other.send_close()
        assert isinstance(other.transcript().closed, Closed)
    left = [str(path) for path in machine.path("/etc/systemd/system").glob("**/*game*")]
    assert left == []
    assert machine.state("chimirror-game.socket") == "inactive"
    with pytest.raises(ConnectionRefusedError):
        machine.connect(OWN_PORT)


def limits(machine: Machine) -> dict[str, tuple[object, str]]:
    rows = ctl_json(machine, "limits", "--application", "game")
    return {one["limit"]: (one["value"], one["set"]) for one in rows}


def test_limits_of_an_application_with_units_of_its_own(owned: Machine) -> None:
    """Limits and drain affect this application only, and are removed with it."""
    machine = owned
    address = f"127.0.0.1:{OWN_PORT}"
    ctl(machine, "add", "game", "--own-socket", address, "--", "/usr/bin/cat")
    machine.do("systemctl", "enable", "--now", "chimirror-game.socket")
    before = ctl_json(machine, "limits")
    of = ("--application", "game")
    ctl(machine, "limit", *of, *"--sessions 1 --tasks-max 64 --cpu-quota 50%".split())
    ctl(machine, "limit", *of, "--runtime", "--session-tasks-max", "8")
    held = limits(machine)
    assert held["sessions"] == (1, "persistent")
    assert held["connections"] == (65, "persistent")
    assert held["tasks-max"] == (64, "persistent")
    assert held["cpu-quota"] == (0.5, "persistent")
    assert held["session-tasks-max"] == (8, "runtime")
    assert [one["value"] for one in ctl_json(machine, "limits")] == [
        one["value"] for one in before
    ]
    with ExitStack() as stack:
        peer = stack.enter_context(Peer(machine.connect(OWN_PORT)))
        assert peer.open("/").status == 101
        (one,) = await_open_sessions(machine, 1)
        assert systemctl_show(machine, one["unit"], "TasksMax") == "8"
        late = stack.enter_context(Peer(machine.connect(OWN_PORT)))
        assert late.open("/").status == 503
        group = machine.slice() / "chimirror-game.slice"
        assert group.is_dir()
        assert systemctl_show(machine, "chimirror-game.slice", "TasksMax") == "64"
        for _ in range(2):
            other = stack.enter_context(Peer(machine.connect()))
            assert other.open("/").status == 101
        ctl(machine, "drain")
        until(lambda: machine.state("chimirror-game.socket") == "inactive", "drained")
        ctl(machine, "limit", *of, *"--sessions default --tasks-max default".split())
        assert limits(machine)["sessions"] == (1000, "unit")
        status, said = ctl_failure(
            machine, "limit", "--application", "no", "--sessions=1"
        )
        assert (status, "has units of its own" in said) == (os.EX_NOINPUT, True)
        ctl(machine, "remove", "game")
        assert peer.receive() == Closed(1001, "closed by operator")
    for top in ("/etc", "/run"):
        found = machine.path(f"{top}/systemd/system").glob("**/*game*")
        assert [str(path) for path in found] == []
