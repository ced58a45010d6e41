"""Lines of the terminal of the console: the screen shows the line after each edit.

A terminal of xterm.js gets what LineEditor returns, for random edits with characters of
all kinds, on small and large screens. The cursor is always behind the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from playwright.sync_api import Browser, Page

from console_page import open_console, shared
from serve import Service

__all__ = ["shared"]  # fixture

WORDS = [
    *("a", "bc ", "xyz xyz ", "n" * 30, "\t", "\x01", "\x7f", "\x9b"),
    *("日", "本語", "한국어", "각", "ｱﾞ", "e\u0301", "\u0301", "\u0600", "\xad"),
    *("क्षि", "\u202e", "\u200b", "\u200d", "\U0001f600", "\U0001fae0", "\u2764\ufe0f"),
    *("\U0001f469\u200d\U0001f4bb", "\U0001f469", "\U0001f1e9\U0001f1ea", "\U0001f1e9"),
    *("\U0001f44d\U0001f3fd", "\U000e0041", "\U0001f3f4\U000e0067\U000e007f"),
]
SCREENS = [(10, 4), (21, 6), (80, 24)]
LOAD = """async () => {
  const base = document.querySelector("script[type=module]").src;
  const load = (name) => import(new URL(name, base));
  const files = ["vendor/xterm.mjs", "widths.js", "line_editor.js"];
  const [{ Terminal }, { register, cells, GRAPHEMES, CODE_POINTS }, { LineEditor }] =
    await Promise.all(files.map(load));
  Object.assign(globalThis, { Terminal, register, cells, LineEditor });
  Object.assign(globalThis, { GRAPHEMES, CODE_POINTS });
  globalThis.terminal = (cols, rows, version) => {
    const options = { allowProposedApi: true, convertEol: true };
    const xterm = new Terminal({ cols, rows, ...options });
    register(xterm.unicode);
    xterm.unicode.activeVersion = version;
    return xterm;
  };
}"""
# Returns the first edit after which the screen is not as wanted.
EDIT = r"""async ({ cols, rows, edits }) => {
  const xterm = terminal(cols, rows, GRAPHEMES);
  const write = (text) => new Promise((resolve) => xterm.write(text, resolve));
  const seen = () => {
    const { active } = xterm.buffer;
    let at = active.baseY + active.cursorY;
    let text = active.getLine(at).translateToString(false, 0, active.cursorX);
    const after = active.getLine(at).translateToString(true, active.cursorX);
    for (; active.getLine(at).isWrapped; at -= 1) {
      const row = active.getLine(at - 1);
      // The last cell is empty if a wide character has begun the next row.
      const last = row.getCell(cols - 1);
      const filled = last.getChars() || !last.getWidth() ? cols : cols - 1;
      text = row.translateToString(false, 0, filled) + text;
    }
    return text + (after && `|${after}`);
  };
  const line = new LineEditor(xterm, cells);
  await write("> ");
  for (const [method, ...text] of edits) {
    await write(line[method](...text));
    const whole = new LineEditor({ cols: 1e6, rows: 1e6 }, cells);
    const wanted = line.text && whole.insert(line.text).replaceAll("\0", "");
    // The prompt is gone if the line was shown anew.
    const found = seen();
    if (![wanted, `> ${wanted}`].includes(found)) return [method, text, found, wanted];
  }
  return null;
}"""
WIDTH = """(texts) => Promise.all(texts.map((text) => {
  const xterm = terminal(80, 24, CODE_POINTS);
  return new Promise((resolve) =>
    xterm.write("x" + text, () => resolve(xterm.buffer.active.cursorX - 1)));
}))"""
# As wcwidth(3) of glibc 2.36.
WIDTHS = {
    "\U0001f600": 2,
    "\U0001fae0": 2,  # Unicode 14
    "\U0001f3fd": 2,
    "\u2764\ufe0f": 1,
    "\U0001f469\u200d\U0001f467": 4,
    "\U0001f1e9\U0001f1ea": 2,
    "e\u0301": 1,
    "e\u200b\u202e\ufeff": 1,
    "\u1100\u1161\u11a8": 2,
    "한日ア": 6,
    "ｱ": 1,
    "का": 2,
    "\xad\u0600": 2,
    "\U00020000": 2,
}


@pytest.fixture(scope="module")
def page(browser: Browser, shared: Service) -> Iterator[Page]:
    with open_console(browser, shared.port) as found:
        found.evaluate(LOAD)
        yield found


def edits(seed: int) -> list[list[str]]:
    random = Random(seed)
    methods = ["insert"] * 6 + ["deleteCharacter"] * 3 + ["deleteWord"]
    chosen = random.choices(methods, k=250)
    made = [
        [method, random.choice(WORDS)] if method == "insert" else [method]
        for method in chosen
    ]
    made[random.randrange(200)] = ["deleteAll"]
    return made


@pytest.mark.parametrize(("cols", "rows"), SCREENS)
def test_the_screen_shows_the_line(page: Page, cols: int, rows: int) -> None:
    for seed in range(5):
        asked = {"cols": cols, "rows": rows, "edits": edits(seed)}
        assert page.evaluate(EDIT, asked) is None


def test_widths_of_code_points(page: Page) -> None:
    found = page.evaluate(WIDTH, list(WIDTHS))
    assert dict(zip(WIDTHS, found, strict=True)) == WIDTHS
