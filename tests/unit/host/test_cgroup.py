"""Figures from cgroups, in the three ways in which systemd mounts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimirror.host import cgroup

UNIT = "/chimirror.slice/chimirror@7-127.0.0.1:30747-127.0.0.1:4711.service"
UNIFIED = f"0::{UNIT}\n"
LEGACY = f"12:pids:{UNIT}\n4:memory:{UNIT}\n1:name=systemd:{UNIT}\n"
MOUNTS = {
    "unified": (UNIFIED, ""),
    "hybrid": (LEGACY + UNIFIED, "/unified"),
    "legacy": (LEGACY, "/systemd"),
}


def listing(directory: Path, text: str) -> str:
    file = directory / "cgroup"
    file.write_text(text)
    return str(file)


def make(path: Path, *names: str) -> None:
    for name in names:
        (path / name).mkdir(parents=True)


@pytest.mark.parametrize("mode", MOUNTS)
def test_template_instances(tmp_path: Path, mode: str) -> None:
    text, mount = MOUNTS[mode]
    root = tmp_path / "cgroups"
    parent = Path(f"{root}{mount}/chimirror.slice")
    make(parent, UNIT.rpartition("/")[2], "chimirror@8-unix.service", "other@1.service")
    make(parent, "chimirror-server.service")
    siblings = cgroup.TemplateInstances(listing(tmp_path, text), str(root))
    assert siblings.count() == 2
    assert siblings.template == os.fsencode(f"{parent}/chimirror@")
    make(parent, "chimirror@9-new.service")
    assert siblings.count() == 3


@pytest.mark.parametrize(
    "text", ["", "0::/\n", "0::/system.slice/xinetd.service\n", "0::/a@1.service/sub\n"]
)
def test_no_template(tmp_path: Path, text: str) -> None:
    make(tmp_path / "root", "system.slice/xinetd.service", "a@1.service/sub")
    with pytest.raises(cgroup.NotATemplateUnit):
        cgroup.TemplateInstances(listing(tmp_path, text), str(tmp_path / "root"))


def test_no_proc(tmp_path: Path) -> None:
    with pytest.raises(cgroup.NotATemplateUnit):
        cgroup.TemplateInstances(str(tmp_path / "none"), str(tmp_path))
    assert cgroup.oom_kills(str(tmp_path / "none"), str(tmp_path)) == 0


def test_oom_kills(tmp_path: Path) -> None:
    unified = listing(tmp_path, UNIFIED)
    assert cgroup.oom_kills(unified, str(tmp_path)) == 0
    group = Path(f"{tmp_path}{UNIT}")
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert cgroup.oom_kills(unified, str(tmp_path)) == 2


def test_oom_kills_of_v1(tmp_path: Path) -> None:
    group = Path(f"{tmp_path}/memory{UNIT}")
    group.mkdir(parents=True)
    control = group / "memory.oom_control"
    control.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    both = listing(tmp_path, LEGACY + UNIFIED)
    assert cgroup.oom_kills(both, str(tmp_path)) == 1
    control.write_text("oom_kill_disable 0\n")  # before Linux 4.13
    assert cgroup.oom_kills(both, str(tmp_path)) == 0
