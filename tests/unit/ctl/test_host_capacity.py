"""The number of sessions that a host holds, and the resource that limits it first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chimirror.ctl import discovery, host_capacity
from chimirror.ctl.host_capacity import SERVER_OVERHEAD, SessionKind
from chimirror.ctl.main import run
from chimirror.ctl.session_info import SessionInfo
from chimirror.server import capacity
from fake_host import Machine, Screen

KIB, GIB = 1024, 1 << 30
MEMINFO = f"MemTotal: {16 * GIB // KIB} kB\nMemAvailable: {9 * GIB // KIB} kB\n"
LISTEN = "127.0.0.1:30747 (Stream)"
SMALLEST = host_capacity.SERVER_MEMORY


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(capacity, "cores", lambda: 2)
    return Machine(tmp_path)


def service(**changes: object) -> SessionKind:
    given = SessionKind(
        sessions=(),
        processes=1,
        files=25,
        memory=SMALLEST,
        overhead=SERVER_OVERHEAD,
        tasks=("infinity",),
        memory_max=("infinity", ""),
        descriptors=None,
        listens="",
    )
    return given._replace(**changes)  # type: ignore[arg-type]


def numbers(machine: Machine, **changes: object) -> dict[str, int]:
    found = host_capacity.bounds(machine.host, service(**changes))
    assert [one.sessions for one in found] == sorted(one.sessions for one in found)
    assert all(one.cause and one.advice for one in found)
    return {one.resource: one.sessions for one in found}


def test_a_machine_that_shows_nothing(machine: Machine) -> None:
    assert numbers(machine) == {}


def test_memory_with_the_smallest_application(machine: Machine) -> None:
    machine.write("proc/meminfo", MEMINFO)
    assert numbers(machine) == {"memory": 8 * GIB // SMALLEST}


@pytest.mark.parametrize(("most", "expected"), [(GIB, GIB), (9 * GIB, 8 * GIB)])
def test_memory_of_the_units(machine: Machine, most: int, expected: int) -> None:
    machine.write("proc/meminfo", MEMINFO)
    found = numbers(machine, memory_max=("infinity", str(most)))
    assert found == {"memory": expected // SMALLEST}


def test_the_largest_number_of_processes(machine: Machine) -> None:
    machine.write("proc/sys/kernel/pid_max", "4000000\n")
    (bound,) = host_capacity.bounds(machine.host, service())
    assert bound.advice == "sysctl kernel.pid_max=4194304"


def test_a_full_machine(machine: Machine) -> None:
    machine.write("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable: 900 kB\n")
    assert numbers(machine) == {"memory": 0}


def test_memory_as_the_live_sessions_take_it(machine: Machine) -> None:
    """Each has a process group of two processes, and shares memory with others."""
    machine.write("proc/meminfo", MEMINFO)
    for pid in (5001, 5002, 6001, 6002):
        machine.process(pid, "app", smaps_rollup="Rss: 9000 kB\nPss: 1000 kB\n")
    for pid, group in ((6001, 5001), (6002, 5002)):
        path = f"proc/{pid}/stat"
        text = (machine.directory / path).read_text()
        machine.write(path, text.replace(f"S 1 {pid} {pid}", f"S {group} {group} 1"))
    sessions = [SessionInfo("", 1, 0, application_pid=pid) for pid in (5001, 5002)]
    each = 2 * 1000 * KIB + SERVER_OVERHEAD
    live = numbers(machine, sessions=sessions)["memory"]
    assert live == (8 * GIB + 2 * each) // each


def test_memory_of_units_is_that_of_their_groups(machine: Machine) -> None:
    machine.write("proc/meminfo", MEMINFO)
    for number in (7, 9):
        machine.unit(number)
    found = discovery.discover(machine.host).sessions
    changes = {"sessions": found, "overhead": 0}
    assert numbers(machine, **changes)["memory"] == (8 * GIB + 16_000_000) // 8_000_000


def test_sessions_that_cannot_be_measured(machine: Machine) -> None:
    machine.write("proc/meminfo", MEMINFO)
    sessions = [SessionInfo("", 1, 0, application_pid=4000)]
    expected = (8 * GIB + SMALLEST) // SMALLEST
    assert numbers(machine, sessions=sessions) == {"memory": expected}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 32768 - 512),
        ({"processes": 2}, (32768 - 512) // 2),
        ({"tasks": ("infinity", "8000")}, 8000 - 512),
        ({"tasks": ("800", "8000")}, 700),
        ({"user_processes": "9000"}, 9000 - 512),
        ({"user_processes": "infinity"}, 32768 - 512),
    ],
)
def test_processes(machine: Machine, changes: dict[str, object], expected: int) -> None:
    machine.write("proc/sys/kernel/pid_max", "32768\n")
    machine.write("proc/sys/kernel/threads-max", "99999\n")
    assert numbers(machine, **changes) == {"processes": expected}


def test_processes_of_a_container(machine: Machine) -> None:
    machine.write("proc/sys/kernel/pid_max", "32768\n")
    machine.write("cgroup/pids.max", "8000\n")
    assert numbers(machine) == {"processes": 8000 - 512}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"has_default": True}, {"default": 32768 - 512}),
        ({"has_default": True, "tasks": ("infinity", "1000")}, {"processes": 875}),
        ({"has_default": True, "user_processes": "800"}, {"processes": 700}),
        ({}, {}),
    ],
)
def test_a_server_that_cannot_read_the_number_of_processes(
    machine: Machine, changes: dict[str, object], expected: dict[str, int]
) -> None:
    assert numbers(machine, **changes) == expected


def test_descriptors_of_all_workers(machine: Machine) -> None:
    """Five descriptors of a session, since any application may have a channel."""
    few, many = (
        numbers(machine, descriptors=soft)["descriptors"] for soft in ("4096", "524288")
    )
    assert 2 * 600 < few < 2 * 4096 // 5
    assert 2 * 100_000 < many < 2 * 524288 // 5
    assert numbers(machine, descriptors="infinity") == {}


def test_files_and_tracked_connections(machine: Machine) -> None:
    machine.write("proc/sys/fs/file-max", "2500000\n")
    machine.write("proc/sys/net/netfilter/nf_conntrack_max", "262144\n")
    assert numbers(machine) == {"files": 100_000, "conntrack": 245_760}


@pytest.mark.parametrize(
    ("listens", "expected"),
    [
        (LISTEN, {"ports": 28_232}),
        (f"{LISTEN}\n[::1]:30747 (Stream)", {"ports": 2 * 28_232}),
        (f"{LISTEN}\n/run/app/socket (Stream)", {}),
        (f"{LISTEN}\n0.0.0.0:30747 (Stream)", {}),
        ("[::]:30747 (Stream)", {}),
        ("", {}),
    ],
)
def test_ports_of_a_proxy_on_the_same_host(
    machine: Machine, listens: str, expected: dict[str, int]
) -> None:
    machine.write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
    assert numbers(machine, listens=listens) == expected


# The findings

SYSTEMCTL = """\
case "$*" in
    --version) echo "systemd 252"; exit ;;
esac
for unit in chimirror.socket chimirror-server.socket chimirror@chimirror-ctl.service \
    chimirror-server.service chimirror.slice; do
    case " $* " in *" $unit "*) ;; *) continue ;; esac
    echo Id=$unit; echo LoadState=loaded; echo ActiveState=active
    echo UnitFileState=enabled; echo TasksMax=infinity; echo LimitNOFILE=524288
    echo MaxConnections=1200; echo "Listen=127.0.0.1:30747 (Stream)"
    echo "Environment=CHIMIRROR_MAX_SESSIONS=$MOST"; echo
done
"""


def capacities(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, most: int
) -> dict[str, dict[str, object]]:
    machine.program("systemctl", SYSTEMCTL)
    for name in ("systemd-run", "systemd-analyze"):
        machine.program(name, "true")
    monkeypatch.setenv("PATH", f"{machine.directory}/bin:/usr/bin:/bin")
    monkeypatch.setenv("MOST", str(most))
    machine.write("proc/meminfo", MEMINFO)
    machine.write("proc/sys/kernel/pid_max", "32768\n")
    machine.write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
    screen = Screen()
    run(["check", "--json"], machine.host, screen)
    found = {one["about"]: one for one in json.loads(screen.text)}
    return {name: one for name, one in found.items() if name.startswith("capacity of")}


def test_what_the_host_holds(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = capacities(machine, monkeypatch, 1000)
    server = found["capacity of chimirror-server.service"]
    assert (server["verdict"], server["advice"]) == ("good", "")
    sessions = server["sessions"]
    assert isinstance(sessions, dict)
    assert list(sessions) == ["ports", "processes", "memory", "descriptors"]
    assert str(server["text"]).startswith(
        "28,232 sessions: net.ipv4.ip_local_port_range, 28,232 ports of a proxy here"
        " for 1 listening socket; then processes 32,256, memory "
    )
    bridges = found["capacity of chimirror@.service"]
    assert str(bridges["text"]).startswith("1,717 sessions: memory, 5,000 kB each, the")


def test_a_limit_above_what_the_host_holds(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = capacities(machine, monkeypatch, 50_000)
    server = found["capacity of chimirror-server.service"]
    assert server["verdict"] == "doubtful"
    assert str(server["text"]).startswith(
        "50,000 sessions may be open, and it holds 28,232 sessions: net.ipv4"
    )
    assert str(server["advice"]).startswith("sysctl net.ipv4.ip_local_port_range=")
