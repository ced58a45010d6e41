"""Application files are found by name alone, and only regular files are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror import regular_file
from chimirror.apps.application_file import (
    MAX_REASON,
    MAX_SIZE,
    ApplicationFileError,
    is_name,
    load,
)

TEXT = 'command = ["cat"]\n'
NOBODY = 65534
ROOT = os.geteuid() == 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "apps"
    path.mkdir()
    (path / "cat.toml").write_text(TEXT)
    return path


def commands(directory: Path, name: str = "cat") -> object:
    found = load(str(directory), name)
    return found and found.fields["command"]


# Names


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "x" * 64, "a..b", "toml.toml"])
def test_names(name: str) -> None:
    assert is_name(name)


ODD = """ .. . .. ../cat ./cat cat/ cat/../cat /cat cat/cat .cat -cat _cat cat\0 \0
    %2e%2e %2e cat%00 c\xe4t cat\n ca\tt ~ * ? [a] .compiled .compiled/cat""".split(" ")


@pytest.mark.parametrize("name", ["", *ODD, "x" * 65, "x" * 5000, "..", "../apps/cat"])
def test_other_texts_never_reach_a_file(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regular_file, "read", pytest.fail)
    assert not is_name(name)
    assert load(str(directory), name) is None


@given(st.text())
def test_a_name_is_one_component_of_a_path(name: str) -> None:
    if is_name(name):
        assert os.path.normpath(f"/a/{name}") == f"/a/{name}"
        assert len(os.fsencode(name)) <= 64


def test_a_directory_may_be_empty(directory: Path) -> None:
    assert load(str(directory), "dog") is None
    assert load(str(directory / "none"), "cat") is None


def odd_file(path: Path, kind: str) -> None:
    if kind == "link":
        path.symlink_to(path.with_name("cat.toml"))
    elif kind == "dangling":
        path.symlink_to("/no/such/file")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        path.write_text(TEXT + "#" * (MAX_SIZE + 1 - len(TEXT)))
    else:
        os.symlink("/dev/zero", path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link", "a symbolic link; make it a regular file"),
        ("dangling", "a symbolic link; make it a regular file"),
        ("device", "a symbolic link; make it a regular file"),
        ("fifo", "not a regular file"),
        ("directory", "not a regular file"),
        ("large", "over 64 KiB"),
    ],
)
def test_files_that_are_not_regular(kind: str, reason: str, directory: Path) -> None:
    odd_file(directory / "odd.toml", kind)
    with pytest.raises(ApplicationFileError) as caught:
        load(str(directory), "odd")
    assert str(caught.value) == f"odd.toml: {reason}"
    assert commands(directory) == ("cat",)


@pytest.fixture
def as_nobody(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in the directory, as a user without root's privileges."""
    monkeypatch.chdir(directory)
    if ROOT:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    yield
    if ROOT:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def closed(directory: Path) -> Path:
    path = directory / "closed.toml"
    path.write_text(TEXT)
    path.chmod(0)
    return path


@pytest.mark.usefixtures("closed", "as_nobody")
def test_files_without_read_permission() -> None:
    with pytest.raises(ApplicationFileError, match=r"closed\.toml: Permission denied"):
        load(".", "closed")


def test_the_largest_file(directory: Path) -> None:
    (directory / "cat.toml").write_text(TEXT + "#" * (MAX_SIZE - len(TEXT)))
    assert commands(directory) == ("cat",)


def test_errors_keep_their_correction(directory: Path) -> None:
    (directory / "long.toml").write_text(f"{TEXT}{'x' * 60_000} = 1")
    with pytest.raises(ApplicationFileError) as caught:
        load(str(directory), "long")
    assert len(str(caught.value)) < MAX_REASON + 100
    assert str(caught.value).startswith('long.toml:2: "xxx')
    assert str(caught.value).endswith("env-file, directory, user, interface")
