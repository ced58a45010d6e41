"""Runs the density benchmark with few sessions. All must work and leave nothing.

Times and memory are not checked, because other tests run at the same time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import MARK, marked
from serve import ROOT

BENCH = Path(__file__).parents[1] / "bench"
LIMITS = ("kernel/pid_max", "kernel/threads-max", "fs/file-max")
SESSIONS = 50


def begin(results: Path, *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-P", str(BENCH / "bench_density.py")]
    argv += [f"--sessions={SESSIONS}", f"--results={results}", *options]
    env = os.environ | {"PYTHONPATH": ROOT, MARK: str(results)}
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=env)


def limits() -> list[str]:
    return [Path("/proc/sys", name).read_text() for name in LIMITS]


def test_small_run(tmp_path: Path) -> None:
    before = limits()
    with begin(tmp_path, "--hold=0.05") as process:
        said, wrong = process.communicate(timeout=200)
    assert (process.returncode, wrong) == (0, ""), said
    found = json.loads((tmp_path / "density.json").read_text())
    values = {one["name"]: one["values"] for one in found["figures"]}
    assert values["sessions"] == {"chimirror-server, lines": [SESSIONS]}
    assert f"together, {SESSIONS} sessions" in values
    assert [row["sessions"] for row in found["growth"]] == [SESSIONS]
    assert limits() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: int, tmp_path: Path) -> None:
    before = limits()
    with begin(tmp_path, "--hold=50") as process:
        assert process.stdout
        for line in process.stdout:
            if "echoes per second" in line:
                process.send_signal(number)
        process.wait(30)
    assert process.returncode == 128 + signal.SIGINT
    assert not (tmp_path / "density.json").exists()
    assert limits() == before
    assert not marked(str(tmp_path))
