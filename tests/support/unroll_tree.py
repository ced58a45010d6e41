"""Tree of the reference for examples/unroll: symbols, expressions and statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

KEYWORDS = {"for", "if", "else", "print"}


class Place(NamedTuple):
    line: int
    column: int


class UnrollError(Exception):
    """An error of a program.

    Attributes:
        kind: as in README.md.
        place: line and column, from 1.
    """

    def __init__(self, kind: str, place: Place) -> None:
        super().__init__(kind, place)
        self.kind = kind
        self.place = place


class Symbol(NamedTuple):
    text: str  # "" at the end
    place: Place

    @property
    def is_name(self) -> bool:
        named = self.text.isascii() and self.text.isidentifier()
        return named and self.text not in KEYWORDS

    @property
    def is_number(self) -> bool:
        return self.text.isascii() and self.text.isdigit()


@dataclass(frozen=True)
class Literal:
    value: int
    weight: int = 1


@dataclass(frozen=True)
class Variable:
    name: str
    weight: int = 1


@dataclass(frozen=True)
class Minus:
    operand: Expression

    @property
    def weight(self) -> int:
        return 1 + self.operand.weight


@dataclass(frozen=True)
class Chain:
    """Operators of one level, applied from left to right."""

    first: Expression
    rest: tuple[tuple[Symbol, Expression], ...]

    @property
    def weight(self) -> int:
        return self.first.weight + sum(1 + right.weight for _, right in self.rest)


Expression = Literal | Variable | Minus | Chain


@dataclass(frozen=True)
class Assignment:
    name: str
    value: Expression


@dataclass(frozen=True)
class Print:
    value: Expression
    place: Place


@dataclass(frozen=True)
class Choice:
    condition: Expression
    then: Block
    otherwise: Block


@dataclass(frozen=True)
class Loop:
    name: str
    turns: int
    body: Block
    place: Place


@dataclass(frozen=True)
class Block:
    statements: tuple[Statement, ...]


Statement = Assignment | Print | Choice | Loop | Block


def weigh(statement: Statement) -> int:
    match statement:
        case Assignment() | Print():
            return 1 + statement.value.weight
        case Choice():
            branches = weigh(statement.then) + weigh(statement.otherwise)
            return 1 + statement.condition.weight + branches
        case Loop():
            return 1
        case Block():
            return sum(map(weigh, statement.statements))
