"""Control groups: which there are and what they use, in either kind of hierarchy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chimirror.ctl.cgroups import Limits, Trees, Usage
from hosts import Machine


@pytest.mark.parametrize("unified", [True, False])
def test_services_below_a_slice(tmp_path: Path, unified: bool) -> None:
    machine = Machine(tmp_path, unified=unified)
    one = machine.unit(1)
    machine.group("chimirror.slice/chimirror-big.slice/other.service", 2)
    machine.group("system.slice/other.service", 3)
    assert sorted(Trees(machine.host).services("chimirror.slice")) == [
        (one, f"chimirror.slice/{one}"),
        ("other.service", "chimirror.slice/chimirror-big.slice/other.service"),
    ]
    assert not list(Trees(machine.host).services("no.slice"))


def test_figures_of_v2(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    group = f"chimirror.slice/{machine.unit(3)}"
    trees = Trees(machine.host)
    assert trees.usage(group) == Usage(0.75, 3_000_000, 6)
    assert trees.limits(group) == Limits(1.5, 536870912, None)
    assert trees.processes(group) == [103, 903]
    assert trees.controllers() == {"cpu", "memory", "pids"}


def test_figures_of_a_hybrid_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unified=False)
    group = f"chimirror.slice/{machine.unit(3)}"
    trees = Trees(machine.host)
    assert trees.usage(group) == Usage(0.75, 3_000_000, 6)
    assert trees.limits(group) == Limits(None, None, 256)
    assert trees.controllers() == {"cpu", "memory", "pids"}


def test_figures_of_v1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unified=False)
    group = f"chimirror.slice/{machine.unit(3)}"
    (tmp_path / "cgroup" / "unified").rename(tmp_path / "cgroup" / "systemd")
    (tmp_path / "cgroup" / "systemd" / group / "cpu.stat").unlink()
    assert Trees(machine.host).usage(group).cpu is None
    machine.write(f"cgroup/cpuacct/{group}/cpuacct.usage", "1500000000\n")
    assert Trees(machine.host).usage(group) == Usage(1.5, 3_000_000, 6)
    assert Trees(machine.host).processes(group) == [103, 903]


def test_what_has_gone_is_unknown(tmp_path: Path) -> None:
    trees = Trees(Machine(tmp_path).host)
    assert trees.usage("gone") == Usage()
    assert trees.limits("gone") == Limits()
    assert trees.processes("gone") == []
    assert trees.since("gone") == 0


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    shutil.rmtree(tmp_path / "cgroup")
    trees = Trees(machine.host)
    assert not list(trees.services("chimirror.slice"))
    assert trees.controllers() == set()
    assert trees.usage("any") == Usage()
    assert trees.since("any") == 0


def test_systemd_below_another_group(tmp_path: Path) -> None:
    """As in a container without a cgroup namespace."""
    machine = Machine(tmp_path)
    machine.write("proc/1/cgroup", "0::/machine.slice/box/init.scope\n")
    machine.write("cgroup/machine.slice/box/cgroup.controllers", "memory\n")
    machine.group("machine.slice/box/chimirror.slice/chimirror@1.service", 1)
    trees = Trees(machine.host)
    ((name, group),) = trees.services("chimirror.slice")
    assert (name, group) == (
        "chimirror@1.service",
        "chimirror.slice/chimirror@1.service",
    )
    assert trees.usage(group).tasks == 2
    assert trees.controllers() == {"memory"}


def test_this_machine_can_be_read() -> None:
    """Whatever it has: nothing fails."""
    from chimirror.ctl.host import this_host

    trees = Trees(this_host())
    trees.usage("system.slice")
    trees.limits("system.slice")
    assert list(trees.services("chimirror.slice")) is not None
