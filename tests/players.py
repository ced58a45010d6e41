"""Who plays the cases of tests/web: Node, and a page in Debian's Chromium.

Law: a case is the same file for both; what it tells comes here as Python values. The
page has a strict Content-Security-Policy and another origin than the sessions.
Ignorance: nothing about sessions; see tests/web/cases.js for the cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Browser, Page, sync_playwright

from launch import ROOT
from npm import NODE
from pages import CASES, MODULE
from settling import RESTLESS, descendants, name_of, until

CHROMIUM = "/usr/bin/chromium"
LONG = 300.0  # seconds: longer than any test may take, whose own limit is the one


class Play(Protocol):
    """A case that runs."""

    def said(self, count: int) -> list[Any]:
        """Waits until it has said so much; all that it has."""

    def cue(self) -> None:
        """Lets it go on."""

    def processes(self) -> list[int]:
        """Where it runs."""

    def result(self) -> Any:
        """Waits for its end."""


class Player(Protocol):
    """Who plays: `origin` is that of the page, if it is one."""

    origin: str

    def play(
        self, case: str, address: str, **options: object
    ) -> AbstractContextManager[Play]: ...


def outcome(told: list[dict[str, Any]]) -> Any:
    assert "failed" not in told[-1], told[-1]["failed"]
    return told[-1].get("result")


class NodePlay:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._told: list[dict[str, Any]] = []

    def _next(self) -> bool:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            self._told.append(json.loads(line))
        return bool(line)

    def said(self, count: int) -> list[Any]:
        while len(self._told) < count and self._next():
            pass
        return [each["said"] for each in self._told if "said" in each]

    def cue(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def processes(self) -> list[int]:
        return [self._process.pid]

    def result(self) -> Any:
        while self._next():
            pass
        assert self._process.wait() == 0
        return outcome(self._told)


class Node:
    """Each case in a process of its own."""

    origin = ""

    @contextmanager
    def play(self, case: str, address: str, **options: object) -> Iterator[NodePlay]:
        script = [NODE, CASES / "run.js", MODULE]
        argv: list[str | Path] = [*script, case, address, json.dumps(options)]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield NodePlay(process)
            finally:
                process.kill()


class PagePlay:
    def __init__(self, page: Page) -> None:
        self.page = page

    def told(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = json.loads(
            self.page.evaluate("() => JSON.stringify(told)")
        )
        return told

    def said(self, count: int) -> list[Any]:
        until(lambda: len(self.told()) >= count, f"{count} words of the page", LONG)
        return [each["said"] for each in self.told() if "said" in each]

    def cue(self) -> None:
        self.page.evaluate("() => cue()")

    def processes(self) -> list[int]:
        return renderers()

    def result(self) -> Any:
        def over() -> bool:
            told = self.told()
            return bool(told) and "said" not in told[-1]

        until(over, "the end of the case", LONG)
        return outcome(self.told())


def renderers() -> list[int]:
    """A browser's processes for pages; which is whose it does not say."""
    found = [each.pid for pid in RESTLESS for each in descendants(pid)]
    return [pid for pid in found if "--type=renderer" in name_of(pid)]


class Heap:
    """What a page's objects take, at the worst of all looks at it.

    Garbage that nobody has collected yet is counted, but for a look after `collect`.
    """

    def __init__(self, page: Page) -> None:
        self.largest = 0
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable")

    def look(self) -> int:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        told = {each["name"]: int(each["value"]) for each in metrics}
        self.largest = max(self.largest, told["JSHeapUsedSize"])
        return told["JSHeapUsedSize"]

    def collect(self) -> None:
        self._session.send("HeapProfiler.collectGarbage")


class Chromium:
    """Each case in a page of its own."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin

    @contextmanager
    def page(self, connect: str = "ws://127.0.0.1:*") -> Iterator[Page]:
        """A page that may connect there, as its policy says."""
        with self.browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{self.origin}/page.html?{connect}")
            page.wait_for_function("() => globalThis.ready")
            yield page

    @contextmanager
    def play(self, case: str, address: str, **options: object) -> Iterator[PagePlay]:
        with self.page() as page:
            yield self.perform(page, case, address, **options)

    def perform(
        self, page: Page, case: str, address: str, **options: object
    ) -> PagePlay:
        begin = "([name, address, options]) => void perform(name, address, options)"
        page.evaluate(begin, [case, address, options])
        return PagePlay(page)


@contextmanager
def site() -> Iterator[str]:
    """Serves the pages; yields their origin."""
    argv: list[str | Path] = [sys.executable, "-P", Path(__file__).parent / "pages.py"]
    env = os.environ | {"PYTHONPATH": ROOT}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser, and pages for it."""
    # As root it has no sandbox.
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with site() as origin:
        before = {process.pid for process in descendants(os.getpid())}
        with sync_playwright() as playwright:
            driver = {process.pid for process in descendants(os.getpid())} - before
            RESTLESS.update(driver)
            kind = playwright.chromium
            with kind.launch(executable_path=CHROMIUM, args=arguments) as browser:
                yield Chromium(browser, origin)
        RESTLESS.difference_update(driver)


@contextmanager
def node() -> Iterator[Node]:
    yield Node()


PLAYERS: dict[str, Callable[[], AbstractContextManager[Player]]] = {
    "node": node,
    "chromium": chromium,
}
