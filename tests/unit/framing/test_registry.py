"""Each row of the registry describes its framing."""

from __future__ import annotations

import pytest

from chimirror.framing import registry
from chimirror.framing.json_framing import StdioFraming, TerminalFraming
from chimirror.framing.lines import LinesFraming, SplitLinesFraming

FRAMINGS = pytest.mark.parametrize("name", registry.FRAMINGS)


@FRAMINGS
def test_row_has_the_name_of_its_framing(name: str) -> None:
    row = registry.FRAMINGS[name]
    assert row.name == row.create(1024, 1024, pty=False).name == name


@FRAMINGS
def test_framings_without_state_are_shared(name: str) -> None:
    row = registry.FRAMINGS[name]
    is_shared = row.create(1024, 1024, pty=False) is row.create(1024, 1024, pty=False)
    assert is_shared is not row.has_state
    assert row.create(1024, 1024, pty=False) is not row.create(2048, 1024, pty=False)


def test_terminal_framing() -> None:
    assert type(registry.create("stdio", 1024, pty=True)) is TerminalFraming
    assert type(registry.create("stdio", 1024)) is StdioFraming


@FRAMINGS
def test_framing_that_splits_messages(name: str) -> None:
    """Only lines has one, and a terminal keeps its own framing."""
    row = registry.FRAMINGS[name]
    for pty in (False, True):
        found = type(row.create(1024, 1024, pty=pty, multiline="split"))
        usual = type(row.create(1024, 1024, pty=pty))
        assert found is (SplitLinesFraming if usual is LinesFraming else usual)
