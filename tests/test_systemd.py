"""The files of systemd/: what they say agrees with each other and with the programs.

What only a running systemd can tell is in test_units_live.py and its neighbours.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from chimirror import options
from chimirror.system import records, runtime, users
from chimirror.units import user_range

DIRECTORY = Path(__file__).parent.parent / "systemd"
SERVICES = sorted(DIRECTORY.glob("*.service"))
SOCKETS = sorted(DIRECTORY.glob("*.socket"))
EXPOSURE = 1.5  # the most that `systemd-analyze security` may find

Settings = dict[str, list[str]]


def settings(name: str) -> Settings:
    """Every assignment of a unit, in order; continued lines are one."""
    text = (DIRECTORY / name).read_text().replace("\\\n", " ")
    found: Settings = {}
    for line in text.splitlines():
        if "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(name: str) -> float:
    (text,) = settings(name)["TimeoutStopSec"]
    return float(text)


def names(file: Path) -> str:
    return file.name


@pytest.mark.parametrize("service", SERVICES, ids=names)
def test_what_every_service_needs(service: Path) -> None:
    found = settings(service.name)
    assert found["KillMode"] == ["mixed"]
    assert found["OOMPolicy"] == ["continue"]
    assert found["Slice"] == ["chimirror.slice"]
    assert "MemoryDenyWriteExecute" not in found  # Node makes code as it runs


@pytest.mark.parametrize("service", SERVICES, ids=names)
def test_exposure(service: Path) -> None:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", service],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found
    assert float(found[1]) <= EXPOSURE, said


@pytest.mark.parametrize("socket", SOCKETS, ids=names)
def test_what_every_socket_needs(socket: Path) -> None:
    assert settings(socket.name)["TriggerLimitIntervalSec"] == ["0"]


def test_stopping_takes_less_than_systemd_waits() -> None:
    config = options.server(["cat"])
    graces = config.linger_timeout + config.stop_grace + config.kill_grace
    assert seconds("chimirror@.service") > 2 * graces
    assert seconds("chimirror-zygote.service") > 2 * config.kill_grace
    assert seconds("chimirror-server.service") > config.drain_timeout + 2 * graces


def test_the_traps_of_accept() -> None:
    socket, service = settings("chimirror.socket"), settings("chimirror@.service")
    assert socket["Accept"] == ["yes"]
    assert socket["ListenStream"] == [options.DEFAULT_LISTEN]
    assert service["CollectMode"] == ["inactive-or-failed"]
    assert service["Type"] == ["exec"]
    assert "Restart" not in service
    (most,) = socket["MaxConnections"]
    assert socket["MaxConnectionsPerSource"] == [most]
    variables = dict(text.strip('"').split("=", 1) for text in service["Environment"])
    assert int(variables["CHIMIRROR_MAX_SESSIONS"]) * 1.1 < int(most)


def test_there_are_users_enough() -> None:
    (command,) = settings("chimirror@.service")["ExecStart"]
    first, last = user_range(command.split("--user-range ")[1].split()[0])
    (most,) = settings("chimirror.socket")["MaxConnections"]
    assert last - first + 1 > 3 * int(most)  # and each rests before its next use


def test_directories() -> None:
    made = (DIRECTORY / "chimirror.tmpfiles").read_text()
    (written,) = settings("chimirror@.service")["ReadWritePaths"]
    for path in (users.TABLE, f"{runtime.SYSTEM}/{runtime.SESSIONS}"):
        assert f" {path} " in made
        assert f"-{path}" in written.split()
    servers = f"{runtime.SYSTEM}/{runtime.SERVERS}"
    assert f" {servers} " in made
    assert settings("chimirror-server.service")["ReadWritePaths"] == [f"-{servers}"]


def test_users_exist() -> None:
    made = (DIRECTORY / "chimirror.sysusers").read_text()
    for service in SERVICES:
        (user,) = settings(service.name)["User"]
        assert f"u {user} " in made


def test_catalog_explains_every_record() -> None:
    text = (DIRECTORY / "chimirror.catalog").read_text()
    identities = {
        value
        for value in vars(records).values()
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value)
    }
    assert set(re.findall(r"^-- ([0-9a-f]{32})$", text, re.M)) == identities
    written = (Path(records.__file__)).read_text()
    for field in re.findall(r"@(CHIMIRROR_\w+)@", text):
        assert f'("{field}",' in written
