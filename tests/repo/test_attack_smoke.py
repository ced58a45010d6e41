"""Attacks of each kind run with two clients and leave nothing behind.

Times are not judged here, since other tests run at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attack import COLUMNS, cells, notes
from attacks import ATTACKS
from processes import MARK, marked
from serve import ROOT

ATTACK = Path(__file__).parents[1] / "attack" / "attack.py"
# One of each kind. `make attack` runs all.
SMALL_RUNS = ("none", "pings", "refusals", "control-json", "app-syntax")


def test_every_attack_has_clients_and_bytes_or_a_function() -> None:
    for name, attack in ATTACKS.items():
        silent = name in {"silent", "none"}
        assert silent or attack.run or attack.behaviour.request, name
        assert attack.about
        assert len(name) < COLUMNS[0][1]


@pytest.mark.parametrize("name", SMALL_RUNS)
def test_small_run(name: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-P", str(ATTACK), name, "--clients=2", "--seconds=0.2"]
    env = os.environ | {"PYTHONPATH": ROOT, MARK: str(tmp_path)}
    result = subprocess.run(
        [*argv, f"--results={tmp_path}"], env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    row = json.loads((tmp_path / f"{name}.json").read_text())
    assert row["left"] == [0, 0, 0, 0], row
    assert row["left_after_end"] == 0
    assert row["listed"]
    assert (row["exited"], row["workers"]) == (None, 1)
    assert row["counts"]
    assert row["echo"]["count"] > 0
    assert row["echo"]["lost"] == 0
    assert row["starts"]["count"] > 0
    assert "-" not in cells(row)
    assert notes(row)
    assert not marked(str(tmp_path))
