"""examples/monitoring, as Prometheus' own tool reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "examples" / "monitoring"


@pytest.mark.parametrize(
    "words",
    [
        "check config prometheus.yml",
        "check rules alerts.yml",
        "test rules alerts_test.yml",
    ],
)
def test_promtool(words: str) -> None:
    argv = ["promtool", *words.split()]
    done = subprocess.run(argv, cwd=FILES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize(
    ("rule", "spoiled"),
    [
        ('up{job="chimirror"} == 0', 'up{job="chimirror"} == 2'),
        ("> 0.85", "> 0.95"),
        ("chimirror_loop_lag_seconds > 1", "chimirror_loop_lag_seconds > 5"),
        ("> 100", "> 100000"),
        ("|lost|", "|"),
    ],
)
def test_the_tests_notice_a_wrong_rule(tmp_path: Path, rule: str, spoiled: str) -> None:
    for name in ("alerts.yml", "alerts_test.yml"):
        shutil.copy(FILES / name, tmp_path)
    rules = tmp_path / "alerts.yml"
    text = rules.read_text()
    assert rule in text
    rules.write_text(text.replace(rule, spoiled))
    argv = ["promtool", "test", "rules", "alerts_test.yml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr
