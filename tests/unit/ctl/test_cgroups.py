"""Control groups: their services, usage and limits in each kind of hierarchy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chimirror.ctl.cgroups import CgroupHierarchy, ResourceLimits, ResourceUsage
from fake_host import Machine


@pytest.mark.parametrize("unified", [True, False])
def test_services_below_a_slice(tmp_path: Path, unified: bool) -> None:
    machine = Machine(tmp_path, unified=unified)
    one = machine.unit(1)
    machine.group("chimirror.slice/chimirror-big.slice/other.service", 2)
    machine.group("system.slice/other.service", 3)
    assert sorted(CgroupHierarchy(machine.host).services("chimirror.slice")) == [
        (one, f"chimirror.slice/{one}"),
        ("other.service", "chimirror.slice/chimirror-big.slice/other.service"),
    ]
    assert not list(CgroupHierarchy(machine.host).services("no.slice"))


def test_usage_in_v2(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    group = f"chimirror.slice/{machine.unit(3)}"
    trees = CgroupHierarchy(machine.host)
    assert trees.usage(group) == ResourceUsage(0.75, 3_000_000, 6)
    assert trees.limits(group) == ResourceLimits(1.5, 536870912, None)
    assert trees.processes(group) == [103, 903]
    assert trees.controllers() == {"cpu", "memory", "pids"}


def test_usage_of_a_group_that_a_server_names(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    root, group = machine.host.cgroups, f"chimirror.slice/{machine.unit(3)}"
    trees = CgroupHierarchy(machine.host)
    assert trees.usage_of_directory(f"{root}/{group}").memory == 3_000_000
    other = tmp_path / "other"
    shutil.copytree(f"{root}/{group}", other)
    (tmp_path / "cgroup-of-others").symlink_to(other)
    for path in (other, f"{root}/../other", f"{root}-of-others", "other", ""):
        assert trees.usage_of_directory(str(path)) == ResourceUsage()


def test_usage_on_a_hybrid_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unified=False)
    group = f"chimirror.slice/{machine.unit(3)}"
    trees = CgroupHierarchy(machine.host)
    assert trees.usage(group) == ResourceUsage(0.75, 3_000_000, 6)
    assert trees.limits(group) == ResourceLimits(None, None, 256)
    assert trees.controllers() == {"cpu", "memory", "pids"}


def test_usage_in_v1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unified=False)
    group = f"chimirror.slice/{machine.unit(3)}"
    (tmp_path / "cgroup" / "unified").rename(tmp_path / "cgroup" / "systemd")
    (tmp_path / "cgroup" / "systemd" / group / "cpu.stat").unlink()
    assert CgroupHierarchy(machine.host).usage(group).cpu is None
    machine.write(f"cgroup/cpuacct/{group}/cpuacct.usage", "1500000000\n")
    assert CgroupHierarchy(machine.host).usage(group) == ResourceUsage(
        1.5, 3_000_000, 6
    )
    assert CgroupHierarchy(machine.host).processes(group) == [103, 903]


def test_removed_groups_are_unknown(tmp_path: Path) -> None:
    trees = CgroupHierarchy(Machine(tmp_path).host)
    assert trees.usage("gone") == ResourceUsage()
    assert trees.limits("gone") == ResourceLimits()
    assert trees.processes("gone") == []
    assert trees.created("gone") == 0


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    shutil.rmtree(tmp_path / "cgroup")
    trees = CgroupHierarchy(machine.host)
    assert not list(trees.services("chimirror.slice"))
    assert trees.controllers() == set()
    assert trees.usage("any") == ResourceUsage()
    assert trees.created("any") == 0


def test_systemd_below_another_group(tmp_path: Path) -> None:
    """The root of systemd is a group, as in a container without a cgroup namespace."""
    machine = Machine(tmp_path)
    machine.write("proc/1/cgroup", "0::/machine.slice/box/init.scope\n")
    machine.write("cgroup/machine.slice/box/cgroup.controllers", "memory\n")
    machine.group("machine.slice/box/chimirror.slice/chimirror@1.service", 1)
    trees = CgroupHierarchy(machine.host)
    ((name, group),) = trees.services("chimirror.slice")
    assert (name, group) == (
        "chimirror@1.service",
        "chimirror.slice/chimirror@1.service",
    )
    assert trees.usage(group).tasks == 2
    assert trees.controllers() == {"memory"}


def test_this_machine_can_be_read() -> None:
    """Reading the real hierarchy never fails."""
    from chimirror.ctl.paths import this_host

    trees = CgroupHierarchy(this_host())
    trees.usage("system.slice")
    trees.limits("system.slice")
    assert list(trees.services("chimirror.slice")) is not None
