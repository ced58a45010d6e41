"""From spawn to the application's first byte, through the bridge on a socketpair.

Every variant is measured in turn within each round, so that a busy machine slows all
of them alike. The result is the ratio to a bare interpreter of the same round. The
bound is that of a systemd unit. Elsewhere the bridge forks a guardian as well.
With TLS, the time includes the handshake and so the client's part of it.
The launcher is the one that pip installs beside this interpreter. Where there is none,
a virtual environment is made for it.
"""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from figures import Bound, Figure
from harness import Bench, machine
from serve import ROOT
from tls_client import client_context
from tls_competitors import write_certificate
from websocket_peer import upgrade

ROUNDS = 100
# the largest medians, as ratios to the bare interpreter
BARE, OURS = "python3 -I -S -c pass", "chimirror-bridge"
TLS = "chimirror-bridge --tls-cert"
BOUNDS = {OURS: 2.0, TLS: 5.0}
GUARDED = "chimirror-bridge, guarded"
AS_UNIT = ["/bin/sh", "-c", 'export SYSTEMD_EXEC_PID=$$; . "$0"']  # the launcher
REQUEST = upgrade("/", "json", ())
SILENT = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
QUIET = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
APPLICATION = ["/bin/echo", "hi"]
IMPORT = "import sys; sys.path += {!r}; from chimirror.bridge import main; main()"


def launcher(scratch: str) -> str:
    """Return the path of `chimirror-bridge` as pip installs it."""
    beside = Path(sys.executable).with_name("chimirror-bridge")
    if beside.exists():
        return str(beside)
    source = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
    pip = [f"{scratch}/bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, str(source)], check=True)
    return f"{scratch}/bin/chimirror-bridge"


def first_byte(argv: list[str], context: ssl.SSLContext | None = None) -> float:
    """Return seconds from spawn until the application's byte has crossed the socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    if context is None:
        ours.sendall(REQUEST)
    fd = theirs.fileno()
    began = time.perf_counter()
    moves = [(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1), QUIET]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=moves)
    theirs.close()
    if context is not None:
        ours = context.wrap_socket(ours)
        ours.sendall(REQUEST)
    seen = b""
    while b'"stdout"' not in seen:
        data = ours.recv(65536)
        if not data:
            raise EOFError(seen)
        seen += data
    took = time.perf_counter() - began
    ours.close()
    os.waitpid(pid, 0)
    return took


def whole_run(argv: list[str]) -> float:
    """Return seconds from spawn to the end of the process."""
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[SILENT, QUIET])
    os.waitpid(pid, 0)
    return time.perf_counter() - began


def variants(
    scratch: str, others: list[str]
) -> dict[str, tuple[Callable[[list[str]], float], list[str]]]:
    """Return the measurements by name, the bare interpreter first.

    Args:
        scratch: a directory for a virtual environment.
        others: launchers of other versions, measured as units too.
    """
    installed = launcher(scratch)
    python = str(Path(installed).with_name("python3"))
    (site,) = Path(installed).parent.parent.glob("lib/python3*/site-packages")
    tail = ["--", *APPLICATION]
    certificate = write_certificate(Path(scratch))
    secure = partial(first_byte, context=client_context())
    return {
        BARE: (whole_run, [python, "-I", "-S", "-c", "pass"]),
        OURS: (first_byte, [*AS_UNIT, installed, *tail]),
        TLS: (secure, [*AS_UNIT, installed, f"--tls-cert={certificate}", *tail]),
        GUARDED: (first_byte, [installed, *tail]),
        "python3 -I -S -c, bridge": (
            first_byte,
            [python, "-I", "-S", "-c", IMPORT.format([str(site), ROOT]), *tail],
        ),
        "/bin/echo alone": (whole_run, APPLICATION),
        **{other: (first_byte, [*AS_UNIT, other, *tail]) for other in others},
    }


def show(figure: Figure, name: str) -> None:
    """Print one line: the median, and its ratio to the bare interpreter."""
    ratios = figure.ratios(name, BARE)
    tenths = statistics.quantiles(ratios, n=10)
    print(
        f"{name:26} {statistics.median(figure.values[name]):7.1f} ms"
        f"   {statistics.median(ratios):5.2f}x  ({tenths[0]:.2f} to {tenths[-1]:.2f})"
    )


def main() -> int:
    bench = Bench("coldstart", __doc__ or "", ROUNDS)
    add = bench.parser.add_argument
    add("--launcher", action="append", metavar="PATH", help="of another version")
    args = bench.parser.parse_args()
    bench.reference = BARE
    plain, secure = (
        bench.figure(name, "ms", (Bound(most=BOUNDS[program], against=BARE),))
        for name, program in (
            ("cold start, to the first byte", OURS),
            ("cold start over TLS, to the first byte", TLS),
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        measured = variants(scratch, args.launcher or [])
        for turn in range(args.rounds + 3):
            for name, (measure, argv) in measured.items():
                took = measure(argv)
                if turn >= 3 and name != TLS:
                    plain.add(name, took * 1000)
                if turn >= 3 and name in (BARE, TLS):
                    secure.add(name, took * 1000)
    print(f"{bench.about}, {args.rounds} rounds; {machine()}, load {bench.load:.1f}")
    print(f"{'':26} {'median':>10}   over bare (tenth to ninth tenth)")
    for name in measured:
        show(secure if name == TLS else plain, name)
    bench.save(args)
    ratios = {OURS: plain.ratios(OURS, BARE), TLS: secure.ratios(TLS, BARE)}
    kept = {name: statistics.median(ratios[name]) <= BOUNDS[name] for name in BOUNDS}
    for name, within in kept.items():
        print(f"{name}: {'within' if within else 'OVER'} {BOUNDS[name]}x")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
