"""What the benchmarks' report makes of their files, and that the README says the same.

Law: nothing is measured; the files are made up, but for those that stand in the tree.
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

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "tests" / "bench" / "report.py"
BLOCK = re.compile(
    r"<!-- by tests/bench/report\.py -->\n(.*?)<!-- to here -->\n", re.DOTALL
)
IMAGE = re.compile(r"!\[[^]]*\]\(([^)]*)\)")
OURS = "chimirror-server, lines"
MISSED = [
    {"word": "MISSED", "bound": "at most 0.6x", "value": "0.7", "against": "websocketd"}
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


def told(path: Path) -> list[str]:
    """The table and what belongs to it, without pictures."""
    (block,) = BLOCK.findall(path.read_text())
    return [line for line in block.splitlines() if line and line[0] != "!"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A tree for which the report has been made."""
    first = figure("first byte p50, 1 client", "ms", ours=[7, 6], websocketd=[10, 10])
    first["verdicts"] = {OURS: MISSED}
    rate = figure("connections, 8 clients", "per s", ours=[10])
    rate["values"]["(bare C server)"] = [12345]
    busy = figure("load client's CPU, 8 clients", "cores", ours=[0.25])
    busy["values"]["(bare C server)"] = [0.5]
    memory = [
        figure(f"together, {n} sessions", "kB each", ours=[90], websocketd=[most])
        for n, most in ((500, 300), (2000, 400))
    ]
    density = figure("together, 50000 sessions", "kB each", ours=[95])
    stopped = {"websocketd": [3900, "lost"]}
    results = tmp_path / "results"
    results.mkdir()
    for one in (
        record("connect", first, rate, busy),
        record("memory", *memory, stopped=stopped),
        record("density", density),
    ):
        (results / f"{one['bench']}.json").write_text(json.dumps(one))
    place = tmp_path / "tests" / "bench"
    place.mkdir(parents=True)
    readme = tmp_path / "README.md"
    readme.write_text(
        "a\n<!-- by tests/bench/report.py -->\nold\n<!-- to here -->\nb\n"
    )
    subprocess.run([sys.executable, "-P", REPORT, results, tmp_path], check=True)
    return tmp_path


def test_results(written: Path) -> None:
    lines = (written / "tests/bench/RESULTS.md").read_text().splitlines()
    promised = "at most 0.6x of websocketd: MISSED"
    row = f"| first byte p50, 1 client | {OURS} | 6.5 ms | 0.65 (0.60 to 0.70)"
    assert f"{row} | {promised} |" in lines
    assert f"- first byte p50, 1 client, {OURS}: {promised}, is 0.7" in lines
    assert (
        "The load client is not the bottleneck: out of a bare C server it gets 12,345 "
        "per s with 8 clients, where it uses 0.5 of a core (with all others at most "
        "0.25)." in lines
    )
    assert "websocketd stopped after 3,900 sessions: lost." in lines


def test_readme(written: Path) -> None:
    readme = written / "README.md"
    text = readme.read_text()
    assert text.startswith("a\n<!--")
    assert text.endswith("-->\nb\n")
    assert "old" not in text
    row = "| first byte, 1 client | 6.5 ms | 10 ms | 0.65 | at most 0.6x, MISSED |"
    assert row in told(readme)
    assert told(readme) == told(written / "tests/bench/RESULTS.md")


def test_plot(written: Path) -> None:
    root = ElementTree.parse(written / "tests/bench/memory.svg").getroot()
    names = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {OURS, "websocketd", "500", "2,000", "50,000"} <= set(names)
    lines = [one for one in root.iter() if one.tag.endswith("polyline")]
    assert [len(one.attrib["points"].split()) for one in lines] == [3, 2]
    assert not (written / "tests/bench/connections.svg").exists()


def test_no_results(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", REPORT, tmp_path, tmp_path],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, f"no results in {tmp_path}\n")


# What stands in the tree


def test_readme_quotes_the_results() -> None:
    quoted = told(ROOT / "README.md")
    assert quoted == told(ROOT / "tests/bench/RESULTS.md")
    assert len(quoted) > 10


@pytest.mark.parametrize("name", ["README.md", "tests/bench/RESULTS.md"])
def test_pictures(name: str) -> None:
    path = ROOT / name
    pictures = IMAGE.findall(path.read_text())
    assert pictures
    for picture in pictures:
        ElementTree.parse(path.parent / picture)
