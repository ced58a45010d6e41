"""Parser of the reference for examples/unroll: text to a tree, or the first error.

Written from README.md of the example. Does not know how the tree is run.
"""

from __future__ import annotations

import re

from unroll_tree import (
    Assignment,
    Block,
    Chain,
    Choice,
    Expression,
    Literal,
    Loop,
    Minus,
    Place,
    Print,
    Statement,
    Symbol,
    UnrollError,
    Variable,
)

MAX_SOURCE, MAX_NAME, MAX_VARIABLES, MAX_NESTING = 65536, 63, 256, 100
MAX_TURNS, MAX_NUMBER = 222, 2**63 - 1
# Lowest precedence first.
LEVELS = (("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
SPACE = re.compile(r"(?:[ \t\r\n]|//[^\n]*)*")
# The last alternative is a character that no symbol has.
SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|\+\+|[=!<>]=|.", re.DOTALL)


class SymbolReader:
    """Splits a text into symbols. `next` is the one after the last taken one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at, self._line, self._line_start = 0, 1, 0
        self.next = self._read()

    def take(self) -> Symbol:
        taken = self.next
        self.next = self._read()
        return taken

    def _read(self) -> Symbol:
        space = SPACE.match(self._text, self._at)
        assert space
        if lines := space[0].count("\n"):
            self._line += lines
            self._line_start = self._text.rindex("\n", self._at, space.end()) + 1
        self._at = space.end()
        place = Place(self._line, self._at - self._line_start + 1)
        found = SYMBOL.match(self._text, self._at)
        text = found[0] if found else ""
        self._at += len(text)
        return Symbol(text, place)


def check_length(text: str) -> None:
    """Refuse a text over the limit, at the first character that is beyond it."""
    raw = text.encode()
    if len(raw) > MAX_SOURCE:
        # A character on the limit is beyond it.
        allowed = raw[:MAX_SOURCE].decode(errors="ignore")
        line = allowed.count("\n") + 1
        column = len(allowed) - (allowed.rfind("\n") + 1) + 1
        raise UnrollError("limit", Place(line, column))


class UnrollParser:
    """Recursive descent over the symbols of a program.

    Attributes:
        names: the variables, in the order of their first assignments.
    """

    def __init__(self, text: str) -> None:
        check_length(text)
        self._symbols = SymbolReader(text)
        self._depth = 0
        self._assigned: set[str] = set()
        self.names: list[str] = []

    def program(self) -> Block:
        found = []
        while self._symbols.next.text:
            found.append(self._statement())
        return Block(tuple(found))

    # Symbols

    def _accepts(self, text: str) -> bool:
        return self._symbols.next.text == text

    def _refusal(self) -> UnrollError:
        """Return the error of the next symbol, which is not allowed here."""
        symbol = self._symbols.next
        long = symbol.is_name and len(symbol.text) > MAX_NAME
        return UnrollError("limit" if long else "syntax", symbol.place)

    def _expect(self, text: str) -> Symbol:
        if not self._accepts(text):
            raise self._refusal()
        return self._symbols.take()

    def _open(self, text: str) -> None:
        """Begin a level of nesting with the next symbol, and take it."""
        if self._accepts(text) and self._depth == MAX_NESTING:
            raise UnrollError("limit", self._symbols.next.place)
        self._expect(text)
        self._depth += 1

    def _close(self, text: str = "") -> None:
        if text:
            self._expect(text)
        self._depth -= 1

    def _name(self) -> Symbol:
        symbol = self._symbols.next
        if not symbol.is_name or len(symbol.text) > MAX_NAME:
            raise self._refusal()
        return self._symbols.take()

    def _target(self) -> str:
        """Take the name of a variable that is set."""
        place = self._symbols.next.place
        name = self._name().text
        if name not in self.names:
            if len(self.names) == MAX_VARIABLES:
                raise UnrollError("limit", place)
            self.names.append(name)
        return name

    def _number(self, highest: int) -> int:
        symbol = self._symbols.next
        plain = symbol.is_number and (symbol.text[0] != "0" or symbol.text == "0")
        # A long number is not converted: Python limits the digits.
        if not plain or len(symbol.text) > 19 or int(symbol.text) > highest:
            raise self._refusal()
        return int(self._symbols.take().text)

    # Statements

    def _statement(self) -> Statement:
        symbol = self._symbols.next
        match symbol.text:
            case "{":
                return self._block()
            case "if":
                self._symbols.take()
                return self._choice()
            case "for":
                return self._loop()
            case "print":
                self._symbols.take()
                value = self._expression()
                self._expect(";")
                return Print(value, symbol.place)
        name = self._target()
        self._expect("=")
        value = self._expression()
        self._expect(";")
        self._assigned.add(name)
        return Assignment(name, value)

    def _block(self) -> Block:
        self._open("{")
        found = []
        while not self._accepts("}"):
            found.append(self._statement())
        self._close("}")
        return Block(tuple(found))

    def _choice(self) -> Choice:
        """Parse what follows "if"."""
        self._expect("(")
        condition = self._expression()
        self._expect(")")
        return Choice(condition, self._block(), self._otherwise())

    def _otherwise(self) -> Block:
        if not self._accepts("else"):
            return Block(())
        self._symbols.take()
        if not self._accepts("if"):
            return self._block()
        self._open("if")
        chosen = self._choice()
        self._close()
        return Block((chosen,))

    def _loop(self) -> Loop:
        place = self._expect("for").place
        self._expect("(")
        name = self._target()
        self._expect("=")
        self._number(0)
        self._assigned.add(name)
        for text in (";", name, "<"):
            self._expect(text)
        turns = self._number(MAX_TURNS)
        for text in (";", "++", name, ")"):
            self._expect(text)
        return Loop(name, turns, self._block(), place)

    # Expressions

    def _expression(self, level: int = 0) -> Expression:
        if level == len(LEVELS):
            return self._unary()
        first = self._expression(level + 1)
        rest = []
        while self._symbols.next.text in LEVELS[level]:
            operator = self._symbols.take()
            rest.append((operator, self._expression(level + 1)))
        return Chain(first, tuple(rest)) if rest else first

    def _unary(self) -> Expression:
        symbol = self._symbols.next
        if symbol.text == "-":
            self._open("-")
            operand = self._unary()
            self._close()
            return Minus(operand)
        if symbol.text == "(":
            self._open("(")
            inner = self._expression()
            self._close(")")
            return inner
        if symbol.is_number:
            return Literal(self._number(MAX_NUMBER))
        name = self._name().text
        if name not in self._assigned:
            raise UnrollError("syntax", symbol.place)
        return Variable(name)
