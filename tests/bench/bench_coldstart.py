"""From spawn to the application's first byte, through the bridge on a socketpair.

Law: every way is measured in turn within each round, so that a busy machine slows all
of them alike; what counts is the ratio to a bare interpreter of the same round.
The launcher is the one that pip puts beside this interpreter, in a virtual
environment made for it where there is none.
"""

from __future__ import annotations

import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from peers import upgrade

ROUNDS = 100
BOUND = 2.0  # what the median may be over the bare interpreter's
REQUEST = upgrade("/", "json", ())
SILENT = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
QUIET = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
APPLICATION = ["/bin/echo", "hi"]
IMPORT = "import sys; sys.path.append({!r}); from chimirror.bridge import main; main()"


def launcher(scratch: str) -> str:
    """`chimirror-bridge` as pip installs it."""
    beside = Path(sys.executable).with_name("chimirror-bridge")
    if beside.exists():
        return str(beside)
    source = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
    pip = [f"{scratch}/bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, str(source)], check=True)
    return f"{scratch}/bin/chimirror-bridge"


def first_byte(argv: list[str]) -> float:
    """Seconds from spawn until the application's byte has crossed the socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    ours.sendall(REQUEST)
    fd = theirs.fileno()
    began = time.perf_counter()
    moves = [(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1), QUIET]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=moves)
    seen = b""
    while b'"stdout"' not in seen:
        data = ours.recv(65536)
        if not data:
            raise EOFError(seen)
        seen += data
    took = time.perf_counter() - began
    ours.close()
    theirs.close()
    os.waitpid(pid, 0)
    return took


def whole_run(argv: list[str]) -> float:
    """Seconds from spawn to the end of the process."""
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[SILENT, QUIET])
    os.waitpid(pid, 0)
    return time.perf_counter() - began


def ways(scratch: str) -> dict[str, tuple[Callable[[list[str]], float], list[str]]]:
    """What is measured, by name; the bare interpreter first."""
    installed = launcher(scratch)
    python = str(Path(installed).with_name("python3"))
    (site,) = Path(installed).parent.parent.glob("lib/python3*/site-packages")
    tail = ["--", *APPLICATION]
    return {
        "python3 -I -S -c pass": (whole_run, [python, "-I", "-S", "-c", "pass"]),
        "chimirror-bridge": (first_byte, [installed, *tail]),
        "python3 -I -S -c, bridge": (
            first_byte,
            [python, "-I", "-S", "-c", IMPORT.format(str(site)), *tail],
        ),
        "/bin/echo alone": (whole_run, APPLICATION),
    }


def show(name: str, samples: list[float], bare: list[float]) -> float:
    """Prints one line; the median of the ratios of its rounds."""
    ratios = [mine / its for mine, its in zip(samples, bare, strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    middle = statistics.median(ratios)
    print(
        f"{name:26} {statistics.median(samples) * 1000:7.1f} ms"
        f"   {middle:5.2f}x  ({tenths[0]:.2f} to {tenths[-1]:.2f})"
    )
    return middle


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        measured = ways(scratch)
        samples: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(ROUNDS + 3):
            for name, (measure, argv) in measured.items():
                samples[name].append(measure(argv))
    print(
        f"Cold start, {ROUNDS} interleaved rounds; Python {platform.python_version()},"
    )
    print(
        f"Linux {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]}"
    )
    print(f"{'':26} {'median':>10}   over bare (tenth to ninth tenth)")
    warm = {name: timings[3:] for name, timings in samples.items()}
    bare = next(iter(warm.values()))
    ratios = {name: show(name, timings, bare) for name, timings in warm.items()}
    kept = ratios["chimirror-bridge"] <= BOUND
    print(f"chimirror-bridge: {'within' if kept else 'OVER'} {BOUND}x")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
