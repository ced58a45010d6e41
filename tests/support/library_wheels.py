"""Wheels of the libraries of these tests, for an installation without an index."""

from __future__ import annotations

import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

NEEDED = ("chimirror", "hatchling")


def pack(directory: Path) -> None:
    """Make wheels of the installed libraries that an installation needs."""
    for name in sorted(_closure()):
        if name != "chimirror":
            _pack(distribution(name), directory)


def _closure() -> set[str]:
    found: set[str] = set()
    waiting = list(NEEDED)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return found


def _pack(library: Distribution, directory: Path) -> None:
    """Make one wheel: the files of the library, and a RECORD of only these."""
    (tag, *_) = [
        line.partition(": ")[2]
        for line in (library.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    name = library.name.replace("-", "_")
    listed = [file for file in library.files or () if ".." not in file.parts]
    kept = [file for file in listed if "__pycache__" not in file.parts]
    with zipfile.ZipFile(directory / f"{name}-{library.version}-{tag}.whl", "w") as to:
        for file in kept:
            if file.name != "RECORD":
                to.write(str(file.locate()), str(file))
        (record,) = (file for file in kept if file.name == "RECORD")
        to.writestr(str(record), "".join(f"{file},,\n" for file in kept))
