"""The files of systemd/ agree with each other and with the programs.

Tests on a running systemd are in tests/systemd.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chimirror import bridge, zygote
from chimirror.bridge import users
from chimirror.config import options, parser
from chimirror.config.quantities import user_range
from chimirror.ctl import authorizer_check
from chimirror.host import runtime_dir
from chimirror.log import records
from chimirror.process import children
from chimirror.server import stop_guard, worker, zygote_manager

DIRECTORY = Path(__file__).parents[2] / "systemd"
SERVICES = sorted(DIRECTORY.glob("*.service"))
SOCKETS = sorted(DIRECTORY.glob("*.socket"))
EXPOSURE = 1.5  # highest exposure that `systemd-analyze security` may report

Settings = dict[str, list[str]]


def settings(name: str) -> Settings:
    """Return the assignments of a unit in order, with continued lines joined."""
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
def test_settings_of_every_service(service: Path) -> None:
    found = settings(service.name)
    assert found["KillMode"] == ["mixed"]
    assert found["OOMPolicy"] == ["continue"]
    assert found["Slice"] == ["chimirror.slice"]
    # The journal drops nothing. systemd 252 ignores a zero.
    assert found["LogRateLimitIntervalSec"] == ["1us"]
    assert "MemoryDenyWriteExecute" not in found  # Node compiles code while it runs


@pytest.mark.parametrize("service", SERVICES, ids=names)
def test_exposure(service: Path) -> None:
    report = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", service],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", report)
    assert found
    assert float(found[1]) <= EXPOSURE, report


@pytest.mark.parametrize("socket", SOCKETS, ids=names)
def test_settings_of_every_socket(socket: Path) -> None:
    assert settings(socket.name)["TriggerLimitIntervalSec"] == ["0"]


def test_stopping_takes_less_than_systemd_waits() -> None:
    config = parser.parse_server(["cat"])
    graces = config.stop_grace + config.kill_grace
    end = children.END_TIMEOUT
    assert seconds("chimirror@.service") > graces + 2 * bridge.STOP_MARGIN + end
    given_up = config.kill_grace + zygote.STOP_MARGIN
    assert seconds("chimirror-zygote.service") > given_up + end
    worker_killed = worker.STOP_MARGIN + worker.CLOSE_TIMEOUT + stop_guard.KILL_MARGIN
    last = config.drain_timeout + graces + worker_killed
    last += zygote_manager.STOP_TIMEOUT + end
    assert seconds("chimirror-server.service") > last


def test_settings_for_accept() -> None:
    socket, service = settings("chimirror.socket"), settings("chimirror@.service")
    assert socket["Accept"] == ["yes"]
    assert socket["ListenStream"] == [options.DEFAULT_LISTEN]
    assert service["CollectMode"] == ["inactive-or-failed"]
    assert service["Type"] == ["exec"]
    assert "Restart" not in service
    (limit,) = socket["MaxConnections"]
    assert socket["MaxConnectionsPerSource"] == [limit]
    variables = dict(text.strip('"').split("=", 1) for text in service["Environment"])
    assert int(variables["CHIMIRROR_MAX_SESSIONS"]) * 1.1 < int(limit)


def test_the_user_range_is_large_enough() -> None:
    (command,) = settings("chimirror@.service")["ExecStart"]
    first, last = user_range(command.split("--user-range ")[1].split()[0])
    (limit,) = settings("chimirror.socket")["MaxConnections"]
    assert last - first + 1 > 3 * int(limit)  # and each user rests before its next use


def test_directories() -> None:
    text = (DIRECTORY / "chimirror.tmpfiles").read_text()
    (written,) = settings("chimirror@.service")["BindPaths"]
    for path in (users.TABLE, f"{runtime_dir.SYSTEM}/{runtime_dir.SESSIONS}"):
        assert f" {path} " in text
        assert f"-{path}" in written.split()
    servers = f"{runtime_dir.SYSTEM}/{runtime_dir.SERVERS}"
    assert f" {servers} " in text
    assert settings("chimirror-server.service")["BindPaths"] == [f"-{servers}"]


def test_the_socket_of_the_authorizer() -> None:
    """The other services see it, and their users or groups may connect."""
    found = settings("chimirror-authorize.socket")
    assert found["ListenStream"] == [authorizer_check.SOCKET]
    for name in ("chimirror-server.service", "chimirror@.service"):
        (paths,) = settings(name)["BindReadOnlyPaths"]
        assert f"-{authorizer_check.SOCKET}" in paths.split()
    assert found["SocketUser"] == settings("chimirror-server.service")["User"]
    assert found["SocketGroup"] == settings("chimirror@.service")["User"]
    assert found["SocketMode"] == ["0660"]


def test_users_exist() -> None:
    text = (DIRECTORY / "chimirror.sysusers").read_text()
    for service in SERVICES:
        (user,) = settings(service.name)["User"]
        assert f"u {user} " in text


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


def test_setup_runs_no_code_of_the_current_directory(tmp_path: Path) -> None:
    """Root may be anywhere, and its umask may be open."""
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/__init__.py").write_text("open('ran', 'w')")
    (tmp_path / "lib/python3/site-packages").mkdir(parents=True)
    functions = (DIRECTORY / "setup").read_text().partition("\ncase ")[0]
    link = f"prefix='{tmp_path}'; link_journal '{sys.executable}'"
    done = subprocess.run(
        ["sh", "-c", f"{functions}\n{link}; umask"],
        cwd=tmp_path,
        umask=0,
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.strip("0\n") == "22"
    assert not (tmp_path / "ran").exists()
