"""Tracks the modes that output sets in a terminal, and computes the reset sequence.

The reset sequence resets modes that are still set, and nothing else. It is empty after
a program that has reset its modes itself. Titles and other things that no sequence can
restore are ignored.

Pure. Follows ECMA-48, the control sequences of xterm and the keyboard protocol of
kitty.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar

# Private modes (CSI ? n h) by their default state.
KEYPAD = 66  # some terminals know it only as ESC = and ESC >
ALTERNATE_SCREEN = (47, 1047, 1049)  # three modes for the same screen
OFF_MODES = frozenset(
    (
        *(1, KEYPAD),  # application cursor keys, application keypad
        *(5, 6, 45, 69),  # reverse video, origin, reverse wrap, left and right margins
        *(9, 1000, 1001, 1002, 1003),  # mouse reports
        *(1005, 1006, 1015, 1016),  # encodings of mouse reports
        *(1004, 2004, 2026),  # focus reports, bracketed paste, synchronized updates
    )
)
RESET_MODES = OFF_MODES - {KEYPAD}
ON_MODES = frozenset((7, 25))  # line wrap, visible cursor
ANSI_MODES = frozenset((2, 4, 20))  # CSI n h: keyboard lock, insert mode, newline mode
RESOURCES = frozenset((b"0", b"1", b"2", b"4"))  # CSI > n ; m m: modifier keys

# Attributes (CSI n m), with the number that resets each.
ATTRIBUTE_ENDS = {
    **dict.fromkeys((1, 2), 22),
    **dict.fromkeys((4, 21), 24),
    **dict.fromkeys((5, 6), 25),
    **dict.fromkeys((*range(30, 39), *range(90, 98)), 39),
    **dict.fromkeys((*range(40, 49), *range(100, 108)), 49),
    **dict(zip((3, 7, 8, 9, 53, 58), (23, 27, 28, 29, 55, 59), strict=True)),
}
COLOUR_ARGUMENTS = {b"5": 1, b"2": 3}  # number of values of a colour after 38, 48 or 58

SEQUENCE = re.compile(
    rb"\x1b(?:"
    rb"\[([<=>?]?)([0-9:;]{0,99})([ !]?)([hlmpqru])"  # CSI
    rb"|([()])([0-~])"  # character set of G0 or G1
    rb"|([=>c]))"  # keypad mode, full reset
)
SHIFT_OUT, SHIFT_IN = b"\x0e", b"\x0f"  # select G1, select G0
INCOMPLETE = re.compile(rb"\x1b(?:\[[0-?]{0,99}[ -/]{0,9}|[ -/]{0,9})\Z")
STRINGS = b"]PX^_"  # ESC and one of these begin a string, which ESC \ ends
CANCEL = b"\x18"  # cancels an unfinished sequence
TERMINATORS = re.compile(rb"[\x18\x1a]"), re.compile(rb"[\x07\x18\x1a]")


class TerminalModes:
    """Modes of a terminal after all output so far.

    Args:
        rows: Returns the current number of rows.
    """

    def __init__(self, rows: Callable[[], int]) -> None:
        self._rows = rows
        self._incomplete = b""  # an unfinished sequence at the end of the output
        self._open_string = b""  # kind of the unfinished string, or empty
        self._shifted = False
        self._reset()

    def _reset(self) -> None:
        self._alternate_screen = 0
        self._pushed_key_modes = [
            0,
            0,
        ]  # keyboard modes, in the normal and the alternate screen
        self._key_resources: set[bytes] = set()
        self._cursor_shape_changed = False
        self._private_modes: set[int] = set()
        self._reset_soft()

    def _reset_soft(self) -> None:
        """Reset the state that a soft reset (CSI ! p) resets."""
        self._private_modes -= {1, 6, 25, KEYPAD, 69}
        self._ansi_modes: set[int] = set()
        self._attributes: set[int] = set()
        self._charsets: set[bytes] = set()
        self._scroll_region_set = False

    @property
    def full_screen(self) -> bool:
        """Whether the alternate screen is on, as while an editor or pager runs."""
        return self._alternate_screen > 0

    # Output.

    def feed(self, data: bytes) -> None:
        """Track a piece of output, which may end inside a sequence."""
        text = self._incomplete + data
        self._incomplete = b""
        last = text.rfind(b"\x1b")
        if last >= 0 and INCOMPLETE.match(text, last):
            text, self._incomplete = text[:last], text[last:]
            last = text.rfind(b"\x1b")
        if last >= 0:
            kind = text[last + 1 : last + 2]
            self._open_string = kind if kind in STRINGS else b""
        if self._open_string and TERMINATORS[self._open_string == b"]"].search(
            text, last + 1
        ):
            self._open_string = b""
        for found in SEQUENCE.finditer(text):
            self._apply(*found.groups(b""))
        if (out := text.rfind(SHIFT_OUT)) != (in_ := text.rfind(SHIFT_IN)):
            self._shifted = out > in_

    def _apply(
        self,
        prefix: bytes,
        params: bytes,
        middle: bytes,
        final: bytes,
        charset_slot: bytes,
        charset: bytes,
        escape: bytes,
    ) -> None:
        if final:
            action = self._CONTROLS.get(prefix + middle + final)
            if action is not None:
                action(self, params)
        elif charset_slot:
            (self._charsets.discard if charset == b"B" else self._charsets.add)(
                charset_slot
            )
        elif escape == b"c":
            self._reset()
        else:
            (
                self._private_modes.add
                if escape == b"="
                else self._private_modes.discard
            )(KEYPAD)

    def _set_private(self, params: bytes) -> None:
        for number in _numbers(params):
            if number in ALTERNATE_SCREEN:
                self._alternate_screen = number
            elif number in OFF_MODES:
                self._private_modes.add(number)
            else:
                self._private_modes.discard(number)

    def _reset_private(self, params: bytes) -> None:
        for number in _numbers(params):
            if number in ALTERNATE_SCREEN:
                self._alternate_screen = self._pushed_key_modes[1] = (
                    0  # leaving the screen discards its key modes
                )
            elif number in ON_MODES:
                self._private_modes.add(number)
            else:
                self._private_modes.discard(number)

    def _set_mode(self, params: bytes) -> None:
        self._ansi_modes |= ANSI_MODES.intersection(_numbers(params))

    def _reset_mode(self, params: bytes) -> None:
        self._ansi_modes.difference_update(_numbers(params))

    def _set_attributes(self, params: bytes) -> None:
        items = iter(params.split(b";"))
        for item in items:
            word, colon, _ = item.partition(b":")
            number = int(word or b"0")
            if item == b"4:0":
                number = 24
            if number == 0:
                self._attributes.clear()
            self._attributes.discard(number)
            if number in ATTRIBUTE_ENDS:
                self._attributes.add(ATTRIBUTE_ENDS[number])
            if number in (38, 48, 58) and not colon:
                for _skipped in range(COLOUR_ARGUMENTS.get(next(items, b""), 0)):
                    next(items, None)

    def _set_region(self, params: bytes) -> None:
        top, bottom = (*_numbers(params), 0, 0)[:2]
        self._scroll_region_set = top > 1 or 0 < bottom < self._rows()

    def _set_shape(self, params: bytes) -> None:
        self._cursor_shape_changed = _numbers(params) not in ([], [0])

    def _set_resource(self, params: bytes) -> None:
        resource, _, value = params.partition(b";")
        if not value.strip(b"0"):
            self._key_resources.discard(resource)
        elif resource in RESOURCES:
            self._key_resources.add(resource)

    def _push_keys(self, params: bytes) -> None:
        self._pushed_key_modes[self._alternate_screen > 0] += 1

    def _pop_keys(self, params: bytes) -> None:
        screen = self._alternate_screen > 0
        count = int(params) if params.isdigit() else 1
        self._pushed_key_modes[screen] = max(0, self._pushed_key_modes[screen] - count)

    def _soft_reset(self, params: bytes) -> None:
        self._reset_soft()

    _CONTROLS: ClassVar[dict[bytes, Callable[[TerminalModes, bytes], None]]] = {
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

    # Reset.

    def reset_sequence(self) -> bytes:
        """Return the sequence that resets all modes, empty if none is set."""
        sequences = [CANCEL] if self._incomplete or self._open_string else []
        sequences += [
            b"\x1b[?%dh" % number for number in sorted(self._private_modes & ON_MODES)
        ]
        sequences += [
            b"\x1b[?%dl" % number
            for number in sorted(self._private_modes & RESET_MODES)
        ]
        sequences += [b"\x1b>"] if KEYPAD in self._private_modes else []
        sequences += [b"\x1b[%dl" % number for number in sorted(self._ansi_modes)]
        if (
            self._scroll_region_set
        ):  # this moves the cursor, but mode 1049 has saved its position
            whole = b"\x1b[r" if self._alternate_screen == 1049 else b"\x1b7\x1b[r\x1b8"
            sequences.append(whole)
        for screen in (1, 0):
            if self._pushed_key_modes[screen]:
                sequences.append(b"\x1b[<%du" % self._pushed_key_modes[screen])
            if screen and self._alternate_screen:
                sequences.append(b"\x1b[?%dl" % self._alternate_screen)
        sequences += [
            b"\x1b[>%bm" % resource for resource in sorted(self._key_resources)
        ]
        sequences += [
            b"\x1b%bB" % charset_slot for charset_slot in sorted(self._charsets)
        ]
        sequences += [SHIFT_IN] if self._shifted else []
        sequences += [b"\x1b[m"] if self._attributes else []
        sequences += [b"\x1b[0 q"] if self._cursor_shape_changed else []
        return b"".join(sequences)


def _numbers(params: bytes) -> list[int]:
    return [int(word or b"0") for word in params.split(b";") if b":" not in word]
