"""Builds Debian packages of this source tree, also of a later version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import chimirror

ROOT = Path(__file__).parents[2]
VERSION = chimirror.__version__
NEXT = f"{VERSION}.1"
EPOCH = 1_790_000_000  # seconds; the later version is a day younger
DAY = 86_400


def build(directory: Path, version: str = VERSION) -> Path:
    """Build a package as `make deb` does, from a copy of the source tree."""
    shutil.copytree(
        ROOT,
        directory,
        ignore=shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__"),
    )
    # The pattern above also matches the script.
    shutil.copy2(ROOT / "systemd/debian/build", directory / "systemd/debian")
    for file in ("pyproject.toml", "chimirror/__init__.py"):
        text = (directory / file).read_text()
        found = re.sub(
            r'(?<=version)((?:__)? = )".*"', rf'\1"{version}"', text, count=1
        )
        (directory / file).write_text(found)
    done = subprocess.run(
        [directory / "systemd/debian/build"],
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH + DAY * (version != VERSION))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (package,) = (directory / "dist").glob("*.deb")
    assert package.name.startswith(f"chimirror_{version}_")
    return package
