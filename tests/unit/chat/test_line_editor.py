"""Tests the line editor of examples/chat: editing, history and the visible part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.display_text import width
from chat.keys import Key
from chat.line_editor import MAX_LINE, LineEditor

ACCENT = "\N{COMBINING ACUTE ACCENT}"


def typed(*keys: Key | str) -> LineEditor:
    editor = LineEditor()
    for key in keys:
        if isinstance(key, Key):
            editor.press(key)
        else:
            for character in key:
                editor.insert(character)
    return editor


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("helo", Key.LEFT, "l"), "hell|o"),
        (("abc", Key.HOME, "x", Key.END, "y"), "xabcy|"),
        (("abc", Key.BACKSPACE, Key.LEFT, Key.DELETE), "a|"),
        (("abc", Key.LEFT, Key.LEFT, Key.ERASE_BEFORE), "|bc"),
        (("abc", Key.LEFT, Key.ERASE_AFTER), "ab|"),
        (("one two  three", Key.ERASE_WORD, Key.ERASE_WORD), "one |"),
        (("one two", Key.WORD_LEFT, Key.WORD_LEFT, Key.WORD_RIGHT), "one| two"),
        (("", Key.BACKSPACE, Key.LEFT, Key.RIGHT, Key.DELETE, Key.WORD_LEFT), "|"),
        (("ae" + ACCENT, Key.BACKSPACE), "a|"),
        (("ae" + ACCENT + "b", Key.LEFT, Key.LEFT, "x"), "ax|e" + ACCENT + "b"),
        (("ae" + ACCENT, Key.HOME, Key.RIGHT, Key.DELETE), "a|"),
        (("abc", Key.HOME, Key.DELETE_OR_END), "|bc"),
    ],
)
def test_editing(keys: tuple[Key | str, ...], line: str) -> None:
    editor = typed(*keys)
    assert editor.text[: editor.cursor] + "|" + editor.text[editor.cursor :] == line


def test_history() -> None:
    editor = typed("first")
    assert editor.submit() == "first"
    for line in ("second", "second", "  "):
        typed_into(editor, line)
        assert editor.submit() == line
    typed_into(editor, "draft")
    seen = []
    for key in (Key.UP, Key.UP, Key.UP, Key.DOWN, Key.DOWN, Key.DOWN):
        editor.press(key)
        seen.append(editor.text)
    assert seen == ["second", "first", "first", "second", "draft", "draft"]


def typed_into(editor: LineEditor, text: str) -> None:
    for character in text:
        editor.insert(character)


def test_a_line_is_limited() -> None:
    assert len(typed("x" * (MAX_LINE + 9)).text) == MAX_LINE


def test_a_long_line_scrolls() -> None:
    editor = typed("0123456789" * 5)
    editor.prompt = "> "
    assert editor.picture(20) == ("> 90123456789", "")
    editor.press(Key.HOME)
    assert editor.picture(20) == ("> ", "01234567890123456")
    editor.press(Key.RIGHT)
    assert editor.picture(20) == ("> 0", "1234567890123456")
    editor.press(Key.END)
    assert editor.picture(20)[0] == "> 90123456789"
    editor.press(Key.ERASE_BEFORE)
    assert editor.picture(20) == ("> ", "")


def test_a_wider_terminal_shows_more() -> None:
    editor = typed("0123456789" * 5)
    editor.picture(12)
    assert editor.picture(80) == ("0123456789" * 5, "")


def test_a_long_prompt_leaves_room() -> None:
    editor = typed("text")
    editor.prompt = "a very long prompt indeed> "
    before, after = editor.picture(30)
    assert (before, after) == ("g prompt indeed> text"[-19:], "")


EDITS = st.lists(st.sampled_from([*Key, "a", " ", "漢", ACCENT, "🎉"]), max_size=80)


@given(EDITS, st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_the_picture_fits(keys: list[Key | str], sizes: list[int]) -> None:
    editor = LineEditor()
    editor.prompt = "me> "
    for at, key in enumerate(keys):
        if isinstance(key, str):
            editor.insert(key)
        elif key is Key.ENTER:
            editor.submit()
        else:
            editor.press(key)
        assert 0 <= editor.cursor <= len(editor.text)
        columns = sizes[at % len(sizes)]
        before, after = editor.picture(columns)
        assert width(before + after) <= max(columns - 1, 2)
        assert editor.text[: editor.cursor].endswith(before[4:] if columns > 8 else "")
        assert editor.text[editor.cursor :].startswith(after)
