"""Fixtures that serve all applications of examples/ by name, from a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_peer import ChatServer, chat_server
from serve import Service, server

EXAMPLES = Path(__file__).parents[2] / "examples"
APART = ("editors", "engines")


def application_files(directory: Path) -> list[Path]:
    """Return the files of all applications that run here, by name.

    Files of editors are no applications, and engines run their programs elsewhere.
    """
    found = [
        path for path in directory.rglob("*.toml") if path.parent.name not in APART
    ]
    return sorted(found, key=lambda path: path.stem)


LINE = "2026-11-21 10:30:00 status installed chimirror:all 1.0"


@pytest.fixture(scope="module")
def examples_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled copy of the examples, with all application files in one directory."""
    here = tmp_path_factory.mktemp("served") / "examples"
    shutil.copytree(EXAMPLES, here, ignore=shutil.ignore_patterns(".*"))
    for apart in application_files(here):
        if apart.parent == here:
            continue
        # A directory is relative to that of the application file.
        text = apart.read_text().replace(
            'directory = "."', f'directory = "{apart.parent.name}"'
        )
        (here / apart.name).write_text(text)
    make = ["make", "--silent", "-C", str(here), f"PYTHON={sys.executable}"]
    subprocess.run(make, check=True)
    return here


@pytest.fixture
def chats(tmp_path: Path) -> Iterator[ChatServer]:
    """The server of the applications chat and chat_terminal."""
    with chat_server(tmp_path) as running:
        yield running


@pytest.fixture
def service(
    examples_directory: Path,
    chats: ChatServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    log = tmp_path / "log"
    log.write_text(f"{LINE}\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    variables = ["--env", f"LOG={log}", "--env", "INTERVAL=0.01"]
    variables += ["--env", f"CHAT_PORT={chats.port}"]
    with server(tmp_path, [], "--apps", str(examples_directory), *variables) as running:
        yield running
