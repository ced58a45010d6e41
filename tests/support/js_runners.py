"""Runs the cases of tests/browser/web in Node and in a page of Debian's Chromium.

A case is the same file for both, and its messages arrive here as Python values. The
page has a strict Content-Security-Policy and another origin than the sessions. Knows
nothing about sessions: the cases are in tests/browser/web/cases.js.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Browser, Page, sync_playwright

from npm import NODE
from page_server import CASES, MODULE
from processes import TOOL_PROCESSES, Memory, descendants, name_of
from serve import ROOT

# The engine without the windows of a browser takes half of the time.
CHROMIUM = "/usr/bin/chromium-headless-shell"
LONG = 300.0  # seconds: longer than the time limit of a test, which applies first


class RunningCase(Protocol):
    """A running case."""

    def wait_for_messages(self, count: int) -> list[Any]:
        """Wait for `count` messages. Returns all messages so far."""

    def cue(self) -> None:
        """Let the case continue."""

    def memory(self) -> Memory:
        """Memory of the process that runs the case."""

    def collect_garbage(self) -> None:
        """Collect garbage in a page. A case in Node calls `gc` itself."""

    def result(self) -> Any:
        """Wait for the end of the case."""


class Runner(Protocol):
    """Runner of cases. `origin` is that of the page, None for Node."""

    origin: str

    def run_case(
        self, case: str, address: str, **options: object
    ) -> AbstractContextManager[RunningCase]: ...


def outcome(messages: list[dict[str, Any]]) -> Any:
    assert "failed" not in messages[-1], messages[-1]["failed"]
    return messages[-1].get("result")


class NodeCase:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._messages: list[dict[str, Any]] = []

    def _next(self) -> bool:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            self._messages.append(json.loads(line))
        return bool(line)

    def wait_for_messages(self, count: int) -> list[Any]:
        while len(self._messages) < count and self._next():
            pass
        return [each["said"] for each in self._messages if "said" in each]

    def cue(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def memory(self) -> Memory:
        return Memory([self._process.pid])

    def collect_garbage(self) -> None:
        pass

    def result(self) -> Any:
        while self._next():
            pass
        assert self._process.wait() == 0
        return outcome(self._messages)


class Node:
    """Runs each case in a process of its own."""

    origin = ""

    @contextmanager
    def run_case(
        self, case: str, address: str, **options: object
    ) -> Iterator[NodeCase]:
        argv: list[str | Path] = [NODE, "--expose-gc", CASES / "run.js", MODULE]
        argv += [case, address, json.dumps(options)]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield NodeCase(process)
            finally:
                process.kill()


class PageCase:
    def __init__(self, page: Page) -> None:
        self.page = page

    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = json.loads(
            self.page.evaluate("() => JSON.stringify(messages)")
        )
        return messages

    def wait(self, condition: str, argument: object = None) -> None:
        """Wait until a message of the page makes this true."""
        self.page.wait_for_function(condition, arg=argument, timeout=LONG * 1000)

    def wait_for_messages(self, count: int) -> list[Any]:
        self.wait("(count) => messages.length >= count", count)
        return [each["said"] for each in self.messages() if "said" in each]

    def cue(self) -> None:
        self.page.evaluate("() => cue()")

    def memory(self) -> Memory:
        return renderer_memory()

    def collect_garbage(self) -> None:
        Heap(self.page).collect()

    def result(self) -> Any:
        self.wait("() => messages.length && !('said' in messages.at(-1))")
        return outcome(self.messages())


def renderer_memory() -> Memory:
    """Memory of the browser's renderer processes, which cannot be assigned to pages.

    Renderers of closed pages may end at any time.
    """
    found = [each.pid for pid in TOOL_PROCESSES for each in descendants(pid)]
    renderers = [pid for pid in found if "--type=renderer" in name_of(pid)]
    return Memory(renderers, may_end=True)


class Heap:
    """Memory of the objects of a page, as the maximum of all samples.

    Includes garbage that is not collected yet, except in a sample after `collect`.
    `total` includes buffers outside the JavaScript heap.
    """

    def __init__(self, page: Page) -> None:
        self.largest = 0
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable")

    def sample(self) -> int:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        values = {each["name"]: int(each["value"]) for each in metrics}
        self.largest = max(self.largest, values["JSHeapUsedSize"])
        return values["JSHeapUsedSize"]

    def total(self) -> int:
        usage = self._session.send("Runtime.getHeapUsage")
        parts = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
        return sum(int(usage[part]) for part in parts)

    def collect(self) -> None:
        self._session.send("HeapProfiler.collectGarbage")


class Chromium:
    """Runs each case in a page of its own."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin

    @contextmanager
    def page(self, connect: str = "ws://127.0.0.1:*") -> Iterator[Page]:
        """Open a page with a policy that allows connections to this address."""
        with self.browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{self.origin}/page.html?{connect}")
            page.wait_for_function("() => globalThis.ready")
            yield page

    @contextmanager
    def run_case(
        self, case: str, address: str, **options: object
    ) -> Iterator[PageCase]:
        with self.page() as page:
            yield self.perform(page, case, address, **options)

    def perform(
        self, page: Page, case: str, address: str, **options: object
    ) -> PageCase:
        begin = "([name, address, options]) => void perform(name, address, options)"
        page.evaluate(begin, [case, address, options])
        return PageCase(page)


@contextmanager
def site() -> Iterator[str]:
    """Serve the pages. Yields their origin."""
    argv: list[str | Path] = [
        sys.executable,
        "-P",
        Path(__file__).parent / "page_server.py",
    ]
    env = os.environ | {"PYTHONPATH": ROOT}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser."""
    # Chromium has no sandbox when it runs as root.
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    before = {process.pid for process in descendants(os.getpid())}
    with sync_playwright() as playwright:
        driver = {process.pid for process in descendants(os.getpid())} - before
        TOOL_PROCESSES.update(driver)
        kind = playwright.chromium
        with kind.launch(executable_path=CHROMIUM, args=arguments) as browser:
            yield browser
    TOOL_PROCESSES.difference_update(driver)


@contextmanager
def pages(browser: Browser) -> Iterator[Chromium]:
    """Pages of tests/browser/web in this browser."""
    with site() as origin:
        yield Chromium(browser, origin)
