"""Tests the sockets for metrics and agent of chimirror-server, under a real systemd."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack

import pytest

from machine_sessions import SERVER, SERVER_PORT, echo, open_session, serve_many
from processes import until
from systemd_machine import Machine

pytestmark = pytest.mark.timeout(300)

SOCKET = "chimirror-server.socket"
METRICS = "chimirror-server-metrics.socket"
AGENT = "chimirror-server-agent.socket"
METRICS_PORT, AGENT_PORT = 30757, 30758


@pytest.fixture
def server(machine: Machine) -> Machine:
    serve_many(machine)
    machine.do("systemctl", "start", METRICS, AGENT)
    return machine


def ask(machine: Machine, path: str) -> str:
    """Return the response to a request of HTTP/1.0."""
    with machine.connect(METRICS_PORT) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return connection.makefile("rb").read().decode()


def await_ready(machine: Machine) -> None:
    """Wait until a server answers that has started its workers."""
    until(lambda: ask(machine, "/ready").endswith("\r\n\r\nready\n"), "the server")


def agent(machine: Machine) -> str:
    with machine.connect(AGENT_PORT) as connection:
        return connection.makefile("rb").read().decode()


def states(machine: Machine) -> list[str]:
    return [machine.state(unit) for unit in (SOCKET, METRICS, AGENT, SERVER)]


def test_the_sockets_serve_no_sessions(server: Machine) -> None:
    assert states(server) == ["active", "active", "active", "inactive"]
    await_ready(server)
    with ExitStack() as stack:
        echo(open_session(server, stack, SERVER_PORT))
        open_one = 'chimirror_sessions{application="",state="open"} 1\n'
        assert open_one in ask(server, "/metrics")
        assert agent(server).startswith("ready up ")
        server.do("chimirror-ctl", "drain")
        assert "\r\n\r\ndraining\n" in ask(server, "/ready")
        assert agent(server) == "drain\n"
        server.do("chimirror-ctl", "undrain")
        assert agent(server).startswith("ready up ")
        echo(open_session(server, stack, SERVER_PORT))
    found = ask(server, "/metrics")
    assert 'chimirror_refusals_total{cause="' not in found


def test_a_check_knows_the_limit_that_a_server_chooses(server: Machine) -> None:
    """The sandbox hides /proc/sys, so that only LimitNPROC= tells a number."""
    server.drop_in(SERVER, "Service", "LimitNPROC=8000")
    server.drop_in(SOCKET, "Socket", "ListenStream=", "ListenStream=9000")
    await_ready(server)
    capacity = "chimirror_capacity_sessions"
    (told,) = re.findall(f"(?m)^{capacity} (.*)", ask(server, "/metrics"))
    findings = json.loads(server.run("chimirror-ctl", "check", "--json").stdout)
    about = f"capacity of {SERVER}"
    (bounds,) = [one["sessions"] for one in findings if one["about"] == about]
    assert bounds["processes"] == int(told) == 8000 - 512
    assert "ports" not in bounds  # it serves other hosts too


def test_they_stop_with_the_socket_of_sessions(server: Machine) -> None:
    """No scraper starts a server again that was stopped."""
    await_ready(server)
    server.do("systemctl", "stop", SOCKET)
    assert states(server) == ["inactive"] * 4
    with pytest.raises(ConnectionRefusedError):
        ask(server, "/ready")


def test_they_restart_with_the_socket_of_sessions(server: Machine) -> None:
    await_ready(server)
    server.do("systemctl", "restart", SOCKET)
    until(lambda: states(server)[:3] == ["active"] * 3, "the restart")
    await_ready(server)
    assert agent(server).startswith("ready up ")


def test_they_are_added_to_a_running_server(machine: Machine) -> None:
    """As the manual says."""
    serve_many(machine)
    with ExitStack() as stack:
        echo(open_session(machine, stack, SERVER_PORT))
    machine.do("systemctl", "enable", METRICS)
    try:
        machine.do("systemctl", "restart", SERVER, METRICS)
        assert states(machine) == ["active", "active", "inactive", "active"]
        await_ready(machine)
        machine.do("systemctl", "stop", SOCKET)
        machine.do("systemctl", "start", SOCKET)
        assert machine.state(METRICS) == "active"  # it is enabled
        await_ready(machine)
    finally:
        machine.do("systemctl", "disable", METRICS)


def test_an_option_and_a_socket(machine: Machine) -> None:
    serve_many(machine, "--metrics 127.0.0.1:0")
    machine.do("systemctl", "start", METRICS)
    with machine.connect(SERVER_PORT):
        until(lambda: "leave --metrics out" in log(machine), "the error")


def log(machine: Machine) -> str:
    return machine.do("journalctl", "--unit", SERVER)
