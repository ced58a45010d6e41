"""The language of the project is plain technical English; this holds its measure.

Docstrings and comments of the package and the tests, README and the man pages have few
indefinite pronouns and semicolons, and no long sentence. The limits are rates over a
whole area, since one sentence may need a pronoun.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import prose

ROOT = Path(__file__).parents[2]
AREAS = {
    "package": sorted((ROOT / "chimirror").rglob("*.py")),
    "tests": sorted((ROOT / "tests").rglob("*.py")),
    "documents": [ROOT / "README.md", *sorted((ROOT / "man").glob("*.[1-9]"))],
}
MAX_PRONOUNS = 3.0  # per 1,000 words
MAX_SEMICOLONS = 4.0


def figures_of(files: list[Path]) -> prose.Figures:
    total = prose.NOTHING
    for path in files:
        for text in prose.texts_of(path):
            total = total.plus(prose.measure(text))
    return total


@pytest.mark.parametrize("area", AREAS)
def test_rates(area: str) -> None:
    total = figures_of(AREAS[area])
    assert total.words > 1000, "the files are not found"
    assert total.per_thousand(total.pronouns) <= MAX_PRONOUNS
    assert total.per_thousand(total.semicolons) <= MAX_SEMICOLONS


@pytest.mark.parametrize("area", AREAS)
def test_sentences_are_short(area: str) -> None:
    found = {path.name: figures_of([path]).long for path in AREAS[area]}
    assert not {name: long for name, long in found.items() if long}


@pytest.mark.parametrize("area", ["package", "tests"])
def test_no_docstring_points_elsewhere(area: str) -> None:
    found = [
        f"{path.name}: {text}"
        for path in AREAS[area]
        for text in prose.docstrings(path.read_text())
        if text.startswith("See ")
    ]
    assert not found


def test_the_measure_finds_what_it_counts() -> None:
    text = "Whoever reads; `what` does not count. " + "word " * 26 + "end."
    found = prose.measure(text)
    assert (found.pronouns, found.semicolons, len(found.long)) == (1, 1, 1)
    source = '"""See there."""\n# one;\n# two\nx = 1  # three\n#: four\n'
    assert list(prose.docstrings(source)) == ["See there."]
    assert list(prose.comments(source)) == ["one;\ntwo", "three", ": four"]
    page = '.\\" no\n.Sh NAME\n.Nm x\nSome words.\n.Bd -literal\nno; no\n.Ed\n.Fl a ;\n'
    assert prose.mdoc(page).split() == ["Some", "words.", "a", ";"]


def test_docstrings_are_those_of_the_file() -> None:
    tree = ast.parse(Path(__file__).read_text())
    assert ast.get_docstring(tree) in list(prose.texts_of(Path(__file__)))
