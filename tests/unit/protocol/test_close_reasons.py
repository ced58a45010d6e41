"""The table of close reasons equals the one in chimirror-protocol(7)."""

from __future__ import annotations

import re
from pathlib import Path

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
