"""Layout of the console: the plot of the traffic, and the form on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from console_page import connect, entries, open_console, say, service, shared, state
from page_checks import LOOKS, audit, overflow
from serve import Service

__all__ = ["service", "shared"]  # fixtures

OUTLINE = 4  # px around a focused button
NARROW_LOOKS = [name for name in LOOKS if name.startswith("narrow")]
# Heights of the highest bar of each direction, in pixels of the canvas.
HEIGHTS = """async ([sent, received]) => {
  const { Plot } = await import(
    document.querySelector("script[type=module]").src.replace("console.js", "plot.js"));
  const canvas = document.createElement("canvas");
  canvas.style.cssText = `position: fixed; top: 0; left: 0; width: 400px; height: 200px;
    --up: #f00; --down: #00f; --line: #0f0; --edge: #0f0; --quiet: #0f0`;
  document.body.append(canvas);
  const plot = new Plot(canvas);
  plot.tick(sent, received);
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const heights = [0, 2].map((channel) => {
    const rows = new Set();
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + channel] === 255) rows.add(Math.floor(at / 4 / width));
    }
    return rows.size;
  });
  const label = canvas.getAttribute("aria-label");
  canvas.remove();
  return { heights, label };
}"""


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with open_console(browser, service.port) as found:
        yield found


# The plot.


@pytest.mark.parametrize("sent", [1000, 500, 50, 0])
def test_both_directions_have_one_scale(page: Page, sent: int) -> None:
    found: dict[str, Any] = page.evaluate(HEIGHTS, [sent, 1000])
    up, down = found["heights"]
    assert down > 70
    assert abs(up - down * sent / 1000) <= 1
    assert found["label"].endswith("the scale ends at 1.0 kB a second")


@pytest.mark.parametrize(
    ("received", "end"),
    [(0, "10 B"), (10, "10 B"), (11, "20 B"), (501, "1.0 kB"), (4_999_999, "5.0 MB")],
)
def test_the_scale_ends_at_a_round_number(page: Page, received: int, end: str) -> None:
    found: dict[str, Any] = page.evaluate(HEIGHTS, [0, received])
    assert found["label"].endswith(f"the scale ends at {end} a second")


@pytest.mark.parametrize("width", [1440, 768, 360])
@pytest.mark.parametrize("height", [900, 400])
def test_the_plot_is_large_enough(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    box = page.locator("#plot").bounding_box()
    assert box
    assert box["height"] >= 150
    assert box["width"] >= 240
    assert not overflow(page)


# The form on a phone.


@pytest.mark.parametrize("look", NARROW_LOOKS)
def test_a_session_folds_the_form(
    browser: Browser, service: Service, look: str
) -> None:
    with open_console(browser, service.port, **LOOKS[look]) as page:
        details = page.get_by_role("button", name="Details")
        name = page.get_by_label("Name")
        expect(details).to_be_hidden()
        connect(page)
        expect(name).to_be_hidden()
        expect(page.get_by_role("button", name="Disconnect")).to_be_visible()
        expect(page.get_by_role("radio", name="Terminal")).to_be_visible()
        expect(page.get_by_role("button", name="Copy as command")).to_be_hidden()
        expect(page.get_by_label("Line to send")).to_be_in_viewport()
        assert not overflow(page)
        assert audit(page) == []
        details.click()
        expect(name).to_be_visible()
        expect(details).to_have_attribute("aria-expanded", "true")
        assert audit(page) == []
        details.press("Enter")
        expect(name).to_be_hidden()
        expect(details).to_have_attribute("aria-expanded", "false")
        say(page, "exit 3")
        state(page, "Ended: exit 3")
        expect(name).to_be_visible()
        expect(details).to_be_hidden()
        assert audit(page) == []


def test_only_a_phone_folds_the_form(page: Page) -> None:
    connect(page)
    details = page.get_by_role("button", name="Details")
    expect(details).to_be_hidden()
    expect(page.get_by_label("Name")).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    expect(page.get_by_label("Name")).to_be_hidden()
    expect(details).to_be_visible()


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_of_an_application_that_only_sends(
    browser: Browser, service: Service, look: str
) -> None:
    with open_console(browser, service.port, "/watching", **LOOKS[look]) as page:
        page.get_by_role("button", name=re.compile("^Connect")).click()
        expect(entries(page, "stdout")).to_have_text("first")
        assert audit(page) == []
        assert not overflow(page)
        page.get_by_role("button", name="Disconnect").click()
        state(page, "Ended: closed by this page")


# The header of a session on a phone.


def test_a_header_on_a_phone(browser: Browser, service: Service) -> None:
    """It has two rows, and its button is in full view when it gets the focus."""
    with open_console(browser, service.port, **LOOKS["narrow"]) as page:
        connect(page)
        say(page, "flood 20")
        expect(entries(page, "stdout").last).to_have_text("line 19")
        transcript = page.locator("#transcript")
        button = transcript.get_by_role("button", name="Copy id")
        transcript.focus()
        page.keyboard.press("Tab")
        expect(button).to_be_focused()
        view, target, time = (
            each.bounding_box()
            for each in (transcript, button, transcript.locator(".session time"))
        )
        assert view
        assert target
        assert time
        assert target["y"] - view["y"] >= OUTLINE
        assert target["y"] <= time["y"] + time["height"] / 2 <= target["y"] + 24
