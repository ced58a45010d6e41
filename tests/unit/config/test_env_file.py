"""Files of variables: systemd's reading of plain files, and errors for the rest."""

from __future__ import annotations

import os
import posix
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror import regular_file
from chimirror.config import env_file


def test_a_whole_file() -> None:
    text = (
        "# comment\n; another\n\n  A=1\r\nB = spaced out \nC='a # \\n\"b\" '\n"
        'D="say \\"hi\\" \\\\ \\$HOME \\n"\nE=\nF=x=y#z\nA=2'
    )
    with pytest.raises(ValueError, match=r"^f:5: no variable name before the =; "):
        env_file.parse(text, "f")
    assert env_file.parse(text.replace("B =", "B="), "f") == {
        "A": "2",
        "B": "spaced out",
        "C": 'a # \\n"b" ',
        "D": 'say "hi" \\ $HOME \\n',
        "E": "",
        "F": "x=y#z",
    }


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("secret", "no NAME=VALUE here; comments begin with #"),
        ("export A=secret", "no variable name before the =; write NAME=VALUE"),
        ("=secret", "no variable name before the =; write NAME=VALUE"),
        ("A=secret'x'", "a quote or backslash in a plain value; write NAME='VALUE'"),
        ("A=secret\\", "a quote or backslash in a plain value; write NAME='VALUE'"),
        ("A='secret", "the single quote does not end at the end of the line"),
        ("A='", "the single quote does not end at the end of the line"),
        ("A='secret' # x", "the single quote does not end at the end of the line"),
        ('A="secret', "the double quote does not end at the end of the line"),
        ('A="secret\\', "the double quote does not end at the end of the line"),
        ('A="secret\\"', "the double quote does not end at the end of the line"),
        ('A="secret"x', "the double quote does not end at the end of the line"),
        ("CHIMIRROR_SESSION=1", '"CHIMIRROR_SESSION" is set by each session itself'),
    ],
)
def test_errors_name_the_line_and_not_the_secret(line: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        env_file.parse(f"OK=1\n{line}\n", "/etc/app.env")
    assert str(caught.value).startswith(f"/etc/app.env:2: {error}")
    assert "secret" not in str(caught.value)


PLAIN = st.text(st.characters(exclude_characters="\n'\0", codec="utf-8"))


@given(PLAIN)
def test_single_quotes_keep_everything(value: str) -> None:
    assert env_file.parse(f"A='{value}'", "f") == {"A": value}


@given(PLAIN)
def test_double_quotes_with_backslashes_keep_everything(value: str) -> None:
    for special in '\\"`$':
        value = value.replace(special, "\\" + special)
    expected = value
    for special in '"`$\\':
        expected = expected.replace("\\" + special, special)
    assert env_file.parse(f'A="{value}"', "f") == {"A": expected}


def test_bytes_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"A=\xff\xfe\n")
    assert os.fsencode(env_file.read(str(file))["A"]) == b"\xff\xfe"


def test_files_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "env"
    with pytest.raises(ValueError, match="No such file or directory"):
        env_file.read(str(file))
    with pytest.raises(
        ValueError, match="not a regular file; write a file of NAME=VALUE"
    ):
        env_file.read(str(tmp_path))
    file.write_bytes(b"A=\0")
    with pytest.raises(ValueError, match="a NUL; write a file of NAME=VALUE lines"):
        env_file.read(str(file))
    file.write_bytes(b"#" * (env_file.MAX_SIZE + 1))
    with pytest.raises(ValueError, match="over 64 KiB; write a file of NAME=VALUE"):
        env_file.read(str(file))


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_only_regular_files_are_opened(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO would block, and a device could act when it is opened."""
    path = str(tmp_path / "env")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        with socket.socket(socket.AF_UNIX) as handle:
            handle.bind(path)
    original = posix.open

    def open_path(path: str, flags: int) -> int:
        assert flags & os.O_PATH
        return original(path, flags)

    monkeypatch.setattr(posix, "open", open_path)
    with pytest.raises(ValueError, match="not a regular file"):
        env_file.read(path)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("A=1\n")
    (tmp_path / "link").symlink_to("file")
    assert env_file.read(str(tmp_path / "link")) == {"A": "1"}


def test_the_size_of_all_files_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"#" * (env_file.MAX_SIZE // 2 + 1))
    assert env_file.read_files([str(file)]) == {}
    with pytest.raises(ValueError, match="over 64 KiB in all; leave some out"):
        env_file.read_files([str(file)] * 2)
    file.write_bytes(b"A=1")
    assert env_file.read_files([str(file)] * env_file.MAX_FILES) == {"A": "1"}
    with pytest.raises(ValueError, match="over 64 files; put them together"):
        env_file.read_files([str(file)] * (env_file.MAX_FILES + 1))


def test_a_file_larger_than_its_size_is_refused() -> None:
    """As a file that grows while it is read. Files of /proc have size 0."""
    assert "Name" in regular_file.read("/proc/self/status", 9999)[0].decode()
    with pytest.raises(regular_file.UnusableFile, match="over 10 bytes"):
        regular_file.read("/proc/self/status", 10)


def test_last_of_several_files_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("A=1\nB=1\n")
    second.write_text("B=2\n")
    assert env_file.read_files([str(first), str(second)]) == {"A": "1", "B": "2"}


def test_a_file_replaced_at_the_last_moment_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\n")
    original = posix.open

    def replace(path: str, flags: int) -> int:
        fd = original(path, flags)
        if path == str(file):
            file.unlink()
            os.mkfifo(file)
        return fd

    monkeypatch.setattr(posix, "open", replace)
    assert env_file.read(str(file)) == {"A": "1"}


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_without_proc(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is opened again, and the file there is examined again."""
    file = tmp_path / "env"
    file.write_text("A=1\n")
    original = posix.open

    def open_without_proc(path: str, flags: int) -> int:
        if not path.startswith("/proc/"):
            return original(path, flags)
        if kind == "fifo":
            file.unlink()
            os.mkfifo(file)
        raise FileNotFoundError

    monkeypatch.setattr(posix, "open", open_without_proc)
    if kind == "file":
        assert env_file.read(str(file)) == {"A": "1"}
    else:
        with pytest.raises(ValueError, match="not a regular file"):
            env_file.read(str(file))
