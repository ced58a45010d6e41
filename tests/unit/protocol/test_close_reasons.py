"""The table of close reasons equals the one in chimirror-protocol(7).

So do the closes after which another session may succeed, here and in the clients.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from chimirror.client.close_text import CLOSE_CODES, is_retry_useful
from chimirror.framing.registry import FRAMINGS
from chimirror.protocol import CLOSE_REASONS, CONTROL, EXIT_STATUS, RECEIVE, jsonrpc

ROOT = Path(__file__).parents[3]
MAX_REASON = 123  # bytes of a reason in a close frame, RFC 6455, section 5.5


def rows_of_manual() -> list[tuple[int, str, str, str]]:
    """Return code, pattern, scope and meaning of each reason of the section CLOSE."""
    page = (ROOT / "man" / "chimirror-protocol.7").read_text()
    section = page[page.index(".Sh CLOSE") : page.index(".It 1006")]
    rows = []
    for item in section.split("\n.It ")[1:]:
        code, _, rest = item.partition("\n")
        for entry in re.split(r"^\.Dq ", rest, flags=re.MULTILINE)[1:]:
            pattern, _, text = entry.partition("\n")
            scope = re.match(r"\.Pq (\w+) :\n", text)
            if scope is not None:
                text = text[scope.end() :]
            text = re.sub(r"^\.Fl \\-(\S+) ", r"--\1", text, flags=re.MULTILINE)
            meaning = " ".join(text.split())
            place = scope[1] if scope else ""
            rows.append((int(code), pattern.removesuffix(" :"), place, meaning))
    return rows


def test_table_equals_manual() -> None:
    shown = rows_of_manual()
    expected = [
        (reason.code, reason.pattern, reason.scope, reason.meaning)
        for reason in CLOSE_REASONS
    ]
    assert [row[:3] for row in shown] == [row[:3] for row in expected]
    for (*_, told), (*_, meaning) in zip(shown, expected, strict=True):
        # The manual may add details after the meaning.
        assert re.match(re.escape(meaning) + r"[.,]", told)


def rows_for_retry() -> dict[str, str]:
    """Return the table of the subsection Retry: reasons by their code."""
    page = (ROOT / "man" / "chimirror-protocol.7").read_text()
    table = page.partition(".Ss Retry")[2].partition(".El")[0]
    return dict(re.findall(r"^\.It (\d+) Ta (.+)$", table, re.MULTILINE))


def test_closes_worth_another_session() -> None:
    """The server, the Python library and the manual give what the cases say."""
    manual = rows_for_retry()
    assert manual.pop("1001") == "Dq drain , No or none"
    assert set(manual.values()) == {"any"}
    cases = json.loads((ROOT / "tests/support/retry_cases.json").read_text())
    for case in cases:
        code, reason = case["code"], case["reason"]
        assert is_retry_useful(code, reason) is case["retry"], case
        in_manual = (code, reason) in ((1001, "drain"), (1001, ""))
        assert case["retry"] is (in_manual or str(code) in manual), case
    known = {(case["code"], case["reason"]): case["retry"] for case in cases}
    for row in CLOSE_REASONS:
        assert known[row.code, row.pattern] is row.retry
        assert row.with_text("x").retry is row.retry
    assert known.keys() >= {(code, "") for code in CLOSE_CODES}


def test_each_reason_is_unique_and_fits_a_close_frame() -> None:
    assert len({(r.code, r.pattern) for r in CLOSE_REASONS}) == len(CLOSE_REASONS)
    assert all(len(reason.text.encode()) <= MAX_REASON for reason in CLOSE_REASONS)


def test_scopes_are_known() -> None:
    known = {"", RECEIVE, CONTROL, *FRAMINGS}
    assert {reason.scope for reason in CLOSE_REASONS} <= known


def test_text_of_a_pattern() -> None:
    reason = EXIT_STATUS.with_text("exit 3")
    assert (reason.code, reason.text) == (1011, "exit 3")
    assert (reason.pattern, reason.meaning) == (
        EXIT_STATUS.pattern,
        EXIT_STATUS.meaning,
    )


def test_size_of_a_control_message() -> None:
    assert f"over {jsonrpc.MAX_LINE} bytes" in [reason.text for reason in CLOSE_REASONS]
