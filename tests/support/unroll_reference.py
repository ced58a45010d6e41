"""Reference for examples/unroll: runs a program as README.md of the example describes.

Knows nothing of the library in C, and unrolls nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field

from unroll_syntax import UnrollParser
from unroll_tree import (
    Assignment,
    Block,
    Chain,
    Choice,
    Expression,
    Literal,
    Loop,
    Minus,
    Print,
    Statement,
    Symbol,
    UnrollError,
    Variable,
    weigh,
)


@dataclass(frozen=True)
class Limits:
    operations: int = 1_000_000
    steps: int = 20_000_000
    values: int = 10_000


@dataclass
class Outcome:
    """What a program does.

    Attributes:
        printed: also before an error.
        variables: at the end; empty after an error.
        loops: variable, turns, line and column of each, in the order of the text.
    """

    printed: list[int] = field(default_factory=list)
    variables: dict[str, int] = field(default_factory=dict)
    loops: list[tuple[str, int, int, int]] = field(default_factory=list)
    error: UnrollError | None = None


def run(text: str, limits: Limits) -> Outcome:
    """Parse and execute a program."""
    outcome = Outcome()
    try:
        parser = UnrollParser(text)
        program = parser.program()
        check_size(program, limits.operations)
        outcome.loops = [
            (loop.name, loop.turns, *loop.place) for loop in loops_of(program)
        ]
        machine = Machine(parser.names, limits, outcome)
        machine.execute(program)
        outcome.variables = machine.variables
    except UnrollError as error:
        outcome.error = error
    return outcome


# The size when unrolled


def loops_of(statement: Statement) -> list[Loop]:
    """Return all loops, in the order of the text."""
    match statement:
        case Loop():
            return [statement, *loops_of(statement.body)]
        case Choice():
            return loops_of(statement.then) + loops_of(statement.otherwise)
        case Block():
            return [loop for each in statement.statements for loop in loops_of(each)]
        case _:
            return []


def outer_loops(statement: Statement) -> list[Loop]:
    """Return the loops that are in no other loop of the statement."""
    match statement:
        case Loop():
            return [statement]
        case Choice():
            return outer_loops(statement.then) + outer_loops(statement.otherwise)
        case Block():
            return [loop for each in statement.statements for loop in outer_loops(each)]
        case _:
            return []


def size_of(loop: Loop) -> int:
    """Return the operations of a loop when unrolled."""
    inner = sum(map(size_of, outer_loops(loop.body)))
    return loop.turns * (1 + weigh(loop.body) + inner)


def check_size(program: Block, limit: int) -> None:
    """Add up the sizes of the outermost loops.

    Raises:
        UnrollError: A loop passes the limit.
    """
    size = 0
    for loop in outer_loops(program):
        size += size_of(loop)
        if size > limit:
            raise UnrollError("limit", loop.place)


# Execution


def wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def divide(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def remainder(left: int, right: int) -> int:
    return left - divide(left, right) * right


OPERATORS: dict[str, Callable[[int, int], int]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": remainder,
}


class Machine:
    """Executes a tree."""

    def __init__(self, names: list[str], limits: Limits, outcome: Outcome) -> None:
        self.variables = dict.fromkeys(names, 0)
        self._limits = limits
        self._printed = outcome.printed
        self._steps = 0

    def execute(self, statement: Statement) -> None:
        match statement:
            case Assignment():
                self.variables[statement.name] = self._value(statement.value)
            case Print():
                value = self._value(statement.value)
                if len(self._printed) == self._limits.values:
                    raise UnrollError("output", statement.place)
                self._printed.append(value)
            case Choice():
                chosen = self._value(statement.condition)
                self.execute(statement.then if chosen else statement.otherwise)
            case Loop():
                self._loop(statement)
            case Block():
                for each in statement.statements:
                    self.execute(each)

    def _loop(self, loop: Loop) -> None:
        weight = weigh(loop.body) + 1
        self.variables[loop.name] = 0
        while self.variables[loop.name] < loop.turns:
            self._steps += weight
            if self._steps > self._limits.steps:
                raise UnrollError("steps", loop.place)
            self.execute(loop.body)
            self.variables[loop.name] = wrap(self.variables[loop.name] + 1)

    def _value(self, expression: Expression) -> int:
        match expression:
            case Literal():
                return expression.value
            case Variable():
                return self.variables[expression.name]
            case Minus():
                return wrap(-self._value(expression.operand))
            case Chain():
                value = self._value(expression.first)
                for symbol, right in expression.rest:
                    value = self._apply(symbol, value, self._value(right))
                return value

    def _apply(self, symbol: Symbol, left: int, right: int) -> int:
        if symbol.text in "/%" and right == 0:
            raise UnrollError("division", symbol.place)
        return wrap(int(OPERATORS[symbol.text](left, right)))
