"""chimirror-ctl with many sessions: how long the table takes.

The whole program is run, from spawn to its end, on a machine in a directory. The
directory holds the files that the kernel and the bridges of that many units write.
systemd is not asked (a real one is in tests/systemd/test_ctl.py).

The bound of half a second applies to processor time. Wall time is shown, and is longer
on a busy machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from fake_host import Machine
from figures import Bound
from harness import Bench

ROUNDS = 20
SESSIONS = 1500
BOUND = 500.0  # milliseconds
OURS = "chimirror-ctl sessions"
PROGRAM = """\
import sys
from chimirror.ctl.main import run
from chimirror.ctl.output import OutputWriter
from chimirror.ctl.paths import HostPaths
place, *others = sys.argv[1:]
run(["sessions"], HostPaths((place,), *others), OutputWriter())
"""


def measured(argv: list[str]) -> tuple[float, float]:
    """Return processor time and wall time of one run in milliseconds."""
    silent = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[silent])
    _, status, used = os.wait4(pid, 0)
    took = time.perf_counter() - began
    assert status == 0
    return (used.ru_utime + used.ru_stime) * 1000, took * 1000


def main() -> int:
    bench = Bench("ctl", __doc__ or "", ROUNDS)
    bench.parser.add_argument("--sessions", type=int, default=SESSIONS)
    args = bench.parser.parse_args()
    bench.reference = OURS
    name = f"{args.sessions} sessions listed"
    cpu = bench.figure(f"{name}, processor", "ms", (Bound(most=BOUND, against=""),))
    wall = bench.figure(f"{name}, clock", "ms")
    with tempfile.TemporaryDirectory() as scratch:
        found = Machine(Path(scratch))
        for number in range(args.sessions):
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
