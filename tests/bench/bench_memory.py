"""What sessions cost in memory: one chimirror-server beside Debian's websocketd.

Law: both hold the same sessions of the same application (`cat`), one after the other:
500 idle ones, then 50 more that have just been echoing as fast as they could. Serving
processes are counted by their proportional set size (proc(5), smaps_rollup),
applications apart, the kernel by its slabs, stacks and page tables, which are the
machine's and so only as quiet as the machine is.
"""

from __future__ import annotations

import os
import platform
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from launch import Service, await_port, reserved, running, server
from peers import frame, upgrade
from settling import MARK, descendants, field, until

IDLE, BUSY = 500, 50
SECONDS = 5.0  # how long the busy ones echo
LINE = b'"%s"' % (b"x" * 62)
APPLICATION = ["cat"]


@contextmanager
def websocketd(directory: Path) -> Iterator[Service]:
    with reserved() as port:
        argv = [
            "websocketd",
            "--address=127.0.0.1",
            f"--port={port}",
            "--loglevel=error",
        ]
        argv += [f"--passenv=PATH,{MARK}", *APPLICATION]
        with running(directory, argv, f"websocketd{port}") as service:
            await_port(service, port)
            yield service


def connect(service: Service, framing: str) -> socket.socket:
    """An open session; the answer is read, and nothing more is kept of it."""
    connection = service.connect()
    connection.settimeout(20)
    connection.sendall(upgrade("/", framing, ()))
    head = connection.recv(4096)
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(head)
    return connection


class Books:
    """Bytes at one moment: serving processes, applications, kernel slabs."""

    def __init__(self, service: Service) -> None:
        family = [service.pid, *[child.pid for child in descendants(service.pid)]]
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in family}
        mine = [pid for pid in family if names[pid] != "cat"]
        theirs = [pid for pid in family if names[pid] == "cat"]
        self.serving = sum(field(pid, "Pss", "smaps_rollup") for pid in mine)
        self.applications = sum(field(pid, "Pss", "smaps_rollup") for pid in theirs)
        self.processes = len(mine)
        self.sessions = len(theirs)
        self.slabs = slabs()


def slabs() -> int:
    """The kernel's unreclaimable slabs and page tables, in bytes."""
    text = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text}
    return sizes["SUnreclaim"] + sizes["PageTables"] + sizes["KernelStack"]


def echo(connections: list[socket.socket], seconds: float) -> int:
    """Keeps one line in flight on each for a while; how many came back."""
    message, limit, count = frame(1, LINE), time.monotonic() + seconds, 0
    for connection in connections:
        connection.sendall(message)
    while time.monotonic() < limit:
        for connection in select.select(connections, [], [], 1)[0]:
            connection.recv(4096)
            connection.sendall(message)
            count += 1
    return count


def row(name: str, now: Books, empty: Books, sessions: int) -> None:
    each = [
        (now.serving - empty.serving) / sessions,
        now.serving / sessions,
        now.applications / sessions,
        (now.slabs - empty.slabs) / sessions,
    ]
    cells = "".join(f"{size / 1000:11.1f}" for size in each)
    print(f"{name:30}{now.processes:4}{cells}")


def measure(name: str, service: Service, framing: str) -> None:
    """Prints one row for the idle sessions and one with the busy ones too."""
    with ExitStack() as stack:
        with connect(service, framing):
            until(lambda: Books(service).sessions == 1, "the first application")
        until(lambda: Books(service).sessions == 0, "its end")
        empty = Books(service)
        for _ in range(IDLE):
            stack.enter_context(connect(service, framing))
        until(lambda: Books(service).sessions == IDLE, "all applications")
        row(f"{name}, {IDLE} idle", Books(service), empty, IDLE)
        busy = [stack.enter_context(connect(service, framing)) for _ in range(BUSY)]
        rate = echo(busy, SECONDS) / SECONDS
        now = Books(service)
        row(f"{name}, {IDLE} idle + {BUSY} busy", now, empty, IDLE + BUSY)
        print(f"{'':34}({rate:.0f} echoes/s of {len(LINE)} bytes meanwhile)")


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0]


def main() -> None:
    print("Memory per session in kB (kernel: of the whole machine)")
    print(f"Python {platform.python_version()}, Linux {platform.release()}, ", end="")
    print(f"{os.cpu_count()} cores")
    print(f"websocketd: {said('dpkg-query', '-W', 'websocketd')}")
    heads = ("serving +", "serving", "apps", "kernel +")
    print(f"{'':30}   n" + "".join(f"{head:>11}" for head in heads))
    with tempfile.TemporaryDirectory() as scratch:
        with server(Path(scratch), APPLICATION, "--workers=2") as service:
            measure("chimirror-server", service, "json")
        with websocketd(Path(scratch)) as service:
            measure("websocketd", service, "")


if __name__ == "__main__":
    main()
