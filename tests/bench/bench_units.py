"""The cost of systemd's Accept=yes: the shipped unit, and simpler ones beside it.

chimirror is installed on a throw-away machine (systemd_machine.py) as on a fresh host.
The same tiny application is served in four ways, each on its own port:

- by chimirror@.service
- by that unit with the application on the connection instead of the bridge
- by a unit without a sandbox
- by chimirror-server.service

The cost is the processor time of the whole machine without the client, so process 1
and the journal count. The bytes after the first are not measured.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
import library_wheels
import systemd_machine as machines
from harness import Bench, cpu_seconds, percentile
from load_client import LINES, RAW, Codec, ShortSession, run_sessions
from processes import until
from systemd_machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

TINY = "/usr/local/lib/tiny"
UNITS = "/run/systemd/system"
SHIPPED = "chimirror@.service"
SAME = "its application in the same unit"
BARE = "the same without sandbox"
SERVER = "chimirror-server.service"
START = re.compile(r"^ExecStart=(?:.*\\\n)*.*$", re.MULTILINE)
TIMEOUT = 60.0  # seconds until all units of a turn must have ended


class Variant(NamedTuple):
    """One way to serve the application."""

    name: str
    codec: Codec
    port: int
    units: str  # the prefix of the names of its session units


SERVICES = (
    Variant(SHIPPED, LINES, 30747, "chimirror@"),
    Variant(SAME, RAW, 30748, "same@"),
    Variant(BARE, RAW, 30749, "bare@"),
    Variant(SERVER, LINES, 30750, ""),
)


@contextmanager
def host(tiny: str) -> Iterator[Machine]:
    """Boot the machine on which every variant serves the application."""
    with tempfile.TemporaryDirectory() as wheels:
        library_wheels.pack(Path(wheels))
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


def all_ended(machine: Machine, variant: Variant) -> bool:
    """Return whether every unit of its sessions has ended."""
    if not variant.units:
        return True
    found = machine.do("systemctl", "list-units", "--all", "--plain", "--no-legend")
    return variant.units not in found


def machine_time() -> float:
    """Return processor time of the whole machine in seconds (proc(5))."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, *interrupts = map(int, words[:7])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    bench = Bench("units", __doc__ or "", rounds=5)
    bench.parser.add_argument("--clients", default="1,8")
    bench.parser.add_argument("--seconds", type=float, default=2.0, help="per turn")
    args = bench.parser.parse_args()
    bench.reference = SAME
    if reason := machines.missing():
        print(f"units: {reason}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    with tempfile.TemporaryDirectory() as scratch:
        programs = competitors.compiled(Path(scratch))
        if programs is None:
            print("units: needs a C compiler (cc)", file=sys.stderr)
            return os.EX_UNAVAILABLE
        with host(programs.tiny) as machine:
            for turn in range(args.rounds + 1):
                for variant in SERVICES:
                    for clients in map(int, args.clients.split(",")):
                        measure(bench, machine, variant, clients, args.seconds, turn)
    return bench.finish(args)


def measure(
    bench: Bench,
    machine: Machine,
    variant: Variant,
    clients: int,
    seconds: float,
    turn: int,
) -> None:
    """Measure one turn. Turn 0 only warms up."""
    before, client_time = machine_time(), cpu_seconds([os.getpid()])
    with machine.network():
        address = ("127.0.0.1", variant.port)
        began = partial(ShortSession, address, variant.codec.request)
        took, rate = run_sessions(began, clients, seconds)
    until(lambda: all_ended(machine, variant), f"the end of {variant.name}", TIMEOUT)
    if not turn:
        return
    client_time = cpu_seconds([os.getpid()]) - client_time
    cost = (machine_time() - before - client_time) / len(took)
    many = f"{clients} client" + "s" * (clients > 1)
    first = percentile(took, 0.5) * 1e3
    bench.figure(f"first byte p50, {many}", "ms").add(variant.name, first)
    bench.figure(f"sessions, {many}", "per s").add(variant.name, rate)
    bench.figure(f"processor time of a session, {many}", "ms").add(
        variant.name, cost * 1e3
    )


if __name__ == "__main__":
    sys.exit(main())
