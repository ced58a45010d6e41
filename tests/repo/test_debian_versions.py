"""systemd/debian/versions.py: copies of the package, one for each version in use.

The directories are those of the test, with a /proc of its own.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "systemd" / "debian" / "versions.py"
TICKS = os.sysconf("SC_CLK_TCK")

_spec = importlib.util.spec_from_file_location("versions", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
versions = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(versions)


class Host:
    """A host with the package: its directory, and the processes in its /proc."""

    def __init__(self, directory: Path) -> None:
        self.top = directory / "chimirror"
        self.proc = directory / "proc"
        self.boot("first")

    def boot(self, name: str) -> None:
        identity = self.proc / "sys/kernel/random/boot_id"
        identity.parent.mkdir(parents=True, exist_ok=True)
        identity.write_text(f"{name}\n")
        self.pass_time(0)

    def pass_time(self, seconds: int) -> None:
        """Set the time since the boot."""
        (self.proc / "uptime").write_text(f"{seconds}.00 1.00\n")

    def unpack(self, version: str) -> None:
        """Replace the master, as dpkg(1) does: each file is a new one."""
        module = self.top / "master" / "lib" / "module.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        for file, text in (
            (module, f"VERSION = {version!r}\n"),
            (self.top / "master" / "version", f"{version}\n"),
        ):
            new = file.with_name("new")
            new.write_text(text)
            new.rename(file)

    def install(self, version: str) -> None:
        self.unpack(version)
        versions.activate(self.top, self.proc)

    def start(self, pid: int, name: str, seconds: int, maps: str = "") -> None:
        """Add a process that was started at this time after the boot."""
        directory = self.proc / str(pid)
        directory.mkdir()
        fields = ["0"] * 40
        fields[versions.START_TIME] = str(seconds * TICKS)
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (directory / "maps").write_text(f"7f00-7f01 r-xp 0 08:01 7    {maps}\n")

    def end(self, pid: int) -> None:
        for file in (self.proc / str(pid)).iterdir():
            file.unlink()
        (self.proc / str(pid)).rmdir()

    def kept(self) -> set[str]:
        """Return the names of the copies."""
        return {path.name for path in versions.copies(self.top)}

    def current(self) -> str:
        return (self.top / "current" / "lib" / "module.py").read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_first_version(host: Host) -> None:
    host.install("1-a")
    assert host.kept() == {"1-a"}
    assert host.current() == "VERSION = '1-a'\n"
    copy = host.top / "1-a" / "lib"
    assert (copy / "module.py").samefile(host.top / "master" / "lib" / "module.py")
    (compiled,) = copy.rglob("*.pyc")
    assert os.fsencode(copy / "module.py") in compiled.read_bytes()
    assert not (host.top / "master" / "lib" / "__pycache__").exists()


def test_files_of_a_running_version_stay(host: Host) -> None:
    host.install("1-a")
    host.start(7, "chimirror-bridg", 10)
    host.pass_time(20)
    host.unpack("2-b")
    assert host.current() == "VERSION = '1-a'\n"
    host.install("2-b")
    assert host.current() == "VERSION = '2-b'\n"
    assert (host.top / "1-a/lib/module.py").read_text() == "VERSION = '1-a'\n"
    host.install("2-b")
    assert host.kept() == {"1-a", "2-b"}
    host.end(7)
    host.install("2-b")
    assert host.kept() == {"2-b"}


def test_each_version_with_a_process_stays(host: Host) -> None:
    for number in (1, 2, 3):
        host.pass_time(100 * number)
        host.install(f"{number}-x")
        host.start(number, "chimirror-serve", 100 * number + 50)
    assert host.kept() == {"1-x", "2-x", "3-x"}
    host.end(1)
    host.pass_time(400)
    host.install("4-x")
    assert host.kept() == {"2-x", "3-x", "4-x"}


def test_a_process_with_another_name_maps_a_library(host: Host) -> None:
    """A copy of an application that --preload has loaded."""
    host.install("1-a")
    host.start(7, "game", 10, f"{host.top}/1-a/lib/library.so")
    host.start(8, "cat", 10, "/usr/lib/libc.so")
    host.pass_time(20)
    host.install("2-b")
    assert host.kept() == {"1-a", "2-b"}
    host.end(7)
    host.install("2-b")
    assert host.kept() == {"2-b"}


def test_no_process_survives_a_boot(host: Host) -> None:
    host.install("1-a")
    host.start(7, "chimirror-bridg", 10)
    host.pass_time(20)
    host.install("2-b")
    host.boot("second")
    host.install("2-b")
    assert host.kept() == {"2-b"}


def test_back_to_a_version_that_is_still_used(host: Host) -> None:
    host.install("1-a")
    host.start(7, "chimirror-bridg", 10)
    host.pass_time(20)
    host.install("2-b")
    host.start(8, "chimirror-bridg", 30)
    host.pass_time(40)
    host.install("1-a")
    assert host.current() == "VERSION = '1-a'\n"
    assert host.kept() == {"1-a", "2-b"}
    host.end(7)
    host.end(8)
    host.install("1-a")
    assert host.kept() == {"1-a"}


def test_an_interrupted_copy_is_made_again(host: Host) -> None:
    host.unpack("1-a")
    (host.top / "1-a.new" / "lib").mkdir(parents=True)
    (host.top / "current.new").symlink_to("nowhere")
    host.install("1-a")
    assert host.kept() == {"1-a"}
    assert not (host.top / "current.new").is_symlink()


def test_a_root_without_processes(host: Host) -> None:
    """Such as that of an image that is being built."""
    host.proc = host.proc.with_name("none")
    host.proc.mkdir()
    host.install("1-a")
    host.install("2-b")
    assert host.kept() == {"2-b"}


def test_a_removal_leaves_the_master(host: Host) -> None:
    host.install("1-a")
    versions.remove(host.top)
    assert [path.name for path in host.top.iterdir()] == ["master"]


@pytest.mark.parametrize("arguments", [[], ["activat"], ["activate", "x"]])
def test_usage(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["versions", *arguments])
    with pytest.raises(SystemExit, match=r"^Usage: "):
        versions.main()
