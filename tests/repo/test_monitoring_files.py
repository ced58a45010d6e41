"""examples/monitoring: series and labels exist, and the dashboard is well-formed.

tests/fleet/test_monitoring.py gives the files to promtool. No program here reads a
dashboard as Grafana does, so the tests check its structure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from chimirror.metrics.families import FAMILIES, HISTOGRAM

FILES = Path(__file__).parents[2] / "examples" / "monitoring"
SERIES = {
    family.name + suffix: {*family.labels, *(("le",) if suffix == "_bucket" else ())}
    for family in FAMILIES
    for suffix in (("_bucket", "_count", "_sum") if family.kind == HISTOGRAM else ("",))
}
OF_PROMETHEUS = {"instance", "job"}
SELECTOR = re.compile(r"(?<!:)\b(chimirror_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+) *(?:=~|!~|!=|=) *\"")
GROUPING = re.compile(r"\b(?:by|without|on) *\(([^)]*)\)")
UNITS = {"short", "percentunit", "ops", "s", "Bps"}
KINDS = {"stat": "graphMode", "timeseries": "legend", "heatmap": "color"}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions(file: str) -> Iterator[str]:
    if file == "dashboard.json":
        for panel in panels():
            yield from (target["expr"] for target in panel["targets"])
        for variable in dashboard()["templating"]["list"]:
            yield variable.get("definition", "")
        return
    for line in (FILES / file).read_text().splitlines():
        if not line.lstrip().startswith(("#", "summary:", "description:", "- name:")):
            yield line


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml", "alerts_test.yml"])
def test_every_series_and_label_exists(file: str) -> None:
    found = 0
    for expression in expressions(file):
        known = set(OF_PROMETHEUS)
        for name, selector in SELECTOR.findall(expression):
            assert name in SERIES, expression
            assert set(LABEL.findall(selector)) <= SERIES[name] | OF_PROMETHEUS, name
            known |= SERIES[name]
            found += 1
        for labels in GROUPING.findall(expression) if known != OF_PROMETHEUS else ():
            names = {label.strip() for label in labels.split(",")} - {""}
            assert names <= known, expression
    assert found > len(FAMILIES) // 2


def test_the_dashboard_shows_every_family() -> None:
    text = " ".join(expressions("dashboard.json"))
    assert all(family.name in text for family in FAMILIES)


def test_the_panels_of_the_dashboard() -> None:
    found = dashboard()
    assert {"title", "uid", "schemaVersion", "time", "refresh"} <= found.keys()
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["datasource"] == source
        assert KINDS[panel["type"]] in panel["options"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["fieldConfig"]["overrides"] == []
        targets = panel["targets"]
        assert [one["refId"] for one in targets] == list("ABC"[: len(targets)])
        assert all(one["datasource"] == source for one in targets)


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= 24 for one in places)
    for one, other in combinations(places, 2):
        beside = (
            one["x"] >= other["x"] + other["w"] or other["x"] >= one["x"] + one["w"]
        )
        below = one["y"] >= other["y"] + other["h"] or other["y"] >= one["y"] + one["h"]
        assert beside or below, (one, other)


def test_the_variables_of_the_dashboard() -> None:
    """Each is used, and each that is used is defined, or Grafana's own."""
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}
    text = (FILES / "dashboard.json").read_text()
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == names == {"datasource", "instance", "application"}
