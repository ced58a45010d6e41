"""Attacks on a real chimirror-server, and what they cost others: `make attack`.

Each attack gets a server of its own on loopback, with one worker. During the attack a
neighbour in that worker echoes a line each 15 ms, and a starter opens a session each
200 ms. The table shows what they noticed, what the server used, and what was left of
the attack afterwards. `--server` attacks another installation, to compare versions.
Everything ends by itself, within a bounded time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

sys.path += [
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "support"),
    str(Path(__file__).parents[1] / "bench"),
]

from attacks import ATTACKS, Attack, Scene
from harness import machine, pause
from probes import Neighbour, Starter, open_session
from target import WATCHDOG, Child, Left, Target, Usage, isolate_run, raise_limits

RESULTS = Path(__file__).parents[2] / "build" / "attack"
SECONDS = 12.0
SETTLE = 15.0  # seconds for the rest of an attack to be cleared up
EXTRA = 60.0  # seconds after its end until a child is killed
WAY_DOWN = 60.0  # seconds for the server to end
SAMPLE = 0.1
WARM_UP = 0.5  # seconds of the neighbour before the attack
SEED = "masks of frames: random.Random(6455)"
COLUMNS = (
    ("attack", 18),
    ("clients", 7),
    ("sent MB", 8),
    ("CPU %", 6),
    ("worker MB", 10),
    ("all MB", 8),
    ("echo p50", 9),
    ("p99", 9),
    ("max ms", 9),
    ("starts", 7),
    ("p50", 9),
    ("max ms", 9),
    ("failed", 7),
    ("clear s", 8),
    ("left p/d/f/s", 13),
    ("end s", 6),
)
FOOT = """\
sent: bytes of the attacking clients. CPU: of worker, zygote and supervisor. MB: growth
of the peak memory, of the worker and of all three. echo: 64 bytes of a neighbour, a
line each 15 ms. starts: new sessions, one each 200 ms, to the 101 response. clear:
until the server held no more than before, at most {settle:.0f} s. left: processes,
descriptors, files in the runtime directory, sessions and handshakes. end: from SIGTERM
to the exit.
The attacking clients share the cores with the server. Their priority is lower, that of
the two measuring clients is higher (as root)."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("attacks", nargs="*", metavar="ATTACK", help="some of them (all)")
    add("--list", action="store_true", help="list the attacks and exit")
    add("--clients", type=int, metavar="N", help="number of attacking clients")
    add("--seconds", type=float, default=SECONDS, help=f"of each attack ({SECONDS:g})")
    add("--server", metavar="PATH", help="chimirror-server of another installation")
    add("--results", type=Path, default=RESULTS, metavar="DIRECTORY")
    args = parser.parse_args()
    if unknown := set(args.attacks) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}; see --list")
    args.server = args.server or own_server()
    if not os.access(args.server, os.X_OK):
        parser.error(f"no program {args.server}")
    return args


def run(name: str, attack: Attack, args: argparse.Namespace) -> dict[str, Any]:
    """Run one attack on a server of its own. Returns its row."""
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        directory = Path(scratch)
        files = {
            file: text.replace("DIRECTORY", f"{directory}/apps")
            for file, text in attack.files.items()
        }
        target = Target(
            args.server,
            directory,
            {"target.toml": attack.app, **files},
            attack.options,
            fifos=attack.fifos,
            reads_log=attack.reads_log,
        )
        try:
            clients = args.clients if args.clients is not None else attack.clients
            row = measure(target, attack, clients, args.seconds)
            row["exited"] = target.process.poll()
            row["end"] = target.terminate(WAY_DOWN, attack.again)
        finally:
            rest = target.end()
    row["name"], row["clients"], row["left_after_end"] = name, clients, rest["left"]
    row["log_bytes"], row["log_tail"] = rest["log"]["bytes"], rest["log"]["tail"]
    return row


def measure(
    target: Target, attack: Attack, clients: int, seconds: float
) -> dict[str, Any]:
    """Attack while the neighbour and the starter are served."""
    load = os.getloadavg()[0]
    open_session(target.address, "/echo", EXTRA).close()  # it loads what sessions need
    target.await_clean(EXTRA)
    before, own = target.holds(), target.own()
    limit = monotonic() + seconds + EXTRA
    neighbour = Child(Neighbour(target.address, "/echo", limit).run, -10)
    watch(target, None, WARM_UP)
    usage = Usage(target)
    workers = target.workers()
    starter = Child(Starter(target.address, "/echo", limit).run, -10)
    began = monotonic()

    def attacking(stop: int) -> dict[str, Any]:
        return attack.start(
            Scene(
                target.address,
                clients,
                stop,
                began + seconds,
                workers[0],
                target.runtime_directory,
            )
        )

    attackers = Child(attacking, 5)
    watch(target, usage, seconds)
    usage.sample()
    took = monotonic() - began
    row: dict[str, Any] = {
        "load": load,
        "seconds": took,
        "counts": attackers.finish(EXTRA),
        "starts": starter.finish(EXTRA),
        "echo": neighbour.finish(EXTRA),
    }
    row["worker_mb"], _ = usage.growth(usage.workers)
    row["all_mb"], cpu = usage.growth()
    row["cpu"] = 100 * cpu / took
    row["clear"], left = settle(target, before, own)
    row["left"] = list(left)
    row["listed"] = target.lists_echo()
    row["workers"] = len(usage.workers)
    row["watchdog_gap"] = target.hungry
    return row


def watch(target: Target, usage: Usage | None, seconds: float) -> None:
    """Sample the server for some seconds."""
    end = monotonic() + seconds
    while (now := monotonic()) < end:
        if usage is not None:
            usage.sample()
        target.watch()
        pause(min(SAMPLE, end - now))


def settle(target: Target, before: Left, own: list[int]) -> tuple[float, Left]:
    """Wait until the server holds no more than before. Returns seconds and the rest.

    Args:
        target: the server.
        before: what it held then.
        own: its processes then. Descriptors of others cannot be compared.
    """
    began = monotonic()
    while True:
        left = target.holds().over(before)
        if target.own() != own:
            left = left._replace(descriptors=0)
        waited = monotonic() - began
        target.watch()
        if not any(left) or waited > SETTLE or target.process.poll() is not None:
            return waited, left
        pause(SAMPLE)


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row as text."""
    counts, echo, starts = row["counts"] or {}, row["echo"] or {}, row["starts"] or {}
    sent = counts.get("bytes", 0) / 1e6
    return [
        row["name"],
        str(row["clients"]),
        f"{sent:.1f}",
        f"{row['cpu']:.0f}",
        f"{row['worker_mb']:.1f}",
        f"{row['all_mb']:.1f}",
        *(number(echo.get(key)) for key in ("p50", "p99", "max")),
        str(starts.get("count", "-")),
        *(number(starts.get(key)) for key in ("p50", "max")),
        str(sum(starts.get("failed", {}).values())),
        f"{row['clear']:.1f}",
        "/".join(map(str, row["left"])),
        number(row["end"]),
    ]


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def notes(row: dict[str, Any]) -> list[str]:
    """Return what the columns do not show."""
    echo, starts = row["echo"] or {"lost": "?"}, row["starts"] or {"failed": "?"}
    found = [
        f"{key} {value:,}" for key, value in (row["counts"] or {}).items() if value
    ]
    found += [f"log {row['log_bytes'] / 1e6:.1f} MB"] * (row["log_bytes"] > 1e6)
    found += [f"FAILED STARTS {starts['failed']}"] * bool(starts["failed"])
    found += [f"NEIGHBOUR LOST {echo['lost']} times"] * bool(echo["lost"])
    found += [f"WORKERS {row['workers']}"] * (row["workers"] > 1)
    found += ["LIST of applications lacks /echo"] * (not row["listed"])
    if row["exited"] is not None:
        found.append(f"SERVER EXITED {row['exited']}")
    if row["end"] is None:
        found.append(f"NOT ENDED within {WAY_DOWN:.0f} s, killed")
    elif row["left_after_end"]:
        found.append(f"PROCESSES LEFT after the end {row['left_after_end']}")
    if row["watchdog_gap"] > WATCHDOG:
        found.append(f"WATCHDOG not told for {row['watchdog_gap']:.0f} s")
    return [*found, f"load {row['load']:.1f}"]


def line(texts: list[str]) -> str:
    widths = [width for _, width in COLUMNS]
    first, *rest = (
        text.ljust(width) if number == 0 else text.rjust(width)
        for number, (text, width) in enumerate(zip(texts, widths, strict=True))
    )
    return " ".join([first, *rest]).rstrip()


def own_server() -> str:
    return str(Path(sys.executable).with_name("chimirror-server"))


def main() -> int:
    args = parse()
    if args.list:
        for name, attack in ATTACKS.items():
            print(f"{name:18} {attack.clients:5}  {attack.about}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    isolate_run()
    raise_limits()
    args.results.mkdir(parents=True, exist_ok=True)
    print(f"{args.server}\n{machine()}, load {os.getloadavg()[0]:.1f} before")
    print(f"repeat: make attack ARGS={' '.join(sys.argv[1:])!r}; {SEED}\n")
    print(line([name for name, _ in COLUMNS]))
    for name in args.attacks or ATTACKS:
        row = run(name, ATTACKS[name], args)
        print(line(cells(row)))
        print(f"    {', '.join(notes(row))}", flush=True)
        (args.results / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(f"\n{FOOT.format(settle=SETTLE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
