"""chimirror-ctl with many sessions: how long the table takes.

Law: the whole program is run, from spawn to its end, on a machine in a directory that
holds what the kernel and the bridges of that many units write; nothing is asked of
systemd there, nor on a real one (test_ctl_live.py). The first figure is held to half
a second of processor time; the wall's is shown, and is longer on a busy machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from figures import Bound
from harness import Bench

from hosts import Machine

ROUNDS = 20
SESSIONS = 1500
BOUND = 500.0  # milliseconds
OURS = "chimirror-ctl sessions"
PROGRAM = """\
import sys
from chimirror.ctl.host import Host
from chimirror.ctl.main import run
from chimirror.ctl.table import Output
place, *others = sys.argv[1:]
run(["sessions"], Host((place,), *others), Output())
"""


def measured(argv: list[str]) -> tuple[float, float]:
    """Milliseconds of one run: of the processor, and of the clock."""
    silent = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[silent])
    _, status, used = os.wait4(pid, 0)
    took = time.perf_counter() - began
    assert status == 0
    return (used.ru_utime + used.ru_stime) * 1000, took * 1000


def main() -> int:
    bench = Bench("ctl", __doc__ or "", ROUNDS)
    args = bench.parser.parse_args()
    bench.reference = OURS
    name = f"{SESSIONS} sessions listed"
    cpu = bench.figure(f"{name}, processor", "ms", (Bound(most=BOUND, against=""),))
    wall = bench.figure(f"{name}, clock", "ms")
    with tempfile.TemporaryDirectory() as scratch:
        found = Machine(Path(scratch))
        for number in range(SESSIONS):
            found.unit(number)
            found.tell(number)
        (place,), *others = found.host
        argv = [sys.executable, "-P", "-c", PROGRAM, place, *others]
        measured(argv)
        for _ in range(args.rounds):
            used, took = measured(argv)
            cpu.add(OURS, used)
            wall.add(OURS, took)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
