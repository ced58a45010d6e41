"""Tests the language of examples/unroll through pipes, many messages to one process.

Every test runs with the usual build and with one of the sanitizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import unroll_reference
from strategies_unroll import broken_programs, programs
from unroll_programs import (
    NATIVE,
    SUM,
    UnrollProcess,
    meaning,
    nested,
    programs_directory,
)
from unroll_reference import Limits, Outcome

__all__ = ["programs_directory"]  # a fixture

pytestmark = pytest.mark.timeout(300)  # the compiler is slow on a busy machine

LIMITS = Limits(operations=30_000, steps=4000, values=300)
OPTIONS = ("--max-operations=30000", "--max-steps=4000", "--max-values=300")


@pytest.fixture
def process(programs_directory: Path) -> Iterator[UnrollProcess]:
    with UnrollProcess(programs_directory / "unroll-static") as running:
        yield running


# Results


def described(outcome: Outcome) -> dict[str, Any]:
    """Return what an answer has to tell. Messages of errors are free."""
    if not outcome.error:
        return {
            "printed": outcome.printed,
            "variables": outcome.variables,
            "loops": outcome.loops,
        }
    line, column = outcome.error.place
    found: dict[str, Any] = {
        "kind": outcome.error.kind,
        "line": line,
        "column": column,
    }
    if outcome.error.kind not in ("syntax", "limit"):
        found["printed"] = outcome.printed
    return found


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the same of an answer."""
    wanted = {"printed", "variables", "loops", "kind", "line", "column"}
    found = {name: value for name, value in answer.items() if name in wanted}
    if "loops" in found:
        found["loops"] = [
            tuple(loop[name] for name in ("variable", "turns", "line", "column"))
            for loop in found["loops"]
        ]
    return found


def test_machine_code_interpreter_and_reference_agree(programs_directory: Path) -> None:
    native = UnrollProcess(programs_directory / "unroll-shared", *OPTIONS)
    other = UnrollProcess(programs_directory / "unroll-loaded", "--interpret", *OPTIONS)

    @settings(max_examples=250)
    @given(programs() | broken_programs())
    def check(text: str) -> None:
        answer, interpreted = native.ask(text), other.ask(text)
        assert meaning(answer) == meaning(interpreted)
        assert told(answer) == described(unroll_reference.run(text, LIMITS))
        if "ran" in answer:
            assert (answer["ran"], interpreted["ran"]) == (NATIVE, "interpreter")

    with native, other:
        check()


def test_an_answer(process: UnrollProcess) -> None:
    answer = process.ask(SUM)
    assert answer["printed"] == [0, 1, 3, 6, 10, 15, 21, 28, 36, 45]
    assert answer["variables"] == {"s": 45, "i": 10}
    assert answer["loops"] == [
        {"variable": "i", "turns": 10, "line": 1, "column": 8, "sets_variable": False}
    ]
    assert answer["ran"] == NATIVE
    assert answer["operations"]["looped"] < answer["operations"]["unrolled"]
    if NATIVE == "machine code":
        assert 0 < answer["bytes"]["looped"] < answer["bytes"]["unrolled"]
    assert min(answer["nanoseconds"].values()) >= 0


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", []),
        ("print 7 - 2 - 1 * 3;", [2]),
        ("print -7 / 2; print -7 % 2; print 7 / -2; print 7 % -2;", [-3, -1, -3, 1]),
        ("print 1 < 2 == 1; print 3 == 3 == 3; print 1 - -1; print --1;", [1, 0, 2, 1]),
        ("m = 9223372036854775807 + 1; print m; print -m;", [-(2**63)] * 2),
        ("m = -9223372036854775807 - 1; print m / -1; print m % -1;", [-(2**63), 0]),
        ("m = 3037000500; print m * m;", [-9223372036709301616]),
        ("if (0) { x = 1; } print x;", [0]),
        ("x = 3; if (x < 3) { print 1; } else if (x) { print 2; }", [2]),
        ("for (i = 0; i < 0; ++i) { print i; } print i;", [0]),
        ("for (i = 0; i < 222; ++i) { } print i;", [222]),
        ("for (i = 0; i < 9; ++i) { i = i + 2; print i; }", [2, 5, 8]),
        ("for (i = 0; i < 2; ++i) { i = i + 5; } print i;", [6]),
        (
            "t = 0; for (i = 0; i < 3; ++i) {t = t + 1; if (t < 6) {i = -1;} print i;}",
            [-1, -1, -1, -1, -1, 0, 1, 2],
        ),
        (
            "for (i = 0; i < 3; ++i) { for (i = 0; i < 2; ++i) { print i; } }",
            [0, 1],
        ),
        (
            "for (i = 0; i < 2; ++i) { for (j = 0; j < 2; ++j) { print i * 10 + j; } }",
            [0, 1, 10, 11],
        ),
    ],
)
def test_printed_values(process: UnrollProcess, text: str, printed: list[int]) -> None:
    assert process.ask(text)["printed"] == printed


def test_a_loop_that_sets_its_variable_is_marked(process: UnrollProcess) -> None:
    answer = process.ask("for (i = 0; i < 9; ++i) { if (i == 3) { i = 6; } print i; }")
    assert [loop["sets_variable"] for loop in answer["loops"]] == [True]
    assert answer["printed"] == [0, 1, 2, 6, 7, 8]


@pytest.mark.parametrize("turns", [0, 1, 2, 221, 222])
def test_every_number_of_turns(process: UnrollProcess, turns: int) -> None:
    answer = process.ask(f"n = 0; for (i = 0; i < {turns}; ++i) {{ n = n + 1; }}")
    assert answer["variables"] == {"n": turns, "i": turns}


def test_copies_of_empty_blocks_end(process: UnrollProcess) -> None:
    # Without a bound, 30,000 blocks would be copied 900,000 times.
    turns = {"i": 222, "j": 222, "k": 18}
    heads = [f"for ({v} = 0; {v} < {n}; ++{v}) {{" for v, n in turns.items()]
    text = "".join(heads) + "{}" * 30000 + "}}} print k;"
    assert process.ask(text)["printed"] == [18]


# Errors. After each, the process answers the next program.


def refused(process: UnrollProcess, text: str) -> tuple[str, int, int]:
    answer = process.ask(text)
    assert answer["error"]
    assert process.ask("print 1;")["printed"] == [1]
    return answer["kind"], answer["line"], answer["column"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("for (i = 0; i < 223; ++i) { }", ("syntax", 1, 17)),
        ("for (i = 0; i < 0222; ++i) { }", ("syntax", 1, 17)),
        ("for (i = 1; i < 2; ++i) { }", ("syntax", 1, 10)),
        ("for (i = 0; j < 2; ++i) { }", ("syntax", 1, 13)),
        ("for (i = 0; i <= 2; ++i) { }", ("syntax", 1, 15)),
        ("for (i = 0; i < n; ++i) { }", ("syntax", 1, 17)),
        ("for (i = 0; i < 2; i++) { }", ("syntax", 1, 20)),
        ("for (i = 0; i < 2; ++i) print i;", ("syntax", 1, 25)),
        ("print 1;\n\tprint x;", ("syntax", 2, 8)),
        ("x = 1;\r\n// é\n é = 2;", ("syntax", 3, 2)),
        ("// é\nx = /* é */ 2;", ("syntax", 2, 5)),
        ("x = 9223372036854775808;", ("syntax", 1, 5)),
        ("x = 1", ("syntax", 1, 6)),
        ("x = 1;\n{", ("syntax", 2, 2)),
        ("print = 1;", ("syntax", 1, 7)),
        ('{"program": "x = 1;"}', ("syntax", 1, 2)),
        ("\0", ("syntax", 1, 1)),
        ("print 1;\nprint 2 /\n (3 - 3);", ("division", 2, 9)),
        ("for (i = 0; i < 9; ++i) { x = 5 % (4 - i); }", ("division", 1, 33)),
        ("for (i = 0; i < 9; ++i) { i = 0; }", ("steps", 1, 1)),
        (
            "for (i = 0; i < 2; ++i) { i = 0;\n for (j = 0; j < 9; ++j) { j = 1; } }",
            ("steps", 2, 2),
        ),
        (
            "n = 0; for (i = 0; i < 1; ++i) { print n; n = n + 1; i = -1; }",
            ("output", 1, 34),
        ),
    ],
)
def test_errors_have_a_place(
    process: UnrollProcess, text: str, error: tuple[str, int, int]
) -> None:
    assert refused(process, text) == error


def assigned(count: int) -> str:
    return "".join(f"v{i} = 1;\n" for i in range(count))


@pytest.mark.parametrize(
    ("allowed", "over", "error"),
    [
        (nested(2), nested(3), ("limit", 1, 1)),
        (nested(100, 1), nested(101, 1), ("limit", 101, 34)),
        ("x=" + "(" * 100 + "1" + ")" * 100 + ";", "x=" + "(" * 101, ("limit", 1, 103)),
        ("x=" + "-" * 99 + "1;", "x=" + "- " * 101 + "1;", ("limit", 1, 203)),
        (assigned(256), assigned(257), ("limit", 257, 1)),
        ("x" * 63 + " = 1;", "x" * 64 + " = 1;", ("limit", 1, 1)),
        (" " * 65536, "é\n" * 20000 + "é" * 9999, ("limit", 20001, 2769)),
        ("//" + "é" * 32767, "//" + "é" * 32767 + "//", ("limit", 1, 32770)),
    ],
    ids="size loops parentheses minuses variables name text character".split(),
)
def test_limits_have_a_place(
    process: UnrollProcess, allowed: str, over: str, error: tuple[str, int, int]
) -> None:
    assert "error" not in process.ask(allowed)
    assert refused(process, over) == error
