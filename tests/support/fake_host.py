"""The files of a host that chimirror-ctl reads, in a directory.

Their contents were copied from real machines (cgroups(7), systemd 252).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from chimirror.ctl.main import run
from chimirror.ctl.output import OutputWriter
from chimirror.ctl.paths import HostPaths

STARTED = 1_790_000_000_000_000


def identity(number: int) -> str:
    return f"{number:08x}" + "0" * 23 + "7"


def status(number: int, **changes: object) -> dict[str, object]:
    """Return the status of a session, as a bridge writes it."""
    return {
        "id": identity(number),
        "pid": 100 + number,
        "application_pid": 5000 + number,
        "started": STARTED,
        "updated": STARTED + 1,
        "peer": f"192.0.2.{number}:4711",
        "application": "",
        "command": "cat -u",
        "framing": "json",
        "state": "open",
        "bytes_in": number,
        "bytes_out": 2048,
        "messages_in": 3,
        "messages_out": 4,
        **changes,
    }


class Machine:
    """Directories for HostPaths, and methods that fill them."""

    def __init__(self, directory: Path, *, unified: bool = True) -> None:
        self.directory = directory
        self.unified = unified
        self.runtime = directory / "runtime"
        self.host = HostPaths(
            (str(self.runtime),),
            str(directory / "cgroup"),
            str(directory / "proc"),
            str(directory / "run"),
            str(directory / "etc"),
            str(directory / "log"),
        )
        self.write("proc/1/cgroup", "0::/init.scope\n")
        if unified:
            self.write("cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
        for name in ("runtime/sessions", "runtime/servers", "run/systemd/system"):
            (directory / name).mkdir(parents=True)
        for name in ("run/systemd/units", "etc"):
            (directory / name).mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tell(self, number: int, **changes: object) -> Path:
        """Write the status file of a bridge."""
        line = json.dumps(status(number, **changes)) + "\n"
        return self.write(f"runtime/sessions/{identity(number)}", line)

    def process(self, pid: int, command: str = "chimirror-bridge", **more: str) -> None:
        """Add a process in its own process group, with two threads."""
        self.write(f"proc/{pid}/cmdline", command.replace(" ", "\0") + "\0")
        figures = f"S 1 {pid} {pid} 0 -1 0 0 0 0 0 150 50 0 0 20 0 2 0 9 4096 256 0"
        self.write(f"proc/{pid}/stat", f"{pid} (a) name) {figures}\n")
        for name, text in more.items():
            self.write(f"proc/{pid}/{name}", text)

    def unit(self, number: int, name: str = "chimirror") -> str:
        """Add a running unit with its control group and its invocation."""
        unit = f"{name}@{number}-127.0.0.1:30747-192.0.2.{number}:4711.service"
        link = self.directory / f"run/systemd/units/invocation:{unit}"
        link.symlink_to(identity(number))
        self.group(f"chimirror.slice/{unit}", number)
        return unit

    def group(self, group: str, number: int) -> None:
        """Add a control group with distinct figures."""
        memory, tasks = 1_000_000 * number, 2 * number
        top = "cgroup" if self.unified else "cgroup/unified"
        procs = f"{900 + number}\n{100 + number}\n"
        self.write(f"{top}/{group}/cgroup.procs", procs)
        cpu = f"usage_usec {250_000 * number}\nuser_usec 1\nsystem_usec 2\n"
        self.write(f"{top}/{group}/cpu.stat", cpu)
        if self.unified:
            self.write(f"{top}/{group}/memory.current", f"{memory}\n")
            self.write(f"{top}/{group}/memory.max", "536870912\n")
            self.write(f"{top}/{group}/pids.current", f"{tasks}\n")
            self.write(f"{top}/{group}/pids.max", "max\n")
            self.write(f"{top}/{group}/cpu.max", "150000 100000\n")
            return
        self.write(f"cgroup/memory/{group}/memory.usage_in_bytes", f"{memory}\n")
        limit = "9223372036854771712\n"
        self.write(f"cgroup/memory/{group}/memory.limit_in_bytes", limit)
        self.write(f"cgroup/pids/{group}/pids.current", f"{tasks}\n")
        self.write(f"cgroup/pids/{group}/pids.max", "256\n")
        self.write(f"cgroup/cpu/{group}/cpu.cfs_quota_us", "-1\n")
        self.write(f"cgroup/cpu/{group}/cpu.cfs_period_us", "100000\n")

    def program(self, name: str, script: str) -> Path:
        """Add a program to `bin`. Returns the file with its command lines."""
        log = self.directory / f"{name}.log"
        text = f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{log}"\n{script}\n'
        self.write(f"bin/{name}", text).chmod(0o755)
        return log


class Screen(OutputWriter):
    """Standard output as text. It is a terminal if it has a width."""

    def __init__(self, width: int = 0, height: int = 24) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.text = ""

    def measure(self) -> None:
        """Keep the size given to the constructor."""

    def write(self, text: str) -> None:
        self.text += text

    def rows(self) -> list[list[str]]:
        """Return the rows of the table without its heading."""
        return [line.split("\t") for line in self.text.splitlines()[1:]]


def ctl(host: HostPaths, *argv: str, width: int = 0) -> Screen:
    """Run a command that has to succeed. Returns its output."""
    screen = Screen(width)
    assert run(argv, host, screen) == os.EX_OK
    return screen
