"""Build hook of hatchling: compiles the optional C extension into the wheel.

Without a C compiler or the headers of Python, or on another system than Linux with
glibc, the wheel is pure: the server then starts applications in its zygote. `CC=false`
makes a pure wheel anywhere. An editable installation is pure too.

The extension uses the stable ABI: one wheel serves all versions of CPython from 3.11.
The tag of its platform follows PEP 600 and tells the lowest version of glibc. Indexes
refuse other wheels that hold compiled files.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCE = "chimirror/process/_fast_spawn.c"
LIBRARY = "chimirror/process/_fast_spawn.abi3.so"
FLAGS = ("-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-unused-parameter")
# A version of symbols in the string table of a library.
SYMBOL_VERSION = re.compile(rb"\0GLIBC_(\w[\w.]*)(?=\0)")


class BuildExtension(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled extension to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the extension, unless that is impossible here."""
        self._directory = tempfile.TemporaryDirectory()
        library = Path(self._directory.name, "library.so")
        if version == "editable" or not is_supported() or not self._compile(library):
            return
        build_data["force_include"][str(library)] = LIBRARY
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform_of(library.read_bytes())}"

    def _compile(self, library: Path) -> bool:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        headers = sysconfig.get_path("include")
        source = Path(self.root, SOURCE)
        command = [*compiler, *FLAGS, f"-I{headers}", str(source), "-o", str(library)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError as error:
            reason = str(error)
        else:
            if done.returncode == 0:
                return True
            reason = done.stderr.strip() or f"{command[0]}: exit {done.returncode}"
        self.app.display_warning(f"without the C extension: {reason}")
        return False

    def finalize(
        self, version: str, build_data: dict[str, Any], artifact_path: str
    ) -> None:
        """Remove the compiled extension, which is in the wheel."""
        self._directory.cleanup()


def platform_of(library: bytes) -> str:
    """Return the platform of a wheel with this library, which needs only glibc.

    Its string table has the versions of the symbols that it needs (LSB, Symbol
    Versioning). The highest is the lowest version of glibc that has all of them. A
    version with a name that is no number gives the platform of this machine alone.
    """
    machine = next(tag for tag in platform_tags() if tag.startswith("linux_"))
    versions = {name.decode() for name in SYMBOL_VERSION.findall(library)}
    if not versions or not all(re.fullmatch(r"[\d.]+", name) for name in versions):
        return machine
    major, minor, *_ = max([*map(int, name.split("."))] for name in versions)
    return f"manylinux_{major}_{minor}_{machine.removeprefix('linux_')}"


def is_supported() -> bool:
    """Return True if this Python has the stable ABI, on Linux with glibc."""
    return (
        sys.platform == "linux"
        and sys.implementation.name == "cpython"
        and platform.libc_ver()[0] == "glibc"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
    )
