"""What is held at one moment: memory of processes and of the kernel.

Law: processes are counted by their proportional set size (proc(5), smaps_rollup); the
kernel by its slabs, stacks and page tables, which are the machine's and so only as
quiet as the machine is, and hold both ends of each connection. It is read first,
because looking at processes makes it grow.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from launch import Service
from settling import descendants, descriptors, field, read

APPLICATION = b"tiny\n"
SAMPLE = 50  # applications whose memory is looked at, of very many
KERNEL = {"Slab": "slabs", "KernelStack": "stacks", "PageTables": "page tables"}


def meminfo() -> dict[str, int]:
    """Bytes of the machine's, as proc(5) names them."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def kernel() -> dict[str, int]:
    """The memory of the kernel that a process or a socket can be the reason of."""
    sizes = meminfo()
    return {name: sizes[key] for key, name in KERNEL.items()}


def resident(pids: list[int]) -> int:
    """Bytes of all these; of one that is ending, none."""
    total = 0
    for pid in pids:
        try:
            total += field(pid, "Pss", "smaps_rollup")
        except LookupError:
            pass
    return total


def family(root: int) -> tuple[list[int], list[int]]:
    """The processes that serve, and the tiny applications."""
    every = [root, *(child.pid for child in descendants(root))]
    applications = {pid for pid in every if read(f"/proc/{pid}/comm") == APPLICATION}
    return [pid for pid in every if pid not in applications], sorted(applications)


def available() -> float:
    """Memory that is left, as a part of all."""
    sizes = meminfo()
    return sizes["MemAvailable"] / sizes["MemTotal"]


class Server:
    """The processes of a server, and what they hold."""

    def __init__(self, service: Service) -> None:
        self.pid = service.pid
        born = [child.pid for child in descendants(service.pid)]
        self.own = [service.pid, *born]
        self.held: dict[int, int] = {}
        self.empty = 0
        self.before = kernel()

    def census(self) -> dict[int, int]:
        """Its own processes and their descriptors."""
        return {pid: descriptors(pid) for pid in self.own if alive(pid)}

    def applications(self) -> list[int]:
        """What these have as children and did not have at the start."""
        found = []
        for pid in self.own:
            found += read(f"/proc/{pid}/task/{pid}/children").split()
        return [pid for word in found if (pid := int(word)) not in self.own]

    def books(self, sessions: int) -> dict[str, float]:
        """Memory by parts in kB of each session; the kernel's is of all clients too."""
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
        """Some sessions have been here: what is held now is the server's own."""
        self.held = self.census()
        self.empty = resident(self.own)
        self.before = kernel()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd").exists()
