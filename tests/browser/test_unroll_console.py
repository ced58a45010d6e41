"""The console with examples/unroll, and the examples of its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import connect, entries, open_console, say, serve, without_sessions
from example_apps import examples_directory
from page_checks import LOOKS, audit, overflow

__all__ = ["examples_directory"]  # a fixture

# A part of the answer to each example of the manifest.
ANSWERS = [
    '"sum": 3622411',
    '"printed": [\n    0,\n    1,\n    1,\n    2,\n    3,\n    5,\n    8,',
    '"sets_variable": true',
    '"prime": 211',
    '"error": "division by zero"',
    '"column": 17',
    '"kind": "steps"',
]


@contextmanager
def console(browser: Browser, directory: Path, look: str) -> Iterator[Page]:
    """Open a connected page of a server that runs in the block."""
    with (
        serve(directory) as service,
        without_sessions(service),
        open_console(browser, service.port, "/unroll", **LOOKS[look]) as page,
    ):
        connect(page, "json")
        page.get_by_label("Unfold JSON").check()
        yield page


@pytest.mark.parametrize("look", ["light", "narrow, dark"])
def test_the_examples_of_the_manifest(
    browser: Browser, examples_directory: Path, look: str
) -> None:
    with console(browser, examples_directory, look) as page:
        for number, answer in enumerate(ANSWERS):
            button = page.locator("#examples").get_by_role("button").nth(number)
            button.click()
            expect(entries(page, "stdout").nth(number)).to_contain_text(answer)
            expect(entries(page, "stdin")).to_have_count(number + 1)
        expect(page.locator("#examples").get_by_role("button")).to_have_count(
            number + 1
        )
        assert audit(page) == []
        assert overflow(page) == 0


def test_a_program_of_several_lines(browser: Browser, examples_directory: Path) -> None:
    with console(browser, examples_directory, "dark") as page:
        say(page, "x = 1;\nprint x +\n  y;")
        expect(entries(page, "stdout")).to_contain_text('"line": 3,\n  "column": 3')
        say(page, "x = 1;\nprint x +\n  x;")
        printed = '"printed": [\n    2\n  ]'
        expect(entries(page, "stdout").nth(1)).to_contain_text(printed)
