"""Each benchmark runs at its smallest size and writes its results.

Times and memory are not judged here, since other tests run at the same time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import systemd_machine
from processes import MARK, marked
from serve import ROOT

BENCH = Path(__file__).parents[1] / "bench"
OURS = "chimirror-server, lines"
SMALL_RUNS = {
    "acp": "--rounds=1",
    "beside_bulk": "--rounds=1 --count=5 --only=lines",
    "coldstart": "--rounds=2",
    "connect": "--rounds=1 --seconds=0.05 --kept=20 --clients=2 --only=lines,bare",
    "ctl": "--rounds=1 --sessions=5",
    "echo": "--rounds=1 --count=5 --seconds=0.01 --only=lines,json",
    "idle_cpu": "--rounds=1 --sessions=2 --seconds=0.1 --only=lines,socat",
    "memory": "--sessions=50,100 --only=lines,socat",
    "oneway": "--rounds=1 --seconds=0.01 --only=lines,json",
    "services": "--rounds=1 --seconds=0.001 --sizes=64,70000",
    "spares": "--rounds=1 --programs=python3",
    "tls": "--rounds=1 --seconds=0.01 --sessions=5 --only=lines,haproxy,--binary",
    "units": "--rounds=1 --seconds=0.05 --clients=2",
    "warm": "--rounds=1",
}
FIGURES = {
    "acp": "first answer",
    "beside_bulk": "echo beside bulk p99",
    "coldstart": "cold start, to the first byte",
    "connect": "connections, 2 clients",
    "ctl": "5 sessions listed, clock",
    "echo": "echo 64 B, pipelined",
    "idle_cpu": "pings to each session",
    "memory": "coming, 100 sessions",  # the memory of all processes may have shrunk
    "oneway": "out, 4 KiB",
    "services": "round trip, 70000 B",
    "spares": "first echo, python3",
    "tls": "sessions, 8 clients",
    "units": "sessions, 2 clients",
    "warm": "first byte",
}
PROGRAMS = {
    "acp": "chimirror-server --preload",
    "coldstart": "chimirror-bridge",
    "ctl": "chimirror-ctl sessions",
    "services": "shared memory, eventfd",
    "spares": "chimirror-server --spares=8",
    "units": "chimirror@.service",
    "warm": "chimirror-server --preload",
}


def test_every_benchmark_is_listed() -> None:
    """Every benchmark is listed, except one that has tests of its own."""
    found = {path.stem.removeprefix("bench_") for path in BENCH.glob("bench_*.py")}
    assert found == {*SMALL_RUNS, "density"}


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("name", SMALL_RUNS)
def test_small_run(name: str, tmp_path: Path) -> None:
    if name == "units" and (reason := systemd_machine.missing()):
        pytest.skip(reason)
    argv = [
        sys.executable,
        "-P",
        str(BENCH / f"bench_{name}.py"),
        *SMALL_RUNS[name].split(),
    ]
    env = os.environ | {"PYTHONPATH": ROOT, MARK: str(tmp_path)}
    result = subprocess.run(
        [*argv, f"--results={tmp_path}"], env=env, capture_output=True, text=True
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    assert result.stderr == ""
    record = json.loads((tmp_path / f"{name}.json").read_text())
    values = {figure["name"]: figure["values"] for figure in record["figures"]}
    assert all(value >= 0 for value in values[FIGURES[name]][PROGRAMS.get(name, OURS)])
    assert not marked(str(tmp_path))
