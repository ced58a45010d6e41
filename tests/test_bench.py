"""Each benchmark, as small as it can be: it runs, and writes what it has measured.

What it says of time and memory is not judged here: other tests run beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import machine
from launch import ROOT
from settling import MARK, marked

BENCH = Path(__file__).parent / "bench"
OURS = "chimirror-server, lines"
SMALL = {
    "beside_bulk": "--rounds=1 --count=5 --only=lines",
    "coldstart": "--rounds=2",
    "connect": "--rounds=1 --seconds=0.05 --clients=2 --only=lines,bare",
    "ctl": "--rounds=1",
    "echo": "--rounds=1 --count=5 --seconds=0.01 --only=lines,json",
    "idle_cpu": "--rounds=1 --sessions=20 --seconds=0.1 --only=lines,socat",
    "memory": "--sessions=50,100 --only=lines,socat",
    "oneway": "--rounds=1 --seconds=0.01 --only=lines,json",
    "units": "--rounds=1 --seconds=0.5 --clients=2",
    "warm": "--rounds=2",
}
FIGURES = {
    "beside_bulk": "echo beside bulk p99",
    "coldstart": "cold start, to the first byte",
    "connect": "connections, 2 clients",
    "ctl": "1500 sessions listed, clock",
    "echo": "echo 64 B, pipelined",
    "idle_cpu": "pings to each session",
    "memory": "together, 100 sessions",
    "oneway": "out, 4 KiB",
    "units": "sessions, 2 clients",
    "warm": "first byte",
}
WHO = {
    "coldstart": "chimirror-bridge",
    "ctl": "chimirror-ctl sessions",
    "units": "chimirror@.service",
    "warm": "chimirror-server --preload",
}


def test_all_are_here() -> None:
    """But for one that has tests of its own."""
    found = {path.stem.removeprefix("bench_") for path in BENCH.glob("bench_*.py")}
    assert found == {*SMALL, "density"}


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("name", SMALL)
def test_small_run(name: str, tmp_path: Path) -> None:
    if name == "units" and (lacking := machine.missing()):
        pytest.skip(lacking)
    argv = [sys.executable, "-P", str(BENCH / f"bench_{name}.py"), *SMALL[name].split()]
    env = os.environ | {"PYTHONPATH": ROOT, MARK: str(tmp_path)}
    done = subprocess.run(
        [*argv, f"--results={tmp_path}"], env=env, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert done.stderr == ""
    record = json.loads((tmp_path / f"{name}.json").read_text())
    values = {figure["name"]: figure["values"] for figure in record["figures"]}
    assert all(value >= 0 for value in values[FIGURES[name]][WHO.get(name, OURS)])
    assert not marked(str(tmp_path))
