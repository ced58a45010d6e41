"""Files of variables: what every reader would read, and an error for the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror import envfile


def test_a_whole_file() -> None:
    text = (
        "# comment\n; another\n\n  A=1\r\nB = spaced out \nC='a # \\n\"b\" '\n"
        'D="say \\"hi\\" \\\\ \\$HOME \\n"\nE=\nF=x=y#z\nA=2'
    )
    with pytest.raises(ValueError, match=r"^f:5: no variable name before the =; "):
        envfile.parse(text, "f")
    assert envfile.parse(text.replace("B =", "B="), "f") == {
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
        envfile.parse(f"OK=1\n{line}\n", "/etc/app.env")
    assert str(caught.value).startswith(f"/etc/app.env:2: {error}")
    assert "secret" not in str(caught.value)


PLAIN = st.text(st.characters(exclude_characters="\n'\0", codec="utf-8"))


@given(PLAIN)
def test_single_quotes_keep_everything(value: str) -> None:
    assert envfile.parse(f"A='{value}'", "f") == {"A": value}


@given(PLAIN)
def test_double_quotes_with_backslashes_keep_everything(value: str) -> None:
    for special in '\\"`$':
        value = value.replace(special, "\\" + special)
    expected = value
    for special in '"`$\\':
        expected = expected.replace("\\" + special, special)
    assert envfile.parse(f'A="{value}"', "f") == {"A": expected}


def test_bytes_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"A=\xff\xfe\n")
    assert os.fsencode(envfile.read(str(file))["A"]) == b"\xff\xfe"


def test_what_is_no_file_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "env"
    with pytest.raises(ValueError, match="No such file or directory"):
        envfile.read(str(file))
    with pytest.raises(ValueError, match="Is a directory"):
        envfile.read(str(tmp_path))
    for content in (b"A=\0", b"#" * (1 << 20) + b"\n"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a file of variables \(over 1 MiB"):
            envfile.read(str(file))


def test_of_several_files_the_last_one_of_a_name_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("A=1\nB=1\n")
    second.write_text("B=2\n")
    assert envfile.read_all([str(first), str(second)]) == {"A": "1", "B": "2"}
