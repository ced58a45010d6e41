"""Measures the prose of the project: docstrings, comments, man pages and README.

The rules are those of plain technical English: few indefinite pronouns, few
semicolons, short sentences. Knows nothing of pytest; reads files as text.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONGEST_SENTENCE = 25  # words
PRONOUN = re.compile(
    r"\b(who|whoever|whose|whom|what|whatever|nobody|somebody|anybody|everybody)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"``?[^`]+``?")
DIRECTIVE = re.compile(r"#\s*(type:|noqa|fmt:|pragma|shellcheck|!|ruff:|mypy:)")
HEADING = re.compile(r"^\s*(Args|Returns|Raises|Attributes|Yields):\s*$", re.MULTILINE)
PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*[\w, *]+:\s)|\n\s*[-*] ")
SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|: (?=[A-Z])")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|Sec|No)\.")


class Figures(NamedTuple):
    """Counts of one text.

    Attributes:
        long: The sentences of more than LONGEST_SENTENCE words.
    """

    words: int
    pronouns: int
    semicolons: int
    long: tuple[str, ...]

    def plus(self, other: Figures) -> Figures:
        """Return the sums of two texts."""
        return Figures(
            self.words + other.words,
            self.pronouns + other.pronouns,
            self.semicolons + other.semicolons,
            self.long + other.long,
        )

    def per_thousand(self, count: int) -> float:
        """Return a count per 1,000 words."""
        return 1000 * count / max(self.words, 1)


NOTHING = Figures(0, 0, 0, ())


def measure(text: str) -> Figures:
    """Count words, pronouns, semicolons and long sentences of one text."""
    prose = CODE.sub("x", text)
    return Figures(
        len(re.findall(r"\w+", text)),
        len(PRONOUN.findall(prose)),
        prose.count(";"),
        tuple(one for one in sentences(prose) if word_count(one) > LONGEST_SENTENCE),
    )


def word_count(sentence: str) -> int:
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def sentences(text: str) -> Iterator[str]:
    """Split a text at the ends of sentences, list items and paragraphs."""
    for paragraph in PARAGRAPH.split(HEADING.sub("", text)):
        line = ABBREVIATION.sub(r"\1", " ".join(paragraph.split()))
        yield from filter(None, SENTENCE_END.split(line))


def texts_of(path: Path) -> Iterator[str]:
    """The prose of one file: Python, mdoc(7) or Markdown."""
    source = path.read_text()
    if path.suffix == ".py":
        yield from docstrings(source)
        yield from comments(source)
    elif path.suffix == ".md":
        yield markdown(source)
    else:
        yield mdoc(source)


def docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            text = ast.get_docstring(node)
            if text:
                yield text


def comments(source: str) -> Iterator[str]:
    """Comments without directives; lines below each other are one text."""
    block: list[str] = []
    before = (0, -1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        row, column = token.start
        alone = not token.line[:column].strip()
        if not (alone and before == (row - 1, column) and token.string != "#"):
            if block:
                yield "\n".join(block)
            block = []
        block.append(token.string.lstrip("# "))
        before = (row, column) if alone else (0, -1)
    if block:
        yield "\n".join(block)


def markdown(source: str) -> str:
    """Markdown without code blocks, tables, tags and addresses."""
    text = re.sub(r"(?ms)^```.*?^```", "", source)
    text = re.sub(r"(?m)^\|.*$", "", text)
    text = re.sub(r"<[^>]+>", "", text)
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)


def mdoc(source: str) -> str:
    """The sentences of a man page, without displays and headings."""
    text = re.sub(r'(?m)^\.\\".*$', "", source)
    text = re.sub(r"(?ms)^\.Bd .*?^\.Ed\s*$", "\n\n", text)
    headings = "Dl|Sh|Ss|Nm|Nd|Dd|Dt|Os|It|Bl|El|Xr|In|Fd|Fn|Fo|Fc"
    text = re.sub(rf"(?m)^\.({headings})\b.*$", "\n", text)
    text = re.sub(r"(?m)^\.Pp.*$", "\n", text)
    text = re.sub(r"(?m)^\.(\w\w)\s?(.*)$", r"\2", text)
    return text.replace("\\&", "").replace("\\-", "-").replace("\\(em", "-")
