"""Tests examples/engines/podman.toml: each session is a container of podman.

The image is made of a static shell, and podman keeps all its files in a directory of
the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine_sessions import CHECKS, GAME, Engine, Serving, application_file, serve_here
from podman_storage import podman_storage
from processes import name_of, processes

# Each check runs on a busy machine too.
pytestmark = pytest.mark.timeout(900)

APPLETS = ("sh", "cat", "sleep")


class Podman:
    """Podman with its own storage and one image."""

    name = "podman"

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self.directory = directory
        self.variables = variables
        self.apps = application_file(directory / "apps", self.name)

    def run(self, *argv: str) -> bytes:
        env = os.environ | self.variables
        return subprocess.run(
            ["podman", *argv], env=env, check=True, stdout=subprocess.PIPE
        ).stdout

    def make_image(self) -> None:
        root = self.directory / "root"
        (root / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "bin" / "game").write_text(GAME)
        (root / "bin" / "game").chmod(0o755)
        archive = shutil.make_archive(str(self.directory / "image"), "tar", root)
        self.run("import", "--quiet", archive, "localhost/game")

    @contextmanager
    def serve(self, *options: str) -> Iterator[Serving]:
        words = [f"--env={name}={value}" for name, value in self.variables.items()]
        with serve_here(self.directory, self.apps, *words, *options) as serving:
            yield serving

    def remaining(self) -> list[str]:
        listed = json.loads(self.run("ps", "--all", "--format=json"))
        names = [container["Names"][0] for container in listed]
        every = [name_of(process.pid) for process in processes()]
        known = re.findall(rf" -b {self.directory}/.* -n (\S+)", "\n".join(every))
        return sorted({*names, *known})


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    directory = tmp_path_factory.mktemp("podman")
    with podman_storage(directory) as variables:
        found = Podman(directory, variables)
        found.make_image()
        yield found
        found.run("rm", "--force", "--all", "--time=0")
        found.run("image", "rm", "--all", "--force")


@pytest.mark.parametrize("check", CHECKS)
def test_session(check: Callable[[Engine], None], podman: Podman) -> None:
    check(podman)
