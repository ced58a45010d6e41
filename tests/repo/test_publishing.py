"""Files for an index: checks of twine, licences, and the origin of vendored files.

The list of vendored files follows CycloneDX 1.6. The npm packages that it names are
those that the Makefile has fetched: npm has compared them with their registry.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import built_packages
from built_packages import ROOT, run
from npm import packaged

wheel, sdist = built_packages.wheel, built_packages.sdist

VENDOR = ROOT / "chimirror/web/vendor"
LIST = VENDOR / "vendored.cdx.json"
LIBRARIES: list[Any] = json.loads(LIST.read_text())["components"]
NAMES = [library["name"] for library in LIBRARIES]


def has_hash(entry: Any, content: bytes) -> bool:
    (listed,) = entry["hashes"]
    assert listed["alg"] == "SHA-512"
    return bool(listed["content"] == hashlib.sha512(content).hexdigest())


def vendored(entry: Any) -> Path:
    """Return the path of a vendored file in this tree."""
    (found,) = (each["value"] for each in entry["properties"])
    return ROOT / str(found)


def test_each_vendored_file_is_listed_once() -> None:
    listed = [
        vendored(entry) for library in LIBRARIES for entry in library["components"]
    ]
    assert sorted([*listed, LIST]) == sorted(VENDOR.iterdir())


@pytest.mark.parametrize("library", LIBRARIES, ids=NAMES)
def test_vendored_files_are_unchanged(library: Any) -> None:
    for entry in library["components"]:
        assert has_hash(entry, vendored(entry).read_bytes()), entry["name"]


@pytest.mark.parametrize("library", LIBRARIES, ids=NAMES)
def test_the_listed_package_has_these_files(library: Any) -> None:
    """The hash of a package is its `integrity` in the registry and in lock files."""
    scope, name, version = library["group"], library["name"], library["version"]
    assert library["purl"] == f"pkg:npm/%40{scope[1:]}/{name}@{version}"
    path = packaged(f"{scope[1:]}-{name}-{version}.tgz")
    assert has_hash(library, path.read_bytes())
    with tarfile.open(path) as archive:
        for entry in library["components"]:
            member = archive.extractfile(entry["name"])
            assert member is not None
            assert has_hash(entry, member.read())
        description = archive.extractfile("package/package.json")
        assert description is not None
        licence = json.load(description)["license"]
    assert library["licenses"] == [{"license": {"id": licence}}]


def test_copyright_of_the_debian_package() -> None:
    """It names the holders that the licences name."""
    text = (ROOT / "systemd/debian/copyright").read_text()
    for file in VENDOR.glob("LICENSE.*"):
        for holder in re.findall(
            r"(?m)^Copyright \(c\) [\d-]+, (.*) \(", file.read_text()
        ):
            assert holder in text


def test_wheel_holds_licences_and_origins(wheel: Path) -> None:
    """At the places of PEP 639 and PEP 770, where scanners look for them."""
    files = [ROOT / "LICENSE", *VENDOR.glob("LICENSE.*")]
    expected = {
        f"licenses/{file.relative_to(ROOT)}": file.read_bytes() for file in files
    }
    expected[f"sboms/{LIST.name}"] = LIST.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        found = {
            name.partition(".dist-info/")[2]: archive.read(name)
            for name in archive.namelist()
            if re.search(r"\.dist-info/(licenses|sboms)/", name)
        }
    assert found == expected


def test_sdist_holds_the_list(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [member.name.partition("/")[2] for member in archive]
    assert str(LIST.relative_to(ROOT)) in names


def test_an_index_accepts_the_files(wheel: Path, sdist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
