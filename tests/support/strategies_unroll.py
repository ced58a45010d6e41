"""Programs for examples/unroll, mostly valid and sometimes broken (hypothesis).

A program assigns all its variables first. Every loop may read and set its variable.
"""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "i", "j"])
NUMBERS = st.sampled_from(
    [0, 1, 2, 3, 7, 127, 128, 222, 65537, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1]
)
OPERATORS = st.sampled_from("== != < <= > >= + - * / % + - *".split())
TURNS = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 31, 221, 222])
SPACES = st.sampled_from(["", " ", "\n", "\t", "\r\n", " // é {\n"])

EXPRESSIONS = st.recursive(
    NAMES | st.integers(0, 4).map(str) | NUMBERS.map(str),
    lambda below: (
        st.builds("{} {} {}".format, below, OPERATORS, below)
        | st.builds("({})".format, below)
        | st.builds("-{}".format, below)
    ),
    max_leaves=8,
)
ASSIGNMENTS = st.builds("{} = {};".format, NAMES, EXPRESSIONS)
PRINTS = st.builds("print {};".format, EXPRESSIONS)


def block(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(statements, max_size=4).map(lambda found: f"{{{' '.join(found)}}}")


def loop(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        "for{4}({0} = 0;{4}{0} < {1};{4}++{0}) {2}{3}".format,
        NAMES,
        TURNS,
        block(statements),
        SPACES,
        SPACES,
    )


def choice(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    then, otherwise = block(statements), block(statements)
    first = st.builds("if ({}) {}".format, EXPRESSIONS, then)
    ends = st.just("") | st.builds(" else {}".format, otherwise)
    ends |= st.builds(" else if ({}) {} else {}".format, EXPRESSIONS, then, otherwise)
    return st.builds("{}{}".format, first, ends)


STATEMENTS = st.recursive(
    ASSIGNMENTS | PRINTS,
    lambda below: loop(below) | loop(below) | choice(below) | block(below),
    max_leaves=12,
)


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A valid program, which may fail when it runs."""
    first = "".join(f"{name} = {draw(EXPRESSIONS_OF_NUMBERS)};" for name in "abij")
    found = draw(st.lists(STATEMENTS, min_size=1, max_size=6))
    return first + draw(SPACES).join(["", *found, ""])


EXPRESSIONS_OF_NUMBERS = st.builds("{} {} {}".format, NUMBERS, OPERATORS, NUMBERS)

WORDS = st.sampled_from(
    "a b for if else print ( ) { } ; = == != < <= > >= ++ + - * / % 0 1 00 222 223"
    " 9223372036854775808 // $ é ! 12a _ \n \t".split(" ")
)


@st.composite
def broken_programs(draw: st.DrawFn) -> str:
    """A program with a change in some place, or words in any order."""
    if draw(st.booleans()):
        return " ".join(draw(st.lists(WORDS, max_size=20)))
    program = draw(programs())
    begin = draw(st.integers(0, len(program)))
    end = min(len(program), begin + draw(st.integers(0, 3)))
    return program[:begin] + draw(st.just("") | WORDS) + program[end:]
