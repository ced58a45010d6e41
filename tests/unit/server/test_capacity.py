"""Tests the number of sessions that each limit of the system allows."""

from __future__ import annotations

import builtins
import io
import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from chimirror.access.authorizer import MAX_ASKED
from chimirror.config import parser
from chimirror.host import cgroup
from chimirror.server import capacity
from chimirror.server.capacity import PER_CONTROL, PER_SESSION, RESERVED, Room


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Restore the descriptor limit after each test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The contents, by path, of the only files that can be opened."""
    found: dict[str, str] = {}

    def fake(path: str, *_: Any, **__: Any) -> io.StringIO:
        if path not in found:
            raise FileNotFoundError(path)
        return io.StringIO(found[path])

    for module in (capacity, cgroup):
        monkeypatch.setattr(module, "open", fake, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert open is builtins.open
    return found


def lower(soft: int) -> int:
    """Lower the soft limit. Returns the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return hard


def test_the_soft_limit_is_raised_and_told() -> None:
    hard = lower(200)
    assert capacity.raise_descriptor_limit() == 200
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert capacity.raise_descriptor_limit() == hard


def test_the_soft_limit_is_set_as_far_as_may_be() -> None:
    hard = lower(200)
    capacity.set_descriptor_limit(100)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (100, hard)
    capacity.set_descriptor_limit(hard + 1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize(
    ("descriptors", "room"),
    [
        # half of the descriptors is reserved, and each part has its minimum
        (32, Room(2, 1, 2, 1)),
        (64, Room(6, 1, 2, 1)),
        (100, Room(10, 1, 3, 1)),
        (1024, Room(193, 4, 56, 28)),
        (4096, Room(854, 18, 248, 124)),
        (20000, Room(4638, 98, 512, 256)),
        (524288, Room(128741, 2724, 512, 256)),
    ],
)
def test_room_by_descriptors(descriptors: int, room: Room) -> None:
    assert room_of(descriptors, 512, 256) == room


def room_of(descriptors: int, pending: int, share: int | None, *options: str) -> Room:
    options = (f"--max-handshakes={pending}", *options)
    if share is not None:
        options = (f"--max-handshakes-per-source={share}", *options)
    config = parser.parse_server([*options, "--", "program"])
    with pytest.MonkeyPatch.context() as patch:
        limits = (descriptors, descriptors)
        patch.setattr(resource, "getrlimit", lambda _: limits)
        return capacity.room_per_worker(config)


@pytest.mark.parametrize("descriptors", [64, 100, 256, 1024, 4096, 65536, 524288])
def test_room_leaves_descriptors(descriptors: int) -> None:
    room = room_of(descriptors, 512, 256)
    used = PER_SESSION * room.sessions + PER_CONTROL * room.control + 2 * room.pending
    assert descriptors - used >= min(RESERVED, descriptors // 2)


def test_a_control_channel_is_one_more_descriptor() -> None:
    few, many = (room_of(4096, 512, 256, *one) for one in [("--control",), ()])
    assert (few.per_session, many.per_session) == (5, 4)
    assert few.sessions == 4 * many.sessions // 5


def test_connections_to_an_authorizer_need_descriptors() -> None:
    http, helper, none = (
        room_of(4096, 512, 256, *options).sessions
        for options in [
            ("--authorize", "http://127.0.0.1:9/"),
            ("--authorize", "exec:cat"),
            (),
        ]
    )
    assert helper == none
    assert none - MAX_ASKED // PER_SESSION <= http < none


@pytest.mark.parametrize(
    ("pending", "share", "expected"),
    [(8, 2, (8, 2)), (8, None, (8, 8)), (8, 100, (8, 8)), (4000, 1000, (1242, 310))],
)
def test_room_by_options(
    pending: int, share: int | None, expected: tuple[int, int]
) -> None:
    room = room_of(20000, pending, share)
    assert (room.pending, room.pending_per_source) == expected


def test_room_without_limit() -> None:
    room = room_of(resource.RLIM_INFINITY, 512, 256)
    assert 100_000 < room.sessions < 1_000_000


def test_sessions_and_control_share_room() -> None:
    room = Room(sessions=10, control=2, pending=2, pending_per_source=1)
    assert room.has_session(9, 0)
    assert room.has_session(9, 2)
    assert not room.has_session(10, 0), "some room is left for control"
    assert not room.has_session(9, 4)
    assert room.has_control(10, 1)
    assert not room.has_control(10, 2)
    assert room.has_control(0, 14)
    assert not room.has_control(0, 15)


PIDS = "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("there", "most"),
    [
        ({}, 32768 - 512),
        ({"/proc/sys/kernel/pid_max": "4194304\n"}, 4194304 - 512),
        ({"/proc/sys/kernel/pid_max": "80"}, 70),
        ({"/proc/sys/kernel/pid_max": "1"}, 1),
        (
            {
                "/proc/self/cgroup": "0::/system.slice/chimirror.service\n",
                f"{PIDS}/system.slice/chimirror.service/pids.max": "max\n",
                f"{PIDS}/system.slice/pids.max": "800\n",
                f"{PIDS}/pids.max": "900\n",
            },
            700,
        ),
        (
            {
                "/proc/self/cgroup": "3:cpu,pids:/a\n2:memory:/b\n1:name=x:/c\n0::/\n",
                f"{PIDS}/pids/a/pids.max": "80\n",
                f"{PIDS}/pids/b/pids.max": "8\n",
            },
            70,
        ),
        ({"/proc/self/cgroup": "0::/\n", f"{PIDS}/pids.max": "80\n"}, 70),
    ],
)
def test_processes(there: dict[str, str], most: int, files: dict[str, str]) -> None:
    files.update(there)
    assert capacity.processes() == most


@pytest.mark.parametrize(
    ("limit", "most"), [(80, 70), (resource.RLIM_INFINITY, 32768 - 512)]
)
def test_processes_of_a_user(
    limit: int,
    most: int,
    files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert capacity.processes() == most


def test_this_machine() -> None:
    assert capacity.processes() >= 1
    assert 1 <= capacity.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_cores_of_another_system(
    count: int | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert capacity.cores() == cores


@pytest.mark.parametrize(
    ("workers", "most", "layout"),
    [
        # one worker per core, and one descriptor left to reject with
        (None, None, (2, 199)),
        (3, None, (3, 299)),
        (None, 50, (2, 50)),
        (None, 199, (2, 199)),
        # more workers if the sessions need more descriptors
        (None, 200, (3, 200)),
        (None, 5000, (51, 5000)),
        (1, 5000, (1, 99)),
        (20, None, (20, 1000)),  # process ids are the limit
    ],
)
def test_the_layout(
    workers: int | None,
    most: int | None,
    layout: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = fixed_room(monkeypatch, 100)
    monkeypatch.setattr(capacity, "cores", lambda: 2)
    monkeypatch.setattr(capacity, "processes", lambda: 1000)
    argv = [f"--workers={workers}"] if workers else []
    argv += [f"--max-sessions={most}"] if most else []
    config = parser.parse_server([*argv, "--", "program"])
    assert capacity.plan_workers(config) == (*layout, room)


def fixed_room(monkeypatch: pytest.MonkeyPatch, sessions: int) -> Room:
    room = Room(sessions, 1, 2, 1)
    monkeypatch.setattr(capacity, "room_per_worker", lambda *_: room)
    return room


def test_there_is_always_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """And room in the worker to accept the next client, and refuse it."""
    room = fixed_room(monkeypatch, 2)
    config = parser.parse_server(["--workers=1", "--", "program"])
    assert capacity.plan_workers(config) == (1, 1, room)
