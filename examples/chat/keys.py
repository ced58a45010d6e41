r"""Decodes the bytes that a terminal sends into characters and keys.

Pure. A sequence may arrive in pieces. The sequences are those of xterm (ECMA-48):
`\x1b[…` and `\x1bO…` for keys, `\x1b` and a character for a key with Alt, and
`\x1b[200~` … `\x1b[201~` around pasted text. Unknown sequences are dropped.
"""

from __future__ import annotations

import codecs
import re
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from chat.display_text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator


class Key(Enum):
    """A key that is no character."""

    ENTER = auto()
    BACKSPACE = auto()
    DELETE = auto()
    LEFT = auto()
    RIGHT = auto()
    WORD_LEFT = auto()
    WORD_RIGHT = auto()
    HOME = auto()
    END = auto()
    UP = auto()
    DOWN = auto()
    ERASE_WORD = auto()
    ERASE_BEFORE = auto()
    ERASE_AFTER = auto()
    CLEAR_SCREEN = auto()
    INTERRUPT = auto()  # Ctrl-C
    DELETE_OR_END = auto()  # Ctrl-D: the end of input on an empty line


class CursorColumn(NamedTuple):
    """The answer of a terminal that was asked for its cursor. Counts from 0."""

    column: int


CONTROLS = {
    "\r": Key.ENTER,
    "\n": Key.ENTER,
    "\x7f": Key.BACKSPACE,
    "\b": Key.BACKSPACE,
    "\x01": Key.HOME,
    "\x02": Key.LEFT,
    "\x03": Key.INTERRUPT,
    "\x04": Key.DELETE_OR_END,
    "\x05": Key.END,
    "\x06": Key.RIGHT,
    "\x0b": Key.ERASE_AFTER,
    "\x0c": Key.CLEAR_SCREEN,
    "\x0e": Key.DOWN,
    "\x10": Key.UP,
    "\x15": Key.ERASE_BEFORE,
    "\x17": Key.ERASE_WORD,
}
SEQUENCES = {
    **dict.fromkeys(("[A", "OA"), Key.UP),
    **dict.fromkeys(("[B", "OB"), Key.DOWN),
    **dict.fromkeys(("[C", "OC"), Key.RIGHT),
    **dict.fromkeys(("[D", "OD"), Key.LEFT),
    **dict.fromkeys(("[H", "OH", "[1~", "[7~"), Key.HOME),
    **dict.fromkeys(("[F", "OF", "[4~", "[8~"), Key.END),
    **dict.fromkeys(("[1;5C", "[1;3C", "f"), Key.WORD_RIGHT),
    **dict.fromkeys(("[1;5D", "[1;3D", "b"), Key.WORD_LEFT),
    **dict.fromkeys(("\x7f", "\b"), Key.ERASE_WORD),
    "[3~": Key.DELETE,
}
CURSOR = re.compile(r"\[\d+;(\d+)R")
PASTE, PASTE_END = "[200~", "[201~"
# After the escape character: a whole sequence, or the beginning of one.
WHOLE = re.compile(r"\[[0-?]*[ -/]*[@-~]|O[ -~]|[^\[O]", re.DOTALL)
PARTIAL = re.compile(r"(\[[0-?]*[ -/]*|O)?\Z")
MAX_SEQUENCE = 32


class KeyDecoder:
    """Decoder of the input of a terminal. Keeps the state between two pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._pasting = False

    def decode(self, data: bytes) -> Iterator[Key | CursorColumn | str]:
        """Yield the keys in these bytes, and printable text character by character."""
        text = self._pending + self._decoder.decode(data)
        self._pending = ""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                yield from self._character(text[at])
                at += 1
                continue
            found = WHOLE.match(text, at + 1)
            if found is None and self._incomplete(text, at):
                self._pending = text[at:]
                return
            at = found.end() if found else at + 1
            if found:
                yield from self._sequence(found[0])

    def _incomplete(self, text: str, at: int) -> bool:
        return len(text) - at < MAX_SEQUENCE and PARTIAL.match(text, at + 1) is not None

    def _character(self, character: str) -> Iterator[Key | str]:
        if escaped(character) == character:
            yield character
        elif self._pasting or character == "\t":
            # A pasted text of several lines is one line of input.
            yield " "
        elif character in CONTROLS:
            yield CONTROLS[character]

    def _sequence(self, sequence: str) -> Iterator[Key | CursorColumn]:
        if sequence in (PASTE, PASTE_END):
            self._pasting = sequence == PASTE
        elif sequence in SEQUENCES and not self._pasting:
            yield SEQUENCES[sequence]
        elif found := CURSOR.fullmatch(sequence):
            yield CursorColumn(int(found[1]) - 1)
