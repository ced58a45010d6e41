"""How many sessions there may be, for each thing that limits them."""

from __future__ import annotations

import builtins
import io
import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from chimirror.system import capacity, cgroup
from chimirror.system.capacity import PER_SESSION, RESERVED


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """What a test lowers is raised again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The only files that there are."""
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
    """Lower the soft limit; the hard one."""
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


def test_sessions_by_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    lower(RESERVED + 10 * PER_SESSION + 1)
    assert capacity.sessions_per_worker() == 10
    lower(50)
    assert capacity.sessions_per_worker() == 1
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: endless)
    assert 100_000 < capacity.sessions_per_worker() < 1_000_000


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
        (None, None, (2, 199, 100)),  # one worker per core, and one seat to say no
        (3, None, (3, 299, 100)),
        (None, 50, (2, 50, 100)),
        (None, 199, (2, 199, 100)),
        (None, 200, (3, 200, 100)),  # more workers where descriptors ask for it
        (None, 5000, (51, 5000, 100)),
        (1, 5000, (1, 99, 100)),
        (20, None, (20, 1000, 100)),  # process ids are the limit
    ],
)
def test_the_layout(
    workers: int | None,
    most: int | None,
    layout: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "sessions_per_worker", lambda: 100)
    monkeypatch.setattr(capacity, "cores", lambda: 2)
    monkeypatch.setattr(capacity, "processes", lambda: 1000)
    assert capacity.plan(workers, most) == layout


def test_there_is_always_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "sessions_per_worker", lambda: 1)
    assert capacity.plan(1, None) == (1, 1, 1)
