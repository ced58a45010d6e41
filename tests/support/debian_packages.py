"""Builds Debian packages of this source tree, also of a later version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import chimirror
from built_packages import copy_tree

VERSION = chimirror.__version__
NEXT = f"{VERSION}.1"
EPOCH = 1_790_000_000  # seconds; the later version is a day younger
DAY = 86_400


def build(directory: Path, version: str = VERSION) -> Path:
    """Build a package as `make deb` does, from a copy of the source tree."""
    copy_tree(directory, version)
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
