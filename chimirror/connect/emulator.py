"""What a program has changed of a terminal emulator, and the bytes that change it back.

Law: what was switched on and not off again is undone, and nothing else is touched; for
a program that has tidied up there is nothing to say. Pure: ECMA-48, the control
sequences of xterm, the keyboard protocol of kitty. What no byte can restore, such as a
title, is not looked at.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar

# Private modes (CSI ? n h), by what they are without a program.
KEYPAD = 66  # some know it as ESC = and ESC > alone
ALTERNATE = (47, 1047, 1049)  # one screen, three ways to it
OFF = frozenset(
    (
        *(1, KEYPAD),  # application cursor keys, application keypad
        *(5, 6, 45, 69),  # reverse video, origin, reverse wrap, left and right margins
        *(9, 1000, 1001, 1002, 1003),  # reports of the mouse
        *(1005, 1006, 1015, 1016),  # and their forms
        *(1004, 2004, 2026),  # reports of the focus, bracketed paste, held updates
    )
)
RESET = OFF - {KEYPAD}
ON = frozenset((7, 25))  # wrapping, the cursor
ANSI_OFF = frozenset((2, 4, 20))  # CSI n h: locked keys, insertion, new line
RESOURCES = frozenset((b"0", b"1", b"2", b"4"))  # CSI > n ; m m: what keys send

# Attributes (CSI n m) by the number that ends each.
ENDS = {
    **dict.fromkeys((1, 2), 22),
    **dict.fromkeys((4, 21), 24),
    **dict.fromkeys((5, 6), 25),
    **dict.fromkeys((*range(30, 39), *range(90, 98)), 39),
    **dict.fromkeys((*range(40, 49), *range(100, 108)), 49),
    **dict(zip((3, 7, 8, 9, 53, 58), (23, 27, 28, 29, 55, 59), strict=True)),
}
ARGUMENTS = {b"5": 1, b"2": 3}  # of a colour, after 38, 48 or 58

SEQUENCE = re.compile(
    rb"\x1b(?:"
    rb"\[([<=>?]?)([0-9:;]{0,99})([ !]?)([hlmpqru])"  # CSI
    rb"|([()])([0-~])"  # the character set that is G0 or G1
    rb"|([=>c]))"  # keypad, everything
)
OUT, IN = b"\x0e", b"\x0f"  # to G1, to G0
BEGUN = re.compile(rb"\x1b(?:\[[0-?]{0,99}[ -/]{0,9}|[ -/]{0,9})\Z")
STRINGS = b"]PX^_"  # ESC and one of these begin what ESC \ ends
CANCEL = b"\x18"  # leaves whatever sequence has begun
TERMINATORS = re.compile(rb"[\x18\x1a]"), re.compile(rb"[\x07\x18\x1a]")


class Emulator:
    """As it is after all output so far.

    Args:
        rows: how many it has now.
    """

    def __init__(self, rows: Callable[[], int]) -> None:
        self._rows = rows
        self._begun = b""  # a sequence of which the rest is to come
        self._string = b""  # its kind, if the output is within one
        self._shifted = False
        self._forget()

    def _forget(self) -> None:
        self._alternate = 0
        self._pushed = [0, 0]  # keyboard modes, in the normal screen and the other
        self._resources: set[bytes] = set()
        self._shape = False
        self._private: set[int] = set()
        self._restart()

    def _restart(self) -> None:
        """What a soft reset resets."""
        self._private -= {1, 6, 25, KEYPAD, 69}
        self._modes: set[int] = set()
        self._attributes: set[int] = set()
        self._sets: set[bytes] = set()
        self._region = False

    # Output

    def feed(self, data: bytes) -> None:
        """Take note of output, however it is cut."""
        text = self._begun + data
        self._begun = b""
        last = text.rfind(b"\x1b")
        if last >= 0 and BEGUN.match(text, last):
            text, self._begun = text[:last], text[last:]
            last = text.rfind(b"\x1b")
        if last >= 0:
            kind = text[last + 1 : last + 2]
            self._string = kind if kind in STRINGS else b""
        if self._string and TERMINATORS[self._string == b"]"].search(text, last + 1):
            self._string = b""
        for found in SEQUENCE.finditer(text):
            self._obey(*found.groups(b""))
        if (out := text.rfind(OUT)) != (in_ := text.rfind(IN)):
            self._shifted = out > in_

    def _obey(
        self,
        prefix: bytes,
        words: bytes,
        middle: bytes,
        final: bytes,
        place: bytes,
        charset: bytes,
        escape: bytes,
    ) -> None:
        if final:
            does = self._CONTROLS.get(prefix + middle + final)
            if does is not None:
                does(self, words)
        elif place:
            (self._sets.discard if charset == b"B" else self._sets.add)(place)
        elif escape == b"c":
            self._forget()
        else:
            (self._private.add if escape == b"=" else self._private.discard)(KEYPAD)

    def _set_private(self, words: bytes) -> None:
        for number in _numbers(words):
            if number in ALTERNATE:
                self._alternate = number
            elif number in OFF:
                self._private.add(number)
            else:
                self._private.discard(number)

    def _reset_private(self, words: bytes) -> None:
        for number in _numbers(words):
            if number in ALTERNATE:
                self._alternate = self._pushed[1] = 0  # what is there, nobody meets
            elif number in ON:
                self._private.add(number)
            else:
                self._private.discard(number)

    def _set_mode(self, words: bytes) -> None:
        self._modes |= ANSI_OFF.intersection(_numbers(words))

    def _reset_mode(self, words: bytes) -> None:
        self._modes.difference_update(_numbers(words))

    def _set_attributes(self, words: bytes) -> None:
        items = iter(words.split(b";"))
        for item in items:
            word, colon, _ = item.partition(b":")
            number = int(word or b"0")
            if item == b"4:0":
                number = 24
            if number == 0:
                self._attributes.clear()
            self._attributes.discard(number)
            if number in ENDS:
                self._attributes.add(ENDS[number])
            if number in (38, 48, 58) and not colon:
                for _skipped in range(ARGUMENTS.get(next(items, b""), 0)):
                    next(items, None)

    def _set_region(self, words: bytes) -> None:
        top, bottom = (*_numbers(words), 0, 0)[:2]
        self._region = top > 1 or 0 < bottom < self._rows()

    def _set_shape(self, words: bytes) -> None:
        self._shape = _numbers(words) not in ([], [0])

    def _set_resource(self, words: bytes) -> None:
        resource, _, value = words.partition(b";")
        if not value.strip(b"0"):
            self._resources.discard(resource)
        elif resource in RESOURCES:
            self._resources.add(resource)

    def _push_keys(self, words: bytes) -> None:
        self._pushed[self._alternate > 0] += 1

    def _pop_keys(self, words: bytes) -> None:
        screen = self._alternate > 0
        count = int(words) if words.isdigit() else 1
        self._pushed[screen] = max(0, self._pushed[screen] - count)

    def _soft_reset(self, words: bytes) -> None:
        self._restart()

    _CONTROLS: ClassVar[dict[bytes, Callable[[Emulator, bytes], None]]] = {
        b"?h": _set_private,
        b"?l": _reset_private,
        b"h": _set_mode,
        b"l": _reset_mode,
        b"m": _set_attributes,
        b"r": _set_region,
        b" q": _set_shape,
        b">m": _set_resource,
        b">u": _push_keys,
        b"<u": _pop_keys,
        b"!p": _soft_reset,
    }

    # Its end

    def undo(self) -> bytes:
        """What makes it as it was; empty if it is."""
        undo = [CANCEL] if self._begun or self._string else []
        undo += [b"\x1b[?%dh" % number for number in sorted(self._private & ON)]
        undo += [b"\x1b[?%dl" % number for number in sorted(self._private & RESET)]
        undo += [b"\x1b>"] if KEYPAD in self._private else []
        undo += [b"\x1b[%dl" % number for number in sorted(self._modes)]
        if self._region:  # which moves the cursor, but 1049 has saved where it was
            whole = b"\x1b[r" if self._alternate == 1049 else b"\x1b7\x1b[r\x1b8"
            undo.append(whole)
        for screen in (1, 0):
            if self._pushed[screen]:
                undo.append(b"\x1b[<%du" % self._pushed[screen])
            if screen and self._alternate:
                undo.append(b"\x1b[?%dl" % self._alternate)
        undo += [b"\x1b[>%bm" % resource for resource in sorted(self._resources)]
        undo += [b"\x1b%bB" % place for place in sorted(self._sets)]
        undo += [IN] if self._shifted else []
        undo += [b"\x1b[m"] if self._attributes else []
        undo += [b"\x1b[0 q"] if self._shape else []
        return b"".join(undo)


def _numbers(words: bytes) -> list[int]:
    return [int(word or b"0") for word in words.split(b";") if b":" not in word]
