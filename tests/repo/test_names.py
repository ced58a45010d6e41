"""Names are terms of the field, and one name stands for one thing.

A public class name is used once on each side: the programs that serve, chimirror-ctl,
the client, and the services. The asyncio and the blocking API of a library have the
same names, by intention.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chimirror"
SIDES = {
    "authorize": "authorize",
    "client": "client",
    "connect": "client",
    "ctl": "ctl",
    "services": "services",
}
# Modules whose classes exist once more for the other API.
BLOCKING = {
    "client/blocking.py",
    "client/control_blocking.py",
    "services/blocking.py",
}
METAPHORS = (
    "helm pilot courier clerk murmur nursery foster herald crowd errand desk ward"
    " doorbell hand"
).split()
METAPHOR = re.compile(rf"\b({'|'.join(METAPHORS)})\b", re.IGNORECASE)
TEXTS = {".py", ".js", ".ts", ".css", ".html", ".sh", ".c", ".toml", ".md"}


def test_public_class_names_are_unique_on_each_side() -> None:
    places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name in BLOCKING:
            continue
        side = SIDES.get(name.partition("/")[0], "server")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[side, node.name].append(name)
    assert len(places) > 100
    assert not {key: names for key, names in places.items() if len(names) > 1}


@pytest.mark.parametrize("folder", ["chimirror", "tests"])
def test_no_name_is_a_metaphor(folder: str) -> None:
    """An identifier, a file name or a word of the prose."""
    found = []
    for path in sorted((ROOT / folder).rglob("*")):
        if path == Path(__file__) or "vendor" in path.parts:
            continue
        if METAPHOR.search(path.stem):
            found.append(str(path))
        if path.is_file() and path.suffix in TEXTS:
            found += [
                f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
                for number, line in enumerate(path.read_text().splitlines(), 1)
                if METAPHOR.search(line)
            ]
    assert not found
