"""What systemd's Accept=yes costs: the unit as it is shipped, and what is beside it.

Law: one throw-away machine (machine.py) in which chimirror is installed as on a fresh
host. The same tiny application is served by chimirror@.service, by that unit with the
application on the connection instead of the bridge, by a unit without a sandbox, and
by chimirror-server.service, on ports of their own. Costs are the processor time of the
whole machine but for the client, so that process 1 and the journal count.
Ignorance: what a session does after its first byte.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import contenders
from harness import Bench, cpu_seconds, percentile
from load import LINES, RAW, Codec, visits

import machine as machines
from machine import Machine
from settling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

TINY = "/usr/local/lib/tiny"
UNITS = "/run/systemd/system"
SHIPPED = "chimirror@.service"
SAME = "its application in the same unit"
BARE = "the same without sandbox"
SERVER = "chimirror-server.service"
START = re.compile(r"^ExecStart=(?:.*\\\n)*.*$", re.MULTILINE)
PATIENCE = 60.0  # seconds for all units of a turn to be gone


class Way(NamedTuple):
    """One way to serve the application."""

    name: str
    codec: Codec
    port: int
    units: str  # the beginning of the names of its sessions' units


WAYS = (
    Way(SHIPPED, LINES, 30747, "chimirror@"),
    Way(SAME, RAW, 30748, "same@"),
    Way(BARE, RAW, 30749, "bare@"),
    Way(SERVER, LINES, 30750, ""),
)


@contextmanager
def host(tiny: str) -> Iterator[Machine]:
    """The machine, on which everybody serves the application."""
    with tempfile.TemporaryDirectory() as wheels:
        machines.pack(Path(wheels))
        with machines.boot(Path(wheels)) as found:
            found.install(Path(wheels))
            shutil.copy(tiny, found.path(TINY))
            found.configure(TINY, options="--framing=lines")
            set_up(found)
            yield found


def set_up(machine: Machine) -> None:
    shipped = next(
        machine.path("/").glob(f"*/*/*/systemd/system/{SHIPPED}")
    ).read_text()
    instead = f"ExecStart={TINY}\nStandardInput=socket"
    machine.write(f"{UNITS}/same@.service", START.sub(instead, shipped))
    bare = f"[Unit]\nCollectMode=inactive-or-failed\n[Service]\n{instead}\n"
    machine.write(f"{UNITS}/bare@.service", bare)
    for name, port in (("same", 30748), ("bare", 30749)):
        lines = [f"ListenStream=127.0.0.1:{port}", "Accept=yes", "Backlog=4096"]
        lines += ["MaxConnections=4096", "TriggerLimitIntervalSec=0", "NoDelay=yes"]
        text = "\n".join(["[Socket]", *lines]) + "\n"
        machine.write(f"{UNITS}/{name}.socket", text)
    other = ("ListenStream=", "ListenStream=127.0.0.1:30750")
    machine.drop_in("chimirror-server.socket", "Socket", *other)
    sockets = ("chimirror", "same", "bare", "chimirror-server")
    machine.do("systemctl", "start", *[f"{name}.socket" for name in sockets])


def quiet(machine: Machine, way: Way) -> bool:
    """Whether every unit of its sessions is gone."""
    if not way.units:
        return True
    found = machine.do("systemctl", "list-units", "--all", "--plain", "--no-legend")
    return way.units not in found


def busy() -> float:
    """Processor time of the whole machine, in seconds (proc(5))."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, *interrupts = map(int, words[:7])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    bench = Bench("units", __doc__ or "", rounds=5)
    bench.parser.add_argument("--clients", default="1,8")
    bench.parser.add_argument("--seconds", type=float, default=2.0, help="per turn")
    args = bench.parser.parse_args()
    bench.reference = SAME
    if lacking := machines.missing():
        print(f"units: {lacking}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    with tempfile.TemporaryDirectory() as scratch:
        programs = contenders.compiled(Path(scratch))
        if programs is None:
            print("units: needs a C compiler (cc)", file=sys.stderr)
            return os.EX_UNAVAILABLE
        with host(programs.tiny) as machine:
            for turn in range(args.rounds + 1):
                for way in WAYS:
                    for clients in map(int, args.clients.split(",")):
                        measure(bench, machine, way, clients, args.seconds, turn)
    return bench.finish(args)


def measure(
    bench: Bench, machine: Machine, way: Way, clients: int, seconds: float, turn: int
) -> None:
    """One turn; the one before the first only warms up."""
    before, own = busy(), cpu_seconds([os.getpid()])
    with machine.network():
        took, rate = visits(
            ("127.0.0.1", way.port), way.codec.request, clients, seconds
        )
    until(lambda: quiet(machine, way), f"the end of {way.name}", PATIENCE)
    if not turn:
        return
    own = cpu_seconds([os.getpid()]) - own
    cost = (busy() - before - own) / len(took)
    many = f"{clients} client" + "s" * (clients > 1)
    first = percentile(took, 0.5) * 1e3
    bench.figure(f"first byte p50, {many}", "ms").add(way.name, first)
    bench.figure(f"sessions, {many}", "per s").add(way.name, rate)
    bench.figure(f"processor time of a session, {many}", "ms").add(way.name, cost * 1e3)


if __name__ == "__main__":
    sys.exit(main())
