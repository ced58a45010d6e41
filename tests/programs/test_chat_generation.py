"""Tests how the messages of the chat are generated, and what happens without them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chat_peer import CHAT

BARE = f"{sys.executable} -S"  # without any installed package


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the chat, without generated modules."""
    here = tmp_path / "with space" / "examples"
    shutil.copytree(CHAT, here / "chat", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHAT.parent / "Makefile", here)
    return here


def make(examples: Path, python: str) -> subprocess.CompletedProcess[str]:
    argv = ["make", "--silent", "-C", str(examples), "chat", f"PYTHON={python}"]
    return subprocess.run(argv, capture_output=True, text=True)


def test_generation(examples: Path) -> None:
    """Once for all, until the schema changes."""
    module = examples.parent / "build" / "examples" / "chat_pb2.py"
    assert make(examples, sys.executable).returncode == 0
    assert module.with_suffix(".pyi").exists()
    module.write_text("# ours\n")
    assert make(examples, sys.executable).returncode == 0
    assert module.read_text() == "# ours\n"
    schema = examples / "chat" / "chat.proto"
    schema.write_text(schema.read_text().replace("message KeepAlive", "message Alive"))
    result = make(examples, sys.executable)
    assert result.returncode != 0
    assert '"KeepAlive" is not defined' in result.stderr


def test_without_packages(examples: Path) -> None:
    """There is a note, and the other examples are made."""
    result = make(examples, BARE)
    assert result.returncode == 0
    assert "left out: chat (no protobuf" in result.stderr
    assert not (examples.parent / "build").exists()


def test_without_generated_modules(examples: Path) -> None:
    for program in ("server", "client"):
        argv = [sys.executable, str(examples / "chat"), program, "0"]
        result = subprocess.run(argv, capture_output=True, text=True)
        assert result.returncode == 69
        assert result.stderr == "first: make -C examples chat\n"
