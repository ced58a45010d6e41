"""Whether memory is left: of the machine, and of the cgroups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror.server import free_memory


class Host:
    """The files of proc(5) and cgroups(7) in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("meminfo", "MemTotal: 1600 kB\nMemAvailable: 100 kB\n")
        self.write("cgroup", "4:memory:/old/unit\n0::/a/unit\n")

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def has_free_memory(self) -> bool:
        root = self.directory
        return free_memory.measure(
            str(root / "meminfo"), str(root / "cgroup"), str(root)
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_sixteenth_of_the_machine(host: Host) -> None:
    assert host.has_free_memory()
    host.write("meminfo", "MemTotal: 1600 kB\nMemAvailable: 99 kB\n")
    assert not host.has_free_memory()


@pytest.mark.parametrize("group", ["a/unit", "a"])
@pytest.mark.parametrize("limit", ["memory.max", "memory.high"])
def test_version_2(host: Host, group: str, limit: str) -> None:
    host.write(f"{group}/{limit}", "1600\n")
    host.write(f"{group}/memory.current", "1500\n")
    assert host.has_free_memory()
    host.write(f"{group}/memory.current", "1501\n")
    assert not host.has_free_memory()
    host.write(f"{group}/memory.stat", "anon 5\ninactive_file 1\n")
    assert host.has_free_memory()
    host.write(f"{group}/{limit}", "max\n")
    host.write(f"{group}/memory.current", "999999\n")
    assert host.has_free_memory()


@pytest.mark.parametrize("group", ["old/unit", "old"])
def test_version_1(host: Host, group: str) -> None:
    host.write(f"memory/{group}/memory.limit_in_bytes", "1600\n")
    host.write(f"memory/{group}/memory.usage_in_bytes", "1501\n")
    assert not host.has_free_memory()
    host.write(f"memory/{group}/memory.stat", "total_inactive_file 1\n")
    assert host.has_free_memory()


def test_without_proc_there_is_memory(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert free_memory.measure(missing, missing, missing)


def test_this_machine_answers() -> None:
    assert free_memory.is_available() in (True, False)
