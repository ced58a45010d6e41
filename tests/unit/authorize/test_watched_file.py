"""A file is read again when it changes, and its last good version stays in use."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chimirror.authorize.messages import FileFault
from chimirror.authorize.watched_file import CLOCK_TICK, WatchedFile


def parse(data: bytes) -> str:
    if b"bad" in data:
        raise ValueError("line 1: bad; write good")
    return data.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_text("one")
    return found


def test_a_change_counts_at_once(path: Path) -> None:
    file = WatchedFile(str(path), 100, parse)
    assert file.get() == "one"
    path.write_text("two")  # of the same size, and maybe of the same time
    assert file.get() == "two"


def test_an_unchanged_file_is_read_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    # The file is old enough to have no other version with the same time.
    monkeypatch.setattr(time, "time_ns", lambda: os.stat(path).st_ctime_ns + CLOCK_TICK)
    file = WatchedFile(str(path), 100, read.append)
    for _ in range(3):
        file.get()
    assert read == [b"one"]


def test_a_bad_version_is_reported_once(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = WatchedFile(str(path), 100, parse)
    path.write_text("bad secret")
    assert [file.get() for _ in range(3)] == ["one"] * 3
    (line,) = capfd.readouterr().err.splitlines()
    fault = f"{path}: line 1: bad; write good; its last good version stays in use"
    assert line == f"chimirror-authorize: {fault}"
    path.write_text("three")
    assert file.get() == "three"
    assert capfd.readouterr().err.endswith(": is good again, and in use\n")


def test_a_removed_file_stays_in_use(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = WatchedFile(str(path), 100, parse)
    path.unlink()
    assert [file.get(), file.get()] == ["one"] * 2
    assert capfd.readouterr().err.count("No such file or directory") == 1
    path.write_text("two")
    assert file.get() == "two"


def test_files_that_cannot_be_used(path: Path) -> None:
    path.write_text("bad")
    with pytest.raises(FileFault, match=r"file: line 1: bad; write good$"):
        WatchedFile(str(path), 100, parse)
    with pytest.raises(FileFault, match="over 2 bytes"):
        WatchedFile(str(path), 2, parse)
    with pytest.raises(FileFault, match="not a regular file"):
        WatchedFile("/dev/null", 100, parse)
    with pytest.raises(FileFault, match="No such file"):
        WatchedFile(f"{path}s", 100, parse)
