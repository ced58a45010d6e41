"""Opens pages in a browser and checks their behaviour during a test.

Guarantees after each test: no script has failed, no dialog was opened, and everything
was loaded from one origin. The page has not violated its Content-Security-Policy. It
has opened no window, played no sound and not touched the clipboard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Dialog, Page, expect

from npm import packaged

PATIENCE = 200_000  # ms; is reached only by a wait that fails its test
NARROW = {"width": 360, "height": 740}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": NARROW},
    "narrow, dark": {"viewport": NARROW, "color_scheme": "dark"},
}
WATCH = """
globalThis.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => violations.push(event.effectiveDirective + " " + event.blockedURI));
for (const [object, name] of [
  [window, "open"], [window, "moveTo"], [window, "resizeTo"], [window, "print"],
  [window, "AudioContext"], [HTMLMediaElement.prototype, "play"],
  [Clipboard.prototype, "writeText"], [Clipboard.prototype, "write"],
  [Clipboard.prototype, "readText"],
]) object[name] = () => violations.push(name);
"""

expect.set_options(timeout=PATIENCE)


@contextmanager
def checked_page(
    browser: Browser,
    address: str,
    *violations: str,
    prepare: Callable[[Page], object] = lambda page: None,
    **context: Any,
) -> Iterator[Page]:
    """Open this address, after `prepare` has changed the page."""
    faults: list[str] = []
    asked: set[str] = set()
    with browser.new_context(**context) as made:
        page = made.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.add(request.url.split("/")[2]))
        page.on("dialog", lambda dialog: answer(dialog, faults))
        prepare(page)
        page.goto(address)
        yield page
        assert page.evaluate("violations") == [*violations]
        assert len(made.pages) == 1
    assert not faults
    assert {each for each in asked if each} == {address.split("/")[2]}


def answer(dialog: Dialog, faults: list[str]) -> None:
    """Leave a page that asks before it is left. Every other dialog is a fault."""
    if dialog.type == "beforeunload":
        dialog.accept()
    else:
        faults.append(dialog.message)


def audit(page: Page) -> list[Any]:
    """Return the violations that axe finds."""
    if not page.evaluate("'axe' in globalThis"):
        source = packaged("axe-core/axe.min.js").read_text()
        page.evaluate(f"() => {{ {source} }}")
    judge = "axe.run({ resultTypes: ['violations'] }).then((told) => told.violations)"
    found: list[Any] = page.evaluate(judge)
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return max(wide, 0)
