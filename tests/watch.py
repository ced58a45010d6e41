"""A page of a browser under watch, and how it is judged.

Law: whatever a test does, no script has failed, no dialog came up, everything was
loaded from one place, and the page's policy was violated as it should be: not at all.
Nobody else was bothered: no window, no sound, no clipboard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect

from npm import packaged

PATIENCE = 30_000  # ms for what a busy machine does at last
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
def watched(
    browser: Browser,
    address: str,
    *violations: str,
    prepare: Callable[[Page], object] = lambda page: None,
    **context: Any,
) -> Iterator[Page]:
    """The page of this address; it is prepared before it is there."""
    faults: list[str] = []
    asked: set[str] = set()
    with browser.new_context(**context) as made:
        page = made.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.add(request.url.split("/")[2]))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        prepare(page)
        page.goto(address)
        yield page
        assert page.evaluate("violations") == [*violations]
        assert len(made.pages) == 1
    assert not faults
    assert {each for each in asked if each} == {address.split("/")[2]}


def audit(page: Page) -> list[Any]:
    """What axe finds wrong."""
    source = packaged("axe-core/axe.min.js").read_text()
    page.evaluate(f"() => {{ {source} }}")
    found: list[Any] = page.evaluate("axe.run().then((told) => told.violations)")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return max(wide, 0)
