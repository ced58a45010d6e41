"""The memory of processes and of the kernel at one moment.

Processes are counted by their proportional set size (proc(5), smaps_rollup). The kernel
is counted by slabs, stacks and page tables. These belong to the whole machine, so they
are only as steady as the machine, and hold both ends of each connection. They are
read first, because reading processes makes them grow.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from processes import descendants, descriptors, field, read
from serve import Service

APPLICATION = b"tiny\n"
SAMPLE = 50  # applications that are read as a sample
KERNEL = {"Slab": "slabs", "KernelStack": "stacks", "PageTables": "page tables"}


def meminfo() -> dict[str, int]:
    """Return /proc/meminfo in bytes, by the names of proc(5)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def kernel() -> dict[str, int]:
    """Return the kernel memory that processes and sockets can cause."""
    sizes = meminfo()
    return {name: sizes[key] for key, name in KERNEL.items()}


def resident(pids: list[int]) -> int:
    """Return the bytes of all these processes. One that is ending counts 0."""
    total = 0
    for pid in pids:
        try:
            total += field(pid, "Pss", "smaps_rollup")
        except LookupError:
            pass
    return total


def family(root: int) -> tuple[list[int], list[int]]:
    """Return the serving processes, and the tiny applications."""
    pids = [root, *(child.pid for child in descendants(root))]
    applications = {pid for pid in pids if read(f"/proc/{pid}/comm") == APPLICATION}
    return [pid for pid in pids if pid not in applications], sorted(applications)


def available() -> float:
    """Return the available memory as a part of all."""
    sizes = meminfo()
    return sizes["MemAvailable"] / sizes["MemTotal"]


class Server:
    """The processes of a server and their resources."""

    def __init__(self, service: Service) -> None:
        self.pid = service.process.pid
        children = [child.pid for child in descendants(self.pid)]
        self.own = [self.pid, *children]
        self.held: dict[int, int] = {}
        self.empty = 0
        self.before = kernel()

    def descriptor_counts(self) -> dict[int, int]:
        """Return the server's own processes with their numbers of descriptors."""
        return {pid: descriptors(pid) for pid in self.own if alive(pid)}

    def applications(self) -> list[int]:
        """Return the children of these processes that are not the server's own."""
        found = []
        for pid in self.own:
            found += read(f"/proc/{pid}/task/{pid}/children").split()
        return [pid for word in found if (pid := int(word)) not in self.own]

    def memory_by_part(self, sessions: int) -> dict[str, float]:
        """Return memory by part in kB of each session, the kernel's with clients."""
        now, pids = kernel(), self.applications()
        sample = pids[:: max(1, len(pids) // SAMPLE)][:SAMPLE]
        parts = {
            "relay": (resident(self.own) - self.empty) / sessions,
            "application": resident(sample) / max(1, len(sample)),
        }
        for name, before in self.before.items():
            parts[name] = (now[name] - before) / sessions
        parts["together"] = sum(parts.values())
        return {name: size / 1000 for name, size in parts.items()}

    def settle(self) -> None:
        """Count the current memory as the server's own, after its first sessions."""
        self.held = self.descriptor_counts()
        self.empty = resident(self.own)
        self.before = kernel()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd").exists()
