"""No path of another user leads elsewhere, and no name in its directory does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimirror.host.safe_directory import SafeDirectory, UnsafePath

OTHER = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of this user, with one that another user owns, and a victim."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/file").write_text("kept")
    if os.geteuid() == 0:
        os.chown(tmp_path / "theirs", OTHER, OTHER)
    return tmp_path


def link(path: Path, target: str) -> Path:
    """Make a link that the other user owns."""
    path.symlink_to(target)
    os.lchown(path, OTHER, OTHER)
    return path


def test_files_are_added_replaced_and_removed(place: Path) -> None:
    with SafeDirectory(str(place / "new/below"), create=True) as directory:
        directory.add("file", b"one")
        with pytest.raises(FileExistsError):
            directory.add("file", b"two")
        assert (place / "new/below/file").read_bytes() == b"one"
        directory.replace("file", b"three")
        assert (place / "new/below/file").read_bytes() == b"three"
        assert (place / "new/below/file").stat().st_mode & 0o777 == 0o644
        assert directory.names() == ["file"]
        assert directory.remove("file")
        assert not directory.remove("file")


@pytest.mark.parametrize("path", ["{}/ours", "{}/./theirs//../ours/", "{}/a", "{}/b/c"])
def test_paths_of_the_own_user(path: str, place: Path) -> None:
    (place / "a").symlink_to(place / "ours")
    (place / "b").symlink_to(".")
    (place / "c").symlink_to("b/ours")
    if os.geteuid() == 0:
        os.chown(place / "theirs", 0, 0)
    with SafeDirectory(path.format(place)) as directory:
        assert directory.names() == ["file"]


def test_relative_paths(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for path in ("ours", "./ours", "theirs/../ours" if os.geteuid() else "ours"):
        with SafeDirectory(path) as directory:
            assert directory.names() == ["file"]


@only_root
@pytest.mark.parametrize(
    "target", ["../ours", "{}/ours", "..", "/", "here/../../ours", "more"]
)
def test_a_link_of_another_user_leads_only_to_the_same_user(
    target: str, place: Path
) -> None:
    path = link(place / "theirs/link", target.format(place))
    link(place / "theirs/more", "../ours")
    (place / "theirs/here").mkdir()
    os.chown(place / "theirs/here", OTHER, OTHER)
    for create in (False, True):
        with pytest.raises(UnsafePath, match="user 65534 owns a part of this path"):
            SafeDirectory(str(path), create=create)
    with SafeDirectory(str(link(place / "theirs/good", "here"))) as directory:
        assert directory.names() == []


@only_root
def test_nothing_is_created_for_another_user_to_replace(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SafeDirectory(str(place / "theirs/new"), create=True)
    assert os.listdir(place / "theirs") == []


@only_root
def test_names_of_another_user_s_directory_are_not_followed(place: Path) -> None:
    link(place / "theirs/file", "../ours/file")
    with SafeDirectory(str(place / "theirs")) as directory:
        with pytest.raises(FileExistsError):
            directory.add("file", b"changed")
        directory.replace("file", b"changed")
        assert (place / "theirs/file").read_bytes() == b"changed"
        (place / "theirs/file").unlink()
        link(place / "theirs/file", "../ours/file")
        directory.remove("file")
    assert (place / "ours/file").read_text() == "kept"
    assert os.listdir(place / "theirs") == []


def test_links_without_end(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="too many symbolic links"):
        SafeDirectory(str(place / "loop"))


def test_errors_name_the_whole_path(place: Path) -> None:
    for path, kind in (("ours/file/x", NotADirectoryError), ("no/x", OSError)):
        with pytest.raises(kind) as caught:
            SafeDirectory(str(place / path))
        assert caught.value.filename == str(place / path)


def test_nothing_is_left_of_a_failed_write(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "ours/taken").mkdir()
    with SafeDirectory(str(place / "ours")) as directory:
        with pytest.raises(OSError):
            directory.replace("taken", b"x")
        import posix

        def fail(fd: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(posix, "write", fail)
        with pytest.raises(OSError, match="No space"):
            directory.add("new", b"x")
    assert sorted(os.listdir(place / "ours")) == ["file", "taken"]
