"""agent: the line for HAProxy, from the properties of units.

tests/systemd/test_agent.py asks a real systemd.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror.ctl import unit_load, unit_names
from chimirror.ctl.messages import CommandError
from fake_host import Machine, ctl

# The output of `systemctl show` of systemd 252. Tests change the variables.
SHOW = """\
echo Id=$NAME.socket; echo ActiveState=$SOCKET
echo ActiveEnterTimestampMonotonic=$STARTED
echo MaxConnections=1200; echo NConnections=$COUNT; echo
echo "Id=$NAME@chimirror-ctl.service"; echo ActiveState=inactive
echo Environment=CHIMIRROR_MAX_SESSIONS=$MAX; echo
echo Id=$NAME.slice; echo ActiveState=active
echo TasksCurrent=$TASKS; echo TasksMax=$TASKS_MAX
[ $NAME = chimirror ] || exit 0; echo
echo Id=chimirror-server.socket; echo ActiveState=$SERVER_SOCKET
echo ActiveEnterTimestampMonotonic=9; echo
echo Id=chimirror-server.service; echo ActiveState=$SERVER; echo StatusText=$STATUS
echo Environment=CHIMIRROR_MAX_SESSIONS=$SERVER_MAX
"""
IDLE = {
    "NAME": "chimirror",
    "SOCKET": "active",
    "STARTED": "7",
    "COUNT": "0",
    "MAX": "1000",
    "TASKS": "[not set]",
    "TASKS_MAX": "infinity",
    "SERVER_SOCKET": "inactive",
    "SERVER": "inactive",
    "STATUS": "",
    "SERVER_MAX": "off",
}
ONLY_SERVER = {"SOCKET": "inactive", "SERVER_SOCKET": "active", "SERVER": "active"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    found.program("systemctl", SHOW)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for name, value in IDLE.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "ready up 100%"),
        ({"COUNT": "270"}, "ready up 73%"),
        ({"COUNT": "999"}, "ready up 1%"),
        ({"COUNT": "1000"}, "ready up 0%"),
        ({"COUNT": "1100"}, "ready up 0%"),  # the bridges answer 503
        ({"MAX": "5000", "COUNT": "600"}, "ready up 50%"),  # MaxConnections is less
        ({"TASKS": "90", "TASKS_MAX": "100", "COUNT": "500"}, "ready up 10%"),
        ({"TASKS": "120", "TASKS_MAX": "100"}, "ready up 0%"),
        ({"TASKS": "90"}, "ready up 100%"),
        ({"SOCKET": "inactive"}, "stopped"),
        ({"SOCKET": "failed"}, "stopped"),
        (ONLY_SERVER, "ready up 100%"),
        (
            ONLY_SERVER | {"SERVER_MAX": "8", "STATUS": "2 live sessions"},
            "ready up 75%",
        ),
        (
            ONLY_SERVER | {"SERVER_MAX": "8", "STATUS": "draining: 1 live session"},
            "drain",
        ),
        (ONLY_SERVER | {"SERVER": "deactivating"}, "drain"),
        (ONLY_SERVER | {"SERVER": "inactive"}, "ready up 100%"),
        ({"COUNT": "1000", "SERVER": "active", "SERVER_MAX": "1000"}, "ready up 50%"),
        ({"COUNT": "1000", "SERVER": "active"}, "ready up 100%"),
        ({"SERVER": "active", "STATUS": "draining: 3 live sessions"}, "ready up 100%"),
    ],
)
def test_lines(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    line: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert ctl(machine.host, "agent").text == f"{line}\n"


@pytest.mark.parametrize(
    ("recorded", "line"),
    [
        ("chimirror.socket 7\n", "drain"),
        ("chimirror.socket\n", "drain"),  # by an older version
        ("chimirror.socket 6\n", "stopped"),  # it was started since, and stopped
        ("chimirror-server.socket 9\n", "drain"),
        ("chimirror-other.socket 7\n", "stopped"),
    ],
)
def test_drained_sockets(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, recorded: str, line: str
) -> None:
    monkeypatch.setenv("SOCKET", "inactive")
    machine.write("run/chimirror/drained", recorded)
    assert ctl(machine.host, "agent").text == f"{line}\n"


def test_an_application_with_units_of_its_own(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write("etc/systemd/system/chimirror-game.socket", unit_names.MARK)
    monkeypatch.setenv("NAME", "chimirror-game")
    monkeypatch.setenv("COUNT", "250")
    assert (
        ctl(machine.host, *"agent --application game".split()).text == "ready up 75%\n"
    )
    with pytest.raises(CommandError, match="no application chess has units of its own"):
        unit_load.agent_answer(machine.host, "chess")


def test_without_systemd(machine: Machine) -> None:
    with pytest.raises(CommandError, match="systemd is not running here"):
        unit_load.agent_answer(machine.host._replace(run="/nowhere"), None)
