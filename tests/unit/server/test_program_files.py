"""Which files a program has, and when they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimirror.process.spawner import Program
from chimirror.server.program_files import ProgramFiles


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "game.py"
    path.write_text("1\n")
    return path


def test_an_argument_that_names_a_file(script: Path) -> None:
    path = os.environ["PATH"]
    files = ProgramFiles(Program(("python3", "-u", str(script), "none")), path)
    assert len(files.signature) == 2
    assert not files.have_changed()
    script.write_text("12\n")
    assert files.have_changed()


def test_names_relative_to_the_directory(script: Path) -> None:
    program = Program(("./game.py", "game.py"), str(script.parent))
    files = ProgramFiles(program, None)
    assert len(files.signature) == 2
    script.unlink()
    assert files.have_changed()


def test_the_search_in_path(tmp_path: Path, script: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    (second / "tool").write_text("")
    files = ProgramFiles(Program(("tool",)), f"{first}:{second}")
    assert len(files.signature) == 1
    (second / "tool").write_text("x")
    assert files.have_changed()


def test_no_file_at_all() -> None:
    files = ProgramFiles(Program(("no-such-program", "\0", "/etc")), None)
    assert files.signature == ()
    assert not files.have_changed()
