"""The report of the benchmarks, and the figures that README.md quotes from it.

Nothing is measured. The results are made up, except for those in the tree.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from summary_table import MOST_IMPORTANT

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "tests" / "bench" / "report.py"
BLOCK = re.compile(
    r"<!-- by tests/bench/report\.py -->\n(.*?)<!-- to here -->\n", re.DOTALL
)
IMAGE = re.compile(r"!\[[^]]*\]\(([^)]*)\)")
OURS = "chimirror-server, lines"
MISSED = [
    {
        "word": "not reached",
        "bound": "at most 0.6x",
        "value": "0.7",
        "against": "websocketd",
    }
]


def figure(name: str, unit: str, **values: list[float]) -> dict[str, Any]:
    named = {OURS: values.pop("ours"), **values}
    return {"name": name, "unit": unit, "values": named, "verdicts": {}}


def record(bench: str, *figures: dict[str, Any], **more: object) -> dict[str, Any]:
    return {
        "bench": bench,
        "about": f"About {bench}",
        "machine": "2 cores",
        "load": 0.25,
        "rounds": 2,
        "reference": "websocketd",
        "contenders": [{"name": "websocketd", "version": "0.5"}],
        "figures": list(figures),
        **more,
    }


def tables(path: Path) -> list[str]:
    """Return the tables and their text without pictures."""
    (block,) = BLOCK.findall(path.read_text())
    return [line for line in block.splitlines() if line and line[0] != "!"]


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """Return a tree for which the report has been made."""
    first = figure("first byte p50, 1 client", "ms", ours=[7, 6], websocketd=[10, 10])
    first["verdicts"] = {OURS: MISSED}
    rate = figure("connections, 8 clients", "per s", ours=[10])
    rate["values"]["(bare C server)"] = [12345]
    busy = figure("load client's CPU, 8 clients", "cores", ours=[0.25])
    busy["values"]["(bare C server)"] = [0.5]
    memory = [
        figure(f"together, {n} sessions", "kB each", ours=[90], websocketd=[largest])
        for n, largest in ((500, 300), (2000, 400))
    ]
    density = figure("together, 50000 sessions", "kB each", ours=[95])
    stopped = {"websocketd": [3900, "lost"]}
    results = tmp_path / "results"
    results.mkdir()
    for element in (
        record("connect", first, rate, busy),
        record("memory", *memory, stopped=stopped),
        record("density", density),
    ):
        (results / f"{element['bench']}.json").write_text(json.dumps(element))
    directory = tmp_path / "tests" / "bench"
    directory.mkdir(parents=True)
    readme = tmp_path / "README.md"
    readme.write_text(
        "a\n<!-- by tests/bench/report.py -->\nold\n<!-- to here -->\nb\n"
    )
    subprocess.run([sys.executable, "-P", REPORT, results, tmp_path], check=True)
    return tmp_path


def test_results(reported: Path) -> None:
    lines = (reported / "tests/bench/RESULTS.md").read_text().splitlines()
    goal = "at most 0.6x of websocketd: not reached"
    row = f"| first byte p50, 1 client | {OURS} | 6.5 ms | 0.65 (0.60 to 0.70)"
    assert f"{row} | {goal} |" in lines
    assert f"- first byte p50, 1 client, {OURS}: {goal}, is 0.7" in lines
    assert (
        "The load client is not the bottleneck: from a bare C server it gets 12,345 "
        "per s with 8 clients, where it uses 0.5 of a core (with all others at most "
        "0.25)." in lines
    )
    assert "websocketd stopped after 3,900 sessions: lost." in lines


def test_readme(reported: Path) -> None:
    readme = reported / "README.md"
    text = readme.read_text()
    assert text.startswith("a\n<!--")
    assert text.endswith("-->\nb\n")
    assert "old" not in text
    row = "| first byte, 1 client | 6.5 ms | 10 ms | 0.65"
    assert f"{row} | at most 0.6x, not reached |" in tables(readme)
    assert {*tables(readme)} <= {*tables(reported / "tests/bench/RESULTS.md")}


def test_plot(reported: Path) -> None:
    root = ElementTree.parse(reported / "tests/bench/memory.svg").getroot()
    names = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {OURS, "websocketd", "500", "2,000", "50,000"} <= set(names)
    lines = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert [len(element.attrib["points"].split()) for element in lines] == [3, 2]
    assert not (reported / "tests/bench/connections.svg").exists()


def test_no_results(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-P", REPORT, tmp_path, tmp_path],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (1, f"no results in {tmp_path}\n")


# The files in the tree


def test_readme_quotes_the_results() -> None:
    lines = tables(ROOT / "README.md")
    assert {*lines} < {*tables(ROOT / "tests/bench/RESULTS.md")}
    head = 3  # machine, columns, rule
    assert len(lines) == head + len(MOST_IMPORTANT)


def test_pictures() -> None:
    path = ROOT / "tests/bench/RESULTS.md"
    pictures = IMAGE.findall(path.read_text())
    assert pictures
    for picture in pictures:
        ElementTree.parse(path.parent / picture)
