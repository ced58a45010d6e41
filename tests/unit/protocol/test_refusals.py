"""Refusals worth another attempt: the same in manual, server and all clients.

tests/unit/client/test_failover.py and tests/browser/test_js_token.py test the clients.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
CASES = json.loads((ROOT / "tests/support/status_cases.json").read_text())
RETRY = {case["status"] for case in CASES if case["retry"]}
WAITS = {case["status"] for case in CASES if case["waits"]}
STATUSES = {case["status"] for case in CASES}
PAGES = ("chimirror-protocol.7", "chimirror-client.3", "chimirror-connect.1")


def manual(name: str) -> str:
    return (ROOT / "man" / name).read_text()


def test_every_status_of_the_server_is_a_case() -> None:
    sources = [path.read_text() for path in (ROOT / "chimirror").rglob("*.py")]
    used = {
        int(status)
        for text in sources
        for status in re.findall(r"HTTPError\(\s*(\d{3})", text)
    }
    page = manual("chimirror-protocol.7")
    refusals = page[page.index(".Sh REFUSALS") : page.index(".Sh MANIFEST")]
    listed = {int(status) for status in re.findall(r"^\.It (\d{3})$", refusals, re.M)}
    assert len(used) > 10
    assert used <= listed <= STATUSES


def test_the_manual_names_the_cases() -> None:
    assert {s for s in STATUSES if s in (408, 429) or s >= 500} == RETRY
    for name in (*PAGES, "chimirror.js.3"):
        assert "408, 429 " in manual(name).replace("\n", " "), name
    assert {429, 503} == WAITS
    assert "A 503 or 429 may have a Retry-After" in manual("chimirror-client.3")
    assert "Retry-After No with 429 or 503" in manual("chimirror.js.3")
    final = "Every other refusal is final: with 401 and 403"
    assert final in manual("chimirror-protocol.7")
