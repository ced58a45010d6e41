"""The editor of examples/editor as somebody meets it: in Debian's Chromium, with pylsp.

Law: whatever a test does, the page's policy was not violated, no script failed and
nothing was loaded from elsewhere. The page is served as `make editor` serves it, at a
free port, and to that the application files say so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from launch import Service, reserved, server
from npm import packaged
from pages import CASES, MODULE
from players import chromium
from settling import slay, until

ROOT = Path(__file__).parent.parent
EDITOR = ROOT / "examples" / "editor"
APPLICATION = EDITOR / "pylsp.toml"
(ORIGIN,) = tomllib.loads(APPLICATION.read_text())["origin"]
LIAR = f"""
command = [{sys.executable!r}, {str(CASES / "liar.py")!r}]
framing = ["lsp"]
origin = ["{ORIGIN}"]
"""
OURS = ("chimirror.js", "icon.svg")  # that the page has from the package
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
  (event) => violations.push(event.effectiveDirective));
"""
MISTAKE = "undefined name 'spread_of'"

expect.set_options(timeout=30_000)
pytestmark = pytest.mark.timeout(120)  # it takes its time on a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found.browser


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's."""
    build = tmp_path_factory.mktemp("build")
    files = [*EDITOR.glob("[!.]*.*"), *(MODULE.with_name(name) for name in OURS)]
    for file in files:
        shutil.copy(file, build)
    serving = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1"]
    argv = [*serving, "--directory", str(build), "0"]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdout=pipe, stderr=none, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split("(")[1].split("/)")[0]
        process.terminate()


@pytest.fixture
def directory(origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    found = tmp_path / "apps"
    found.mkdir()
    for name, text in (("pylsp", APPLICATION.read_text()), ("liar", LIAR)):
        (found / f"{name}.toml").write_text(text.replace(ORIGIN, origin))
    return found


def serve(directory: Path, **more: str) -> Any:
    cache = f"XDG_CACHE_HOME={directory.parent}"
    options = ("--console", "--apps", str(directory), "--env", cache)
    return server(directory.parent, [], *options, **more)


@pytest.fixture
def service(directory: Path) -> Iterator[Service]:
    with serve(directory) as found:
        yield found


@contextmanager
def watched(browser: Browser, **more: Any) -> Iterator[Page]:
    """A page that is to be loaded; see the law."""
    faults: list[str] = []
    asked: set[str] = set()
    with browser.new_context(**more) as made:
        page = made.new_page()
        page.set_default_timeout(30_000)
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: asked.add(request.url.split("/")[2]))
        yield page
    assert not faults
    assert len(asked) == 1


class Office:
    """Opens the editor in front of a server."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin

    @contextmanager
    def open(self, port: int, name: str = "pylsp", **more: Any) -> Iterator[Page]:
        with watched(self.browser, **more) as page:
            page.goto(f"{self.origin}/#ws://127.0.0.1:{port}/{name}")
            expect(page.locator("#state")).to_contain_text("Connected to ")
            yield page
            assert page.evaluate("violations") == []


@pytest.fixture
def office(browser: Browser, origin: str) -> Office:
    return Office(browser, origin)


@pytest.fixture
def page(office: Office, service: Service) -> Iterator[Page]:
    with office.open(service.port) as found:
        yield found


def state(page: Page, text: str) -> None:
    expect(page.locator("#state")).to_have_text(text)


def connected(page: Page) -> None:
    expect(page.locator("#state")).to_contain_text("Connected to pylsp ")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def area(page: Page) -> Locator:
    return page.get_by_role("textbox", name="example.py")


def problems(page: Page) -> Locator:
    return page.locator("#problems button")


def words(page: Page) -> Locator:
    return page.get_by_role("option")


def append(page: Page, text: str) -> None:
    """By keyboard, at the end."""
    area(page).press("Control+End")
    page.keyboard.type(text)


def mend(page: Page) -> str:
    text = area(page).input_value().replace("spread_of(", "spread(")
    area(page).fill(text)
    expect(page.locator("#count")).to_have_text("No problems found")
    return text


# Problems


def test_a_mistake_is_found_and_mended(page: Page) -> None:
    expect(problems(page)).to_have_text([f"Line 9: Error{MISTAKE}"])
    expect(page.locator("#count")).to_have_text("1 problem")
    expect(page.locator("#gutter .marked")).to_have_text("9")
    wrong = "spread_of([3, 1, 4, 1, 5, 9])"
    expect(page.locator("#mirror .severity-1")).to_contain_text(wrong)
    mend(page)
    for each in (problems(page), page.locator("#mirror span, #gutter .marked")):
        expect(each).to_have_count(0)


def test_a_mistake_is_typed(page: Page) -> None:
    mend(page)
    append(page, "é = '😀'\nspread(nothing")
    expect(problems(page)).to_have_text(["Line 11: Error'(' was never closed"])
    page.keyboard.type(")")
    expect(problems(page)).to_have_text(["Line 11: Errorundefined name 'nothing'"])
    expect(page.locator("#gutter .marked")).to_have_text("11")
    expect(page.locator("#mirror .severity-1")).to_have_text("nothing)")
    for _ in "(nothing)":
        page.keyboard.press("Backspace")
    expect(page.locator("#count")).to_have_text("No problems found")


def test_problems_are_visited(page: Page) -> None:
    append(page, "import os")
    expect(problems(page)).to_have_count(2)
    chosen = "() => { const { selectionStart, selectionEnd, value } = area; "
    chosen += "return value.slice(selectionStart, selectionEnd) }"
    for wanted in ("spread_of([3", "import os", "spread_of([3"):
        page.keyboard.press("F8")
        assert page.evaluate(chosen).startswith(wanted)
    expect(page.locator("#said")).to_have_text(MISTAKE)
    problems(page).nth(1).click()
    assert page.evaluate(chosen) == "import os"
    expect(area(page)).to_be_focused()


# Completion


def test_completed_by_keyboard(page: Page) -> None:
    text = mend(page)
    append(page, "x = statistics.")
    expect(words(page).nth(20)).to_be_visible()
    page.keyboard.type("med")
    expect(words(page).first).to_contain_text("median(")
    named = area(page).get_attribute("aria-activedescendant")
    expect(page.locator(f"#{named}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(words(page).nth(1)).to_have_attribute("aria-selected", "true")
    second = words(page).nth(1).inner_text().partition("(")[0]
    page.keyboard.press("Enter")
    expect(area(page)).to_have_value(f"{text}x = statistics.{second}")
    expect(words(page)).to_have_count(0)
    page.keyboard.press("Control+Z")
    expect(area(page)).to_have_value(f"{text}x = statistics.med")


def test_completed_when_asked(page: Page) -> None:
    text = mend(page)
    append(page, "spr")
    expect(words(page)).to_have_count(0)
    page.keyboard.press("Control+Space")
    expect(words(page)).to_have_text(["spread(numbers)"])
    expect(page.locator("#said")).to_have_text("1 completion")
    page.keyboard.press("Escape")
    expect(words(page)).to_have_count(0)
    button(page, "Complete").click()
    words(page).first.click()
    expect(area(page)).to_have_value(f"{text}spread")
    expect(area(page)).to_be_focused()


def test_lines_are_indented(page: Page) -> None:
    text = mend(page)
    append(page, "if spread:\nprint(1)\nprint(2)")
    indented = "if spread:\n    print(1)\n    print(2)"
    expect(area(page)).to_have_value(f"{text}{indented}")


def test_the_keyboard_gets_out_of_the_text(page: Page) -> None:
    area(page).focus()
    page.keyboard.press("Shift+Tab")
    expect(button(page, "Next problem")).to_be_focused()


# Explanation


def test_explained_by_key(page: Page) -> None:
    text = area(page).input_value()
    where = text.index("stdev") + 2
    area(page).evaluate(f"(area) => area.setSelectionRange({where}, {where})")
    area(page).press("F1")
    shown = page.locator("#explanation")
    expect(shown).to_contain_text("square root of the sample variance")
    expect(page.locator("#said")).to_contain_text("square root")
    page.keyboard.press("Tab")
    expect(shown).to_be_focused()  # and can be scrolled
    page.keyboard.press("Escape")
    expect(shown).to_be_hidden()
    expect(area(page)).to_be_focused()
    button(page, "Explain").click()
    expect(shown).to_be_visible()
    page.keyboard.type(" ")
    expect(shown).to_be_hidden()


def test_explained_by_pointer(page: Page) -> None:
    expect(problems(page)).to_have_count(1)
    mark = page.locator("#mirror .severity-1").bounding_box()
    assert mark
    page.mouse.move(mark["x"] + 3, mark["y"] + 8)
    shown = page.locator("#explanation")
    expect(shown).to_have_text(MISTAKE)
    shown.hover()
    expect(shown).to_be_visible()
    page.mouse.move(2, 2)
    expect(shown).to_be_hidden()


# The connection


def test_a_language_server_that_ends(page: Page, service: Service) -> None:
    expect(problems(page)).to_have_count(1)
    (application,) = service.applications()
    os.kill(application, signal.SIGKILL)
    state(page, "Ended: signal KILL")
    expect(problems(page)).to_have_count(0)
    append(page, "import os")  # nobody is told
    button(page, "Reconnect").click()
    connected(page)
    expect(problems(page)).to_have_count(2)


def test_disconnecting(page: Page, service: Service) -> None:
    expect(problems(page)).to_have_count(1)
    page.clock.install(time=0)
    page.clock.pause_at(1)  # it has all the time that it needs
    button(page, "Disconnect").click()
    state(page, "Ended: exit 0")
    until(lambda: not service.applications(), "no language server is left")
    button(page, "Reconnect").press("Enter")
    connected(page)
    expect(button(page, "Disconnect")).to_be_focused()


def test_a_server_that_dies_and_comes_back(office: Office, directory: Path) -> None:
    with reserved() as port:
        listen = f"127.0.0.1:{port}"
        with serve(directory, listen=listen) as first:
            opened = office.open(port)
            page = opened.__enter__()
            slay(first.own())
            lost = "the connection was lost: the network or the server has failed"
            state(page, f"Lost: {lost}")
            first.process.wait()
        again = button(page, "Reconnect")
        again.click()
        expect(page.locator("#state")).to_contain_text("Not connected: no connection")
        with serve(directory, listen=listen):
            again.click()
            connected(page)
            expect(problems(page)).to_have_count(1)
            opened.__exit__(None, None, None)


# What a language server may not do


def test_whatever_is_said_is_text(office: Office, service: Service) -> None:
    with office.open(service.port, "liar") as page:
        title, where = page.title(), page.url
        expect(page.locator("#state")).to_contain_text("<script>owned()</script>")
        expect(problems(page)).to_have_count(200)
        expect(page.locator("#count")).to_contain_text("303 problems, the first 200")
        append(page, "\nprin")
        page.keyboard.press("Control+Space")
        expect(words(page)).to_have_count(100)
        expect(words(page).first).to_contain_text("<script>owned()</script>")
        page.keyboard.press("Enter")
        assert area(page).input_value().endswith("<script>owned()</script>")
        page.keyboard.press("F1")
        expect(page.locator("#explanation")).to_contain_text("<script>owned()</script>")
        told = page.locator("#explanation").text_content()
        assert told
        assert len(told) <= 10_000
        assert page.locator("body :is(script, a, header ~ * img)").count() == 0
        assert (page.title(), page.url) == (title, where)
        page.clock.install()
        button(page, "Disconnect").click()  # of which it wants to know nothing
        page.clock.fast_forward(10_000)
        state(page, "Ended: closed from here")


def test_other_machines_are_out_of_reach(browser: Browser, origin: str) -> None:
    with watched(browser) as page:
        page.goto(f"{origin}/#ws://192.0.2.1:30747/pylsp")
        policy = "the page's Content-Security-Policy has no connect-src for"
        state(page, f"Not connected: {policy} 192.0.2.1:30747")
        assert page.evaluate("violations") == ["connect-src"]


# For everybody


def audit(page: Page) -> list[Any]:
    source = packaged("axe-core/axe.min.js").read_text()
    page.evaluate(f"() => {{ {source} }}")
    found: list[Any] = page.evaluate("axe.run().then((told) => told.violations)")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize("look", LOOKS)
def test_an_audit_finds_nothing(office: Office, service: Service, look: str) -> None:
    with office.open(service.port, **LOOKS[look]) as page:
        expect(problems(page)).to_have_count(1)
        assert audit(page) == []
        append(page, "import os; os.")
        expect(words(page).nth(20)).to_be_visible()
        assert audit(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("F1")
        expect(page.locator("#explanation")).to_be_visible()
        assert audit(page) == []
        button(page, "Disconnect").click()
        expect(page.locator("#state")).to_contain_text("Ended: ")
        assert audit(page) == []
        wide = "document.documentElement.scrollWidth - innerWidth"
        assert page.evaluate(wide) <= 0


def test_it_is_served_where_its_application_lets_it_in() -> None:
    host, _, port = ORIGIN.removeprefix("http://").partition(":")
    recipe = (ROOT / "Makefile").read_text()
    assert f"Open {ORIGIN}/ in a browser" in recipe
    assert f"--bind {host} " in recipe
    assert f"build/editor {port} " in recipe


# The console, for whoever wants to see the messages


def test_the_console_speaks_to_a_language_server(
    browser: Browser, service: Service
) -> None:
    with watched(browser) as page:
        page.goto(f"http://127.0.0.1:{service.port}/pylsp")
        framing = page.get_by_label("Framing", exact=True)
        expect(framing.locator("option")).to_have_text(["lsp"])
        page.get_by_role("button", name="Connect", exact=True).click()
        state(page, "Connected")
        page.get_by_label("Line to send").fill("hello")
        button(page, "Send").click()
        hint = "Not JSON: a language server takes nothing else"
        expect(page.locator("#hint")).to_have_text(hint)
        button(page, '"method":"initialize"').click()
        said = page.locator("#transcript .stdout .text")
        expect(said).to_contain_text('"name": "pylsp"')
        page.get_by_label("Line to send").fill('{"jsonrpc":"2.0",\n"method":"exit"}')
        button(page, "Send").click()
        state(page, "Ended: exit 0")
