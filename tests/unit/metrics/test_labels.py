"""Reasons become labels, and only a bounded number of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.metrics.labels import reason_label
from chimirror.process.children import SIGNAL_NAMES, describe
from chimirror.protocol import BAD_HEADER, CLOSE_REASONS, CONTROL, INTERNAL_ERROR


@pytest.mark.parametrize(
    "reason", [row.text for row in CLOSE_REASONS if row.scope != CONTROL]
)
def test_each_reason_of_a_session_has_a_label(reason: str) -> None:
    if reason == INTERNAL_ERROR.text:
        assert reason_label(reason) == "error"
    elif reason not in ("exit N", "signal NAME"):
        assert reason_label(reason) == reason


@pytest.mark.parametrize("status", [0, 3, 255, *(-number for number in SIGNAL_NAMES)])
def test_ends_of_an_application(status: int) -> None:
    assert reason_label(describe(status)) == describe(status)


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("client gone", "client gone"),
        ("ping timeout", "ping timeout"),
        ("client close 1000", "client close 1000"),
        ("client close 1005", "client close 1005"),
        ("client close 3999", "client close 3xxx"),
        ("client close 4711", "client close 4xxx"),
        ("client close 5000", "error"),
        (f"{BAD_HEADER.text}: Contents-Length", BAD_HEADER.text),
        ("lost: signal", "lost"),
        ("lost", "lost"),
        ("", "unknown"),
        ("exit 256", "error"),
        ("exit N", "error"),
        ("exit ٣", "error"),
        ("signal KILL now", "error"),
        ("not authorized", "error"),  # concerns control connections
        ("anything: else", "error"),
    ],
)
def test_label(reason: str, label: str) -> None:
    assert reason_label(reason) == label


@given(st.text())
def test_free_text_makes_no_series(text: str) -> None:
    assert reason_label(text) == "error" or text == "" or len(reason_label(text)) < 32


def test_a_client_makes_few_series() -> None:
    labels = {reason_label(f"client close {code}") for code in range(1000, 5000)}
    assert len(labels) <= 20
