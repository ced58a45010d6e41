"""Reads TOML 1.0, except dates, in a time that grows linearly with the text.

Application files come from users whose mistakes must not slow down a server. tomllib
needs quadratic time and memory for dotted keys, 15 ms for its imports, and does not
tell where a key is. This reader imports nothing, holds nesting below MAX_DEPTH and
numbers within 64 bits, and finds the line of a key.

No option of an application file takes a date. Knows no application, no option and no
file: https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Table = dict[str, Any]
    Path = tuple[str, ...]

MAX_DEPTH = 128  # of tables and arrays within each other, dotted keys included
_INTEGERS = range(-(1 << 63), 1 << 63)
_MAX_DIGITS = 1000  # of a number: float() and int() are not linear
_CONTROLS = frozenset(map(chr, range(32))) - {"\t"} | {"\x7f"}
_CONTROLS_OF_LINES = _CONTROLS - {"\n"}
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_BLANK = frozenset(" \t\n")
_BLANK_OR_COMMENT = frozenset(" \t\n#")
_SPACE = frozenset(" \t")
_END = "\0"  # after the text; no text may contain it
_END_OF_SCALAR = frozenset(" \t\n,]}#=" + _END)
_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")
_BASES = {
    "0x": (16, _HEX),
    "0o": (8, frozenset("01234567")),
    "0b": (2, frozenset("01")),
}
_ESCAPES = dict(zip('btnfr"\\', '\b\t\n\f\r"\\', strict=True))
_CONSTANTS: dict[str, bool | float] = {"true": True, "false": False}
for _sign in ("", "+", "-"):
    for _word in ("inf", "nan"):
        _CONSTANTS[_sign + _word] = float(_sign + _word)


class TomlSyntaxError(ValueError):
    """A text that is not TOML, or that exceeds a bound.

    Attributes:
        line: The line of the error, from 1 up.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def parse(text: str) -> Table:
    """Read a document.

    Raises:
        TomlSyntaxError: The text is not TOML.
    """
    return TomlParser(text).document()


class TomlParser:
    """One pass over a text, which also finds the lines of keys.

    Args:
        text: The text of a document.
    """

    __slots__ = (
        "_at",
        "_closed",
        "_defined",
        "_depth",
        "_dotted",
        "_positions",
        "_repeated",
        "_root",
        "_table",
        "_text",
    )

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n") + _END
        self._at = 0
        self._root: Table = {}
        self._table = self._root  # that the keys of this section belong to
        self._depth = 0  # of this table
        # By id(): every value lives as long as the document.
        self._positions: dict[tuple[int, str], int] = {}  # by the table of a key
        self._defined: set[int] = set()  # tables that no header may define again
        self._dotted: set[int] = set()  # the same, made by keys of this section
        self._closed: set[int] = set()  # inline tables, to which no key may be added
        self._repeated: set[int] = set()  # arrays of tables, made by headers

    def document(self) -> Table:
        """Read the document.

        Raises:
            TomlSyntaxError: The text is not TOML.
        """
        while True:
            self._skip_blank()
            character = self._text[self._at]
            if character == _END and self._at == len(self._text) - 1:
                return self._root
            if character == "[":
                self._header()
            else:
                self._pair(self._table, self._depth)
            self._skip_space()
            if self._text[self._at] not in (_END, "\n", "#"):
                self._fail("text after the value; begin a new line")

    # Places

    def find_line(self, path: Path) -> int:
        """Find the line where a key first occurs, or where its nearest parent does.

        Elements of an array are not looked up.

        Args:
            path: The keys from the root. If it is empty, the result is 1.
        """
        value: object = self._root
        position = 0
        for key in path:
            if not isinstance(value, dict) or key not in value:
                break
            position = self._positions[id(value), key]
            value = value[key]
        return self._line(position)

    def _line(self, position: int) -> int:
        return self._text.count("\n", 0, position) + 1

    def _fail(self, reason: str, position: int | None = None) -> NoReturn:
        at = self._at if position is None else position
        raise TomlSyntaxError(self._line(at), reason)

    def _skip_space(self) -> None:
        while self._text[self._at] in _SPACE:
            self._at += 1

    def _skip_blank(self) -> None:
        """Skip spaces, ends of lines and comments."""
        text, at = self._text, self._at
        while text[at] in _BLANK_OR_COMMENT:
            if text[at] == "#":
                end = text.find("\n", at)
                end = len(text) - 1 if end < 0 else end
                self._check_characters(at, end, _CONTROLS)
                at = end
            else:
                at += 1
        self._at = at

    def _check_characters(self, start: int, end: int, bad: frozenset[str]) -> None:
        """Refuse control characters in a part of the text."""
        part = self._text[start:end]
        if bad.isdisjoint(part):
            return
        offset = next(n for n, character in enumerate(part) if character in bad)
        if part[offset] == "\n":
            self._fail("a string without an end; close its quotes", start)
        code = f"\\u{ord(part[offset]):04x}"
        self._fail(f"a control character; write {code} in quotes", start + offset)

    # Tables and keys

    def _header(self) -> None:
        """Read [table] or [[table]], and make it the table of this section."""
        start = self._at
        brackets = "[[" if self._text.startswith("[[", start) else "["
        self._at += len(brackets)
        self._skip_space()
        path = self._key(0)
        if not self._text.startswith("]]"[: len(brackets)], self._at):
            self._fail(f"no {']]'[: len(brackets)]} after the name of a table")
        self._at += len(brackets)
        self._defined |= self._dotted
        self._dotted.clear()
        table = self._root
        for key in path[:-1]:
            table = self._enter(table, key, start)
        self._depth = len(path)
        define = self._append if brackets == "[[" else self._define
        self._table = define(table, path[-1], start)

    def _enter(self, table: Table, key: str, start: int) -> Table:
        """Return a table on the way to that of a header."""
        if key not in table:
            self._add(table, key, {}, start)
        found = table[key]
        if id(found) in self._repeated:
            found = found[-1]
        if not isinstance(found, dict) or id(found) in self._closed:
            self._fail(f'"{key}" has a value already; leave one out', start)
        return found

    def _define(self, table: Table, key: str, start: int) -> Table:
        found: object = table.get(key, {})
        number = id(found)
        if (
            not isinstance(found, dict)
            or number in self._defined
            or number in self._closed
        ):
            self._fail(f'"{key}" is defined twice; leave one out', start)
        if key not in table:
            self._add(table, key, found, start)
        self._defined.add(number)
        return found

    def _append(self, table: Table, key: str, start: int) -> Table:
        if key not in table:
            self._add(table, key, [], start)
            self._repeated.add(id(table[key]))
        if id(table[key]) not in self._repeated:
            self._fail(f'"{key}" has a value already; leave one out', start)
        element: Table = {}
        table[key].append(element)
        return element

    def _add(self, table: Table, key: str, value: object, start: int) -> None:
        table[key] = value
        self._positions[id(table), key] = start

    def _pair(self, table: Table, depth: int) -> None:
        """Read KEY = VALUE into a table."""
        start = self._at
        path = self._key(depth)
        if self._text[self._at] != "=":
            self._fail("no = after a key; write KEY = VALUE")
        self._at += 1
        self._skip_space()
        value = self._value(depth + len(path))
        for key in path[:-1]:
            table = self._open(table, key, start)
        if path[-1] in table:
            self._fail(f'"{path[-1]}" has a value already; leave one out', start)
        self._add(table, path[-1], value, start)

    def _open(self, table: Table, key: str, start: int) -> Table:
        """Return a table on the way to that of a dotted key."""
        if key not in table:
            self._add(table, key, {}, start)
        found = table[key]
        number = id(found)
        if (
            not isinstance(found, dict)
            or number in self._closed
            or number in self._defined
        ):
            self._fail(f'"{key}" has a value already; leave one out', start)
        self._dotted.add(number)
        return found

    def _key(self, depth: int) -> list[str]:
        """Read a key, and the spaces after it."""
        path = [self._key_part()]
        self._skip_space()
        while self._text[self._at] == ".":
            self._at += 1
            self._skip_space()
            path.append(self._key_part())
            self._skip_space()
            if depth + len(path) > MAX_DEPTH:
                self._fail_depth()
        return path

    def _fail_depth(self) -> NoReturn:
        self._fail(f"nested deeper than {MAX_DEPTH}; write it with fewer levels")

    def _key_part(self) -> str:
        character = self._text[self._at]
        if character == '"':
            return self._basic(self._at + 1, '"', _CONTROLS)
        if character == "'":
            return self._literal(self._at + 1, "'", _CONTROLS)
        start = self._at
        text, at = self._text, start
        while text[at] in _BARE:
            at += 1
        if at == start:
            self._fail("no key here; write KEY = VALUE")
        self._at = at
        return text[start:at]

    # Values

    def _value(self, depth: int) -> Any:
        character = self._text[self._at]
        if character == '"':
            if self._text.startswith('"""', self._at):
                return self._basic(self._first_line(), '"""', _CONTROLS_OF_LINES)
            return self._basic(self._at + 1, '"', _CONTROLS)
        if character == "'":
            if self._text.startswith("'''", self._at):
                return self._literal(self._first_line(), "'''", _CONTROLS_OF_LINES)
            return self._literal(self._at + 1, "'", _CONTROLS)
        if character not in ("[", "{"):
            return self._scalar()
        if depth >= MAX_DEPTH:
            self._fail_depth()
        self._at += 1
        return self._array(depth) if character == "[" else self._inline_table(depth)

    def _array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        start = self._at
        while True:
            self._skip_blank()
            if self._text[self._at] == "]":
                break
            if self._text[self._at] == _END:
                self._fail("an array without an end; close it with ]", start)
            items.append(self._value(depth + 1))
            self._skip_blank()
            if self._text[self._at] != ",":
                break
            self._at += 1
        if self._text[self._at] != "]":
            self._fail("no comma or ] after an element of an array")
        self._at += 1
        return items

    def _inline_table(self, depth: int) -> Table:
        table: Table = {}
        self._skip_space()
        if self._text[self._at] != "}":
            self._pairs(table, depth)
        if self._text[self._at] != "}":
            self._fail("no comma or } after a value in { }, all on one line")
        self._at += 1
        self._closed.add(id(table))
        return table

    def _pairs(self, table: Table, depth: int) -> None:
        while True:
            self._pair(table, depth)
            self._skip_space()
            if self._text[self._at] != ",":
                return
            self._at += 1
            self._skip_space()

    # Strings

    def _first_line(self) -> int:
        """Return where the text after three quotes begins."""
        at = self._at + 3
        return at + 1 if self._text.startswith("\n", at) else at

    def _literal(self, start: int, quotes: str, bad: frozenset[str]) -> str:
        end = self._find_end(start, quotes)
        self._check_characters(start, end, bad)
        return self._text[start:end] + self._close(end, quotes)

    def _find_end(self, start: int, quotes: str) -> int:
        end = self._text.find(quotes, start)
        if end < 0:
            self._fail(f"a string without an end; close it with {quotes}", start)
        return end

    def _close(self, end: int, quotes: str) -> str:
        """Go behind the closing quotes. Returns quotes that belong to the text."""
        self._at = end + len(quotes)
        if len(quotes) == 1:
            return ""
        extra = ""
        while len(extra) < 2 and self._text[self._at] == quotes[0]:
            extra += quotes[0]
            self._at += 1
        return extra

    def _basic(self, start: int, quotes: str, bad: frozenset[str]) -> str:
        """Read a string with escapes."""
        parts = []
        end = self._find_end(start, quotes)
        while (escape := self._text.find("\\", start, end)) >= 0:
            self._check_characters(start, escape, bad)
            parts.append(self._text[start:escape])
            self._at = escape + 1
            parts.append(self._escaped(len(quotes) == 3))
            start = self._at
            if end < start:  # the escape was that of a quote
                end = self._find_end(start, quotes)
        self._check_characters(start, end, bad)
        parts.append(self._text[start:end])
        parts.append(self._close(end, quotes))
        return "".join(parts)

    def _escaped(self, has_lines: bool) -> str:
        """Read the rest of an escape."""
        character = self._text[self._at]
        self._at += 1
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character in ("u", "U"):
            return self._code_point(4 if character == "u" else 8)
        if has_lines and character in _BLANK:
            start, self._at = self._at - 1, self._at - 1
            while self._text[self._at] in _BLANK:
                self._at += 1
            if "\n" in self._text[start : self._at]:
                return ""
        return self._fail("a backslash without a meaning; write \\\\")

    def _code_point(self, length: int) -> str:
        digits = self._text[self._at : self._at + length]
        code = int(digits, 16) if len(digits) == length and {*digits} <= _HEX else -1
        if not (0 <= code < 0xD800 or 0xDFFF < code < 0x110000):
            self._fail("no character has this number; write \\u and four digits")
        self._at += length
        return chr(code)

    # Numbers and constants

    def _scalar(self) -> bool | int | float:
        start = self._at
        text, at = self._text, start
        while text[at] not in _END_OF_SCALAR:
            at += 1
        self._at = at
        word = text[start:at]
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if not word:
            self._fail("a value is missing", start)
        if len(word) > _MAX_DIGITS:
            self._fail(f"a number of over {_MAX_DIGITS} digits", start)
        if len(word) < 19 and word.isdecimal() and word.isascii() and word[0] != "0":
            return int(word)
        number = _number(word)
        if number is None:
            if word[0] in _DIGITS and ("-" in word or ":" in word):
                self._fail(f'{word} is a date or time; write "{word}"', start)
            self._fail(f'not a value; write "{word}" if it is a string', start)
        if isinstance(number, int) and number not in _INTEGERS:
            self._fail("a whole number of over 64 bits; write it as a string", start)
        return number


def _number(word: str) -> int | float | None:
    """Read a number. Returns None if the word is none."""
    base, digits = _BASES.get(word[:2], (10, _DIGITS))
    if base != 10:
        return int(word[2:].replace("_", ""), base) if _is(word[2:], digits) else None
    unsigned = word[1:] if word[0] in "+-" else word
    mantissa, mark, exponent = unsigned.replace("E", "e").partition("e")
    if exponent[:1] in ("+", "-"):
        exponent = exponent[1:]
    whole, dot, fraction = mantissa.partition(".")
    if not _is(whole, _DIGITS) or (whole[0] == "0" and len(whole) > 1):
        return None
    if (dot and not _is(fraction, _DIGITS)) or (mark and not _is(exponent, _DIGITS)):
        return None
    plain = word.replace("_", "")
    return float(plain) if dot or mark else int(plain)


def _is(text: str, digits: frozenset[str]) -> bool:
    """Return True for digits with single underscores between them."""
    return all(part and digits.issuperset(part) for part in text.split("_"))
