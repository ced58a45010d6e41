"""The line that a user types on a terminal: editing, history, and its picture.

Pure. The picture occupies one row, however long the line is: a part of the line is
shown, and the cursor is in it. Therefore text can be inserted above at any time.
"""

from __future__ import annotations

from chat.display_text import character_width, cut, cut_start, width
from chat.keys import Key

MAX_LINE = 4000  # characters
MAX_HISTORY = 200  # lines


class LineEditor:
    """The typed line, its cursor, and earlier lines."""

    def __init__(self) -> None:
        self.prompt = ""
        self.text = ""
        self.cursor = 0
        self._first = 0  # the first character in the picture
        self._history: list[str] = []
        self._at = 0  # the position in the history
        self._draft = ""  # the typed line while another of the history is shown

    def insert(self, character: str) -> None:
        if len(self.text) < MAX_LINE:
            before, after = self.text[: self.cursor], self.text[self.cursor :]
            self.text = before + character + after
            self.cursor += 1

    def press(self, key: Key) -> None:
        """Edit the line. Keys that end or submit it are left to the caller."""
        if key in (Key.UP, Key.DOWN):
            self._recall(self._at + (1 if key is Key.DOWN else -1))
        elif key in ERASING:
            self._erase(*sorted((self.cursor, self._target(ERASING[key]))))
        else:
            self.cursor = self._target(key)

    def submit(self) -> str:
        """Empty the line. Returns it, and remembers it for the history."""
        line = self.text
        if line.strip() and line not in self._history[-1:]:
            self._history = [*self._history, line][-MAX_HISTORY:]
        self.clear()
        return line

    def clear(self) -> None:
        self.text, self.cursor, self._draft = "", 0, ""
        self._at = len(self._history)

    def picture(self, columns: int) -> tuple[str, str]:
        """Return the visible text before the cursor, with the prompt, and after it.

        Together they are narrower than `columns`: a full row would wrap the cursor.
        """
        prompt = cut_start(self.prompt, max(columns // 2, columns - 20))
        room = max(columns - 1 - width(prompt), 1)
        if self._first > self.cursor:
            self._first = self._back(self.cursor, room // 3)
        if width(self.text[self._first : self.cursor]) > room - 1:
            self._first = self._back(self.cursor, room * 2 // 3)
        elif width(self.text[self._first :]) < room // 3:
            # The line has become shorter, or the terminal wider.
            self._first = self._back(self.cursor, room * 2 // 3)
        before = self.text[self._first : self.cursor]
        return prompt + before, cut(self.text[self.cursor :], room - width(before))

    def _back(self, end: int, columns: int) -> int:
        """Return the start of the last text before `end` that fits into columns."""
        start = end
        while start and width(self.text[start - 1 : end]) <= columns:
            start -= 1
        return start

    def _target(self, key: Key) -> int:
        """Return the position that a movement leads to."""
        match key:
            case Key.LEFT | Key.RIGHT:
                return self._step(1 if key is Key.RIGHT else -1)
            case Key.WORD_LEFT | Key.WORD_RIGHT:
                return self._word(1 if key is Key.WORD_RIGHT else -1)
            case Key.HOME:
                return 0
            case Key.END:
                return len(self.text)
        return self.cursor

    def _step(self, by: int) -> int:
        """Return the position of the next character that is not a combining one."""
        at = min(max(self.cursor + by, 0), len(self.text))
        while 0 < at < len(self.text) and character_width(self.text[at]) == 0:
            at += by
        return at

    def _word(self, by: int) -> int:
        """Return the position at the end of the next word, or at its beginning."""
        at, found = self.cursor, False
        while 0 <= (beside := at if by > 0 else at - 1) < len(self.text):
            if found and self.text[beside].isspace():
                break
            found = found or not self.text[beside].isspace()
            at += by
        return at

    def _erase(self, start: int, end: int) -> None:
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start

    def _recall(self, at: int) -> None:
        if not 0 <= at <= len(self._history):
            return
        if self._at == len(self._history):
            self._draft = self.text
        self._at = at
        self.text = [*self._history, self._draft][at]
        self.cursor = len(self.text)


ERASING = {
    Key.BACKSPACE: Key.LEFT,
    Key.DELETE: Key.RIGHT,
    Key.DELETE_OR_END: Key.RIGHT,
    Key.ERASE_WORD: Key.WORD_LEFT,
    Key.ERASE_BEFORE: Key.HOME,
    Key.ERASE_AFTER: Key.END,
}
