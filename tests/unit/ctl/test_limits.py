"""limit and limits: the drop-ins that are written, and the values that are read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chimirror.ctl import systemd, unit_names
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.ctl.commands import set_limits, show_limits
from chimirror.ctl.messages import CommandError
from chimirror.ctl.paths import SLICE
from fake_host import Machine, Screen, ctl
from processes import let_others_in

ROOT = Path(__file__).parents[3]
# The output of `systemctl show` of systemd 252.
SHOW = """\
case "$*" in
    *'-- chimirror.slice')
        echo Id=chimirror.slice; echo LoadState=loaded; echo MemoryMax=4294967296
        echo TasksMax=infinity; echo CPUQuotaPerSecUSec=1.500000s
        echo "DropInPaths=$ETC/chimirror.slice.d/50-ctl.conf" ;;
    *'chimirror@chimirror-ctl.service'*NConn* | *'-- chimirror@chimirror-ctl.service')
        echo Id=chimirror@chimirror-ctl.service; echo LoadState=$STATE
        echo MemoryMax=536870912; echo TasksMax=256
        echo Environment=A=1 CHIMIRROR_MAX_SESSIONS=1000
        echo "EnvironmentFiles=$ETC/conf (ignore_errors=yes)"
        echo "EnvironmentFiles=$ETC/none (ignore_errors=yes)" ;;
    *'-- chimirror-server.service')
        echo Id=chimirror-server.service; echo ActiveState=$SERVER; echo MainPID=$PID
        echo Environment=CHIMIRROR_MAX_SESSIONS=off CHIMIRROR_SESSION_TIMEOUT=1min
        echo "EnvironmentFiles=$ETC/server (ignore_errors=yes)" ;;
    *'-- chimirror.socket')
        echo Id=chimirror.socket; echo LoadState=loaded; echo MaxConnections=1200
        echo MaxConnectionsPerSource=0; echo NConnections=1 ;;
    *'-- chimirror-a-game.slice')
        echo Id=chimirror-a-game.slice; echo LoadState=loaded; echo MemoryMax=infinity
        echo TasksMax=64; echo CPUQuotaPerSecUSec=infinity ;;
    *'-- chimirror-a-game@chimirror-ctl.service')
        echo Id=chimirror-a-game@chimirror-ctl.service; echo LoadState=loaded
        echo MemoryMax=536870912; echo TasksMax=256
        echo Environment=CHIMIRROR_MAX_SESSIONS=3 CHIMIRROR_SESSION_TIMEOUT=off ;;
    *'-- chimirror-a-game.socket')
        echo Id=chimirror-a-game.socket; echo LoadState=loaded
        echo MaxConnections=67; echo MaxConnectionsPerSource=2 ;;
    show*)
        echo Id=chimirror@chimirror-ctl.service; echo LoadState=$STATE; echo
        echo Id=chimirror.socket; echo LoadState=loaded ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    found.program("systemctl", SHOW)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("ETC", f"{tmp_path}/etc")
    monkeypatch.setenv("STATE", "loaded")
    monkeypatch.setenv("SERVER", "inactive")
    monkeypatch.setenv("PID", "0")
    return found


def files(machine: Machine) -> dict[str, list[str]]:
    """Return the lines of each drop-in without the first."""
    found = {}
    for top in ("etc", "run"):
        base = machine.directory / top / "systemd" / "system"
        for file in sorted(base.glob("*/*")):
            name = str(file.relative_to(base.parent.parent.parent))
            head, *lines = file.read_text().splitlines()
            assert head == "# Written by chimirror-ctl(1), limit."
            found[name.replace("systemd/system/", "")] = lines
    return found


def calls(machine: Machine) -> list[str]:
    return (machine.directory / "systemctl.log").read_text().splitlines()


def test_all_limits(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVER", "active")
    screen = ctl(
        machine.host,
        *"limit --memory-max 4G --tasks-max 5000 --cpu-quota 150%".split(),
        *"--session-memory-max 64M --session-tasks-max off".split(),
        *("--session-timeout", "1h 30min", "--sessions", "2000"),
        *("--sessions-per-source", "off"),
        *("--sessions-per-user", "5"),
    )
    units = f"{machine.directory}/etc/systemd/system"
    assert files(machine) == {
        "etc/chimirror-server.service.d/50-ctl.conf": [
            "[Service]",
            f"EnvironmentFile={units}/chimirror-server.service.d/50-ctl.env",
        ],
        "etc/chimirror-server.service.d/50-ctl.env": [
            "CHIMIRROR_SESSION_TIMEOUT=1h 30min",
            "CHIMIRROR_MAX_SESSIONS=2000",
            "CHIMIRROR_MAX_SESSIONS_PER_SOURCE=off",
            "CHIMIRROR_MAX_SESSIONS_PER_USER=5",
        ],
        "etc/chimirror.slice.d/50-ctl.conf": [
            *("[Slice]", "MemoryMax=4G", "TasksMax=5000", "CPUQuota=150%"),
        ],
        "etc/chimirror.socket.d/50-ctl.conf": [
            *("[Socket]", "MaxConnections=2250", "MaxConnectionsPerSource=0"),
        ],
        "etc/chimirror@.service.d/50-ctl.conf": [
            *("[Service]", "MemoryMax=64M", "TasksMax=infinity"),
            f"EnvironmentFile={units}/chimirror@.service.d/50-ctl.env",
        ],
        "etc/chimirror@.service.d/50-ctl.env": [
            "CHIMIRROR_SESSION_TIMEOUT=1h 30min",
            "CHIMIRROR_MAX_SESSIONS=2000",
        ],
    }
    assert calls(machine)[-2] == "daemon-reload"
    assert "chimirror@.service: MemoryMax=64M\n" in screen.text
    assert len(screen.text.splitlines()) == 13
    assert "systemctl restart chimirror-server.service" in capfd.readouterr().err


def test_a_server_that_does_not_run_needs_no_restart(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    ctl(machine.host, "limit", "--sessions", "5")
    assert capfd.readouterr().err == ""


def test_later_limits_are_added(machine: Machine) -> None:
    ctl(machine.host, "limit", "--memory-max", "4G", "--sessions", "10")
    ctl(machine.host, "limit", "--memory-max", "off", "--tasks-max", "9")
    ctl(machine.host, "limit", "--session-timeout", "off")
    found = files(machine)
    assert found["etc/chimirror.slice.d/50-ctl.conf"] == [
        *("[Slice]", "MemoryMax=infinity", "TasksMax=9"),
    ]
    assert found["etc/chimirror@.service.d/50-ctl.env"] == [
        "CHIMIRROR_MAX_SESSIONS=10",
        "CHIMIRROR_SESSION_TIMEOUT=off",
    ]


def add_units(machine: Machine, name: str) -> None:
    machine.write(f"etc/systemd/system/chimirror-{name}.socket", unit_names.MARK)


def test_limits_of_an_application_with_units_of_its_own(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    add_units(machine, "a-game")
    of = "--application a-game".split()
    ctl(machine.host, *"limit --cpu-quota 50% --sessions 3".split(), *of)
    ctl(machine.host, *"limit --runtime --session-tasks-max 9".split(), *of)
    units = f"{machine.directory}/etc/systemd/system"
    assert files(machine) == {
        "etc/chimirror-a-game.slice.d/50-ctl.conf": ["[Slice]", "CPUQuota=50%"],
        "etc/chimirror-a-game.socket.d/50-ctl.conf": [
            *("[Socket]", "MaxConnections=67"),
        ],
        "etc/chimirror-a-game@.service.d/50-ctl.conf": [
            "[Service]",
            f"EnvironmentFile={units}/chimirror-a-game@.service.d/50-ctl.env",
        ],
        "etc/chimirror-a-game@.service.d/50-ctl.env": ["CHIMIRROR_MAX_SESSIONS=3"],
        "run/chimirror-a-game@.service.d/60-ctl.conf": ["[Service]", "TasksMax=9"],
    }
    assert calls(machine)[-1] == "daemon-reload"
    assert capfd.readouterr().err == ""  # the server is not concerned


def test_units_of_the_operator_are_kept(machine: Machine) -> None:
    add_units(machine, "a-game")
    machine.write("etc/systemd/system/chimirror-b.socket", "[Socket]\n")
    directory = Path(unit_names.directory(machine.host))
    (directory / "chimirror-c.socket").symlink_to("nowhere")
    for name in ("b", "c", "game", "../a-game", ""):
        for line in (["limit", "--sessions=5"], ["limits"]):
            with pytest.raises(CommandError, match="has units of its own") as caught:
                ctl(machine.host, *line, "--application", name)
            assert caught.value.status == os.EX_NOINPUT


def test_runtime_limits_override_persistent_ones_until_those_are_set(
    machine: Machine,
) -> None:
    ctl(machine.host, *"limit --memory-max 4G --sessions 10".split())
    ctl(machine.host, *"limit --runtime --memory-max 1G --sessions 5".split())
    found = files(machine)
    assert found["etc/chimirror.slice.d/50-ctl.conf"][1] == "MemoryMax=4G"
    assert found["run/chimirror.slice.d/60-ctl.conf"][1] == "MemoryMax=1G"
    assert found["run/chimirror@.service.d/60-ctl.env"] == ["CHIMIRROR_MAX_SESSIONS=5"]
    ctl(machine.host, *"limit --memory-max 2G --sessions 7".split())
    found = files(machine)
    assert found["etc/chimirror.slice.d/50-ctl.conf"][1] == "MemoryMax=2G"
    assert not [name for name in found if name.startswith("run/")]


def test_default_removes_a_limit(machine: Machine) -> None:
    ctl(machine.host, *"limit --memory-max 4G --tasks-max 9 --sessions 3".split())
    screen = ctl(machine.host, *"limit --memory-max default --sessions default".split())
    assert files(machine) == {
        "etc/chimirror.slice.d/50-ctl.conf": ["[Slice]", "TasksMax=9"],
    }
    assert "chimirror.slice: MemoryMax removed\n" in screen.text
    units = Path(unit_names.directory(machine.host))
    assert os.listdir(units) == ["chimirror.slice.d"]  # no empty directory


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--memory-max", "lots", "is not a size; write 512M, 2G or off"),
        ("--memory-max", "1G\nA=1", "is not a size"),
        ("--memory-max", "16M", "is too little for a session"),
        ("--session-memory-max", "0", "is too little for a session"),
        ("--tasks-max", "0", "is not a count"),
        ("--cpu-quota", "1.5", "is not a percentage; write 50%, 200% or off"),
        ("--cpu-quota", "0%", "is not a percentage"),
        ("--session-timeout", "long", "is not a time"),
        ("--sessions", "off", "is not a count"),
        ("--sessions-per-source", "-1", "is not a count"),
        ("--sessions-per-user", "-1", "is not a count"),
    ],
)
def test_invalid_values(
    machine: Machine, option: str, value: str, message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        ctl(machine.host, "limit", "--tasks-max=9", option, value)
    assert caught.value.status == os.EX_USAGE
    assert message in str(caught.value) or "given twice" in str(caught.value)
    assert not files(machine)


def test_nothing_to_set(machine: Machine) -> None:
    with pytest.raises(CommandError, match="nothing to set") as caught:
        ctl(machine.host, "limit", "--runtime")
    assert caught.value.status == os.EX_USAGE


def test_no_systemd(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "run" / "systemd" / "system").rmdir()
    for line in (["limit", "--sessions=5"], ["limits"]):
        with pytest.raises(CommandError, match="systemd is not running here") as caught:
            ctl(machine.host, *line)
        assert caught.value.status == os.EX_UNAVAILABLE


def test_no_systemctl(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandError, match="systemctl is not in PATH") as caught:
        ctl(machine.host, "limits")
    assert caught.value.status == os.EX_UNAVAILABLE


def test_missing_units(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE", "not-found")
    with pytest.raises(CommandError, match="service is not-found; chimirror-ctl check"):
        ctl(machine.host, "limit", "--sessions", "5")
    assert not files(machine)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Failed to reload daemon: Access denied", os.EX_NOPERM),
        ("Interactive authentication required.", os.EX_NOPERM),
        ("Failed to connect to bus: No such file", os.EX_UNAVAILABLE),
    ],
)
def test_systemctl_refuses(machine: Machine, message: str, status: int) -> None:
    machine.program("systemctl", f"echo '{message}' >&2; exit 1")
    with pytest.raises(CommandError, match=message.partition(":")[0]) as caught:
        ctl(machine.host, "limit", "--sessions", "5")
    assert caught.value.status == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_other_users_are_denied(machine: Machine) -> None:
    let_others_in(machine.directory)
    machine.directory.joinpath("systemctl.log").touch()
    machine.directory.joinpath("systemctl.log").chmod(0o666)
    os.seteuid(65534)
    try:
        with pytest.raises(
            CommandError, match="permission denied; set limits as root"
        ) as e:
            ctl(machine.host, "limit", "--sessions", "5")
    finally:
        os.seteuid(0)
    assert e.value.status == os.EX_NOPERM


def test_no_room_for_a_drop_in(machine: Machine) -> None:
    machine.write("etc/systemd/system", "a file, where a directory should be")
    with pytest.raises(CommandError, match=r"Not a directory|File exists") as caught:
        ctl(machine.host, "limit", "--sessions", "5")
    assert caught.value.status == os.EX_CANTCREAT


# limits


def test_limits_and_their_usage(machine: Machine) -> None:
    machine.group("chimirror.slice", 9)
    machine.unit(3)
    machine.tell(3)
    machine.write(
        "etc/chimirror.slice.d/50-ctl.conf", "[Slice]\nMemoryMax=4294967296\n"
    )
    machine.write("etc/conf", "CHIMIRROR_SESSION_TIMEOUT=1h\nCHIMIRROR_OPTIONS=\n")
    rows = {row[0]: row[1:4] for row in ctl(machine.host, "limits").rows()}
    age = rows.pop("session-timeout")
    assert float(age[1]) > 0
    assert (age[0], age[2]) == ("3600", "persistent")
    assert rows == {
        "server-sessions": ["-", "0", "unit"],
        "server-sessions-per-source": ["-", "0", "unit"],
        "server-sessions-per-user": ["-", "0", "unit"],
        "server-session-timeout": ["60", "-", "unit"],
        "memory-max": ["4294967296", "9000000", "persistent"],
        "tasks-max": ["-", "18", "unit"],
        "cpu-quota": ["1.5", "0", "unit"],
        "sessions": ["1000", "1", "unit"],
        "sessions-per-source": ["-", "1", "unit"],
        "connections": ["1200", "1", "unit"],
        "session-memory-max": ["536870912", "3000000", "unit"],
        "session-tasks-max": ["256", "6", "unit"],
    }
    shown = ctl(machine.host, "limits", width=140).text
    words = [line.split() for line in shown.splitlines()]
    assert words[1][:4] == ["memory-max", "4G", "8.6M", "persistent"]
    assert ["cpu-quota", "150%", "0%", "unit"] in [line[:4] for line in words]
    assert ["session-timeout", "1h"] in [line[:2] for line in words]
    narrow = ctl(machine.host, "limits", width=80).text
    assert narrow.split()[:4] == ["LIMIT", "VALUE", "USED", "SET"]
    assert "MEANING" in shown
    assert "MEANING" not in narrow
    assert "…" not in narrow
    assert ctl(machine.host, "limits", "--no-trunc", width=80).text == shown
    report = json.loads(ctl(machine.host, "limits", "--json").text)
    assert report[0] == {
        "limit": "memory-max",
        "value": 4294967296,
        "used": 9000000,
        "set": "persistent",
    }


def test_usage_of_the_limits_of_one_application(machine: Machine) -> None:
    add_units(machine, "a-game")
    group = "chimirror.slice/chimirror-a.slice/chimirror-a-game.slice"
    machine.group("chimirror.slice", 9)
    machine.group(group, 4)
    for number, name in ((3, "chimirror"), (4, "chimirror-a-game")):
        machine.unit(number, name)
        machine.tell(number)
    shown = ctl(machine.host, "limits", "--application", "a-game").rows()
    rows = {row[0]: row[1:3] for row in shown}
    assert float(rows.pop("session-timeout")[1]) > 0
    assert rows == {
        "memory-max": ["-", "4000000"],
        "tasks-max": ["64", "8"],
        "cpu-quota": ["-", "0"],
        "sessions": ["3", "1"],
        "sessions-per-source": ["2", "1"],
        "connections": ["67", "1"],
        "session-memory-max": ["536870912", "4000000"],
        "session-tasks-max": ["256", "8"],
    }
    shown = ctl(machine.host, "limits").rows()
    used = {row[0]: row[2] for row in shown}
    # the slice of all sessions, which holds the other slices
    assert used["memory-max"] == "9000000"
    assert (used["sessions"], used["session-memory-max"]) == ("1", "3000000")


SERVER_OPTIONS = (
    *("--max-sessions", "--max-sessions-per-source", "--max-sessions-per-user"),
    "--session-timeout",
)


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        # The limits at the start of the server, and the current ones.
        (("9", "4", "2", "off"), ["9", "4", "2", "-"]),
        (("7", "off", "off", "1min"), ["7", "-", "-", "60"]),
    ],
)
def test_limits_of_a_running_server(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    values: tuple[str, ...],
    rows: list[str],
) -> None:
    monkeypatch.setenv("PID", "77")
    given = [f"{o} {v}" for o, v in zip(SERVER_OPTIONS, values, strict=True)]
    machine.process(77, f"chimirror-server {' '.join(given)} -- cat")
    machine.write("etc/server", "CHIMIRROR_MAX_SESSIONS=7\n")
    shown = [row for row in ctl(machine.host, "limits").rows() if "server" in row[0]]
    assert [row[1] for row in shown] == rows
    held = ["outdated"] * 4 if rows[0] == "9" else ["persistent", *["unit"] * 3]
    assert [row[3] for row in shown] == held


def test_users_are_counted_by_the_server_alone(
    machine: Machine,
) -> None:
    words = "limit --application chess --sessions 3 --sessions-per-user 2".split()
    with pytest.raises(CommandError, match="write it without --application") as caught:
        ctl(machine.host, *words)
    assert caught.value.status == os.EX_USAGE
    assert files(machine) == {}


def test_every_limit_that_is_shown_can_be_set() -> None:
    shown = {
        ("server-" if target.unit == systemd.SERVER else "") + option[2:]
        for target in (*set_limits.targets(unit_names.units("")), set_limits.SERVER)
        for option in (*target.settings, *target.variables)
    }
    assert shown | {"connections"} == set(show_limits.MEANINGS)


def test_every_variable_is_given_to_the_program_by_its_unit() -> None:
    for target in (*set_limits.targets(unit_names.units("")), set_limits.SERVER):
        if not target.variables:
            continue
        text = (ROOT / "systemd" / target.unit).read_text()
        for variable, _ in target.variables.values():
            (option,) = (o for o, v in set_limits.OPTIONS.items() if v == variable)
            assert f" {option} ${{{variable}}} " in text
            assert f"\nEnvironment={variable}=" in text


def test_cpu_time_is_sampled(machine: Machine) -> None:
    machine.group("chimirror.slice", 1)
    paused = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        machine.group("chimirror.slice", 9)  # two seconds of CPU time later

    found = show_limits.measure_cpu(CgroupHierarchy(machine.host), SLICE, pause)
    assert found is not None
    assert found > 1
    assert paused == [show_limits.SAMPLE_TIME]


def test_cpu_time_that_is_not_counted(machine: Machine) -> None:
    assert (
        show_limits.measure_cpu(CgroupHierarchy(machine.host), SLICE, lambda _: None)
        is None
    )


def test_no_sessions(machine: Machine) -> None:
    screen = Screen()
    machine.group("chimirror.slice", 0)
    screen = ctl(machine.host, "limits")
    rows = {row[0]: row[2] for row in screen.rows()}
    assert (rows["sessions"], rows["session-memory-max"]) == ("0", "-")
    assert rows["memory-max"] == "0"
