"""Runs the cases of tests/browser/web against servers, in Node and in Chromium.

The page has another origin than the servers, which allow it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from js_runners import Node, Runner, pages
from serve import Service, server


@pytest.fixture(scope="module", params=["node", "chromium"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    if request.param == "node":
        yield Node()
        return
    with pages(request.getfixturevalue("browser")) as found:
        yield found


class CaseRunner:
    """Runs cases against servers of its own."""

    def __init__(self, runner: Runner, directory: Path) -> None:
        self.runner = runner
        self.directory = directory

    def serve(self, command: list[str], *options: str, **more: str) -> Any:
        if self.runner.origin:
            options = ("--origin", self.runner.origin, *options)
        return server(self.directory, command, *options, **more)

    def run_case(
        self, case: str, command: list[str], *options: str, **asked: object
    ) -> Any:
        """Run a case that needs no cue. Returns its result."""
        with (
            self.serve(command, *options) as service,
            self.runner.run_case(case, address(service), **asked) as running_case,
        ):
            return running_case.result()


def address(service: Service) -> str:
    return f"ws://127.0.0.1:{service.port}/"


@pytest.fixture
def cases(runner: Runner, tmp_path: Path) -> CaseRunner:
    return CaseRunner(runner, tmp_path)
