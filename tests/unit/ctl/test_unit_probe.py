"""A command line as a service reads it: each application, with its faults."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from chimirror.ctl import unit_probe

GOOD = {"name": "", "text": "cat", "absent": [], "script": ""}


def probe(program: str, *words: str) -> list[dict[str, object]]:
    return list(unit_probe.probe(program, words))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("chimirror-bridge", ("--max-sessions", "3", "--", "cat")),
        ("chimirror-server", ("--workers", "3", "cat")),
    ],
)
def test_commands(program: str, words: tuple[str, ...]) -> None:
    assert probe(program, *words) == [GOOD]


def test_a_command_line_that_cannot_be_read() -> None:
    (found,) = probe("chimirror-bridge", "--workers", "3", "cat")
    assert str(found["text"]).startswith("--workers is not an option")
    assert found["cure"]


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    (found,) = probe("chimirror-bridge", "cat", "/no/such", "-x", "/etc", "/no")
    assert (found["absent"], found["script"]) == (["/no/such", "/no"], "/no/such")
    (found,) = probe("chimirror-bridge", "/no/such", "/etc")
    assert (found["absent"], found["script"]) == (["/no/such"], "")
    assert str(found["text"]).startswith("/no/such: there is no such file")


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (found,) = probe("chimirror-server", "--directory", str(tmp_path), "./run")
    assert "there is no such file in " in str(found["text"])
    (found,) = probe("chimirror-server", "--directory", "/no/such", "cat")
    assert (found["text"], found["absent"]) == (
        "/no/such: No such file or directory",
        ["/no/such"],
    )


def test_an_application_of_users_that_nothing_tells(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('command = ["cat"]\nusers = ["ann"]\n')
    words = ("--apps", str(tmp_path))
    (found,) = probe("chimirror-server", *words)
    assert "no source tells who a client is" in str(found["text"])
    assert found["line"] == 2
    *_, found = probe("chimirror-server", *words, "--authorize", "exec:cat")
    assert (found["text"], "cure" in found) == ("cat", False)


def test_applications(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("")
    (tmp_path / "good.toml").write_text('command = ["cat"]\n')
    bad, good = probe("chimirror-server", "--apps", str(tmp_path))
    assert bad["name"] == "bad"
    assert "no command" in str(bad["text"])
    assert bad["cure"] == "edit its file"
    path = str(tmp_path / "good.toml")
    assert good == {**GOOD, "name": "good", "file": path, "line": None}


def test_the_line_of_a_fault_in_an_application_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('framing = "lines"\ncommand = ["nosuch"]\n')
    (tmp_path / "b.toml").write_text('command = ["cat"]\ndirectory = "/no/such"\n')
    (tmp_path / "c.toml").write_text('command = ["cat"]\n\nframing = "xml"\n')
    found = probe("chimirror-server", "--apps", str(tmp_path))
    assert [one["line"] for one in found] == [2, 2, 3]
    assert [one["file"] for one in found] == [f"{tmp_path}/{x}.toml" for x in "abc"]
    assert all(".toml" not in str(one["text"]) for one in found)


def test_the_command_line_of_a_zygote() -> None:
    assert probe("chimirror-zygote", "--kill-grace", "3", "--", "cat") == [GOOD]
    (found,) = probe("chimirror-zygote", "--", "nosuch")
    assert "there is no program" in str(found["text"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_users_of_a_range(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    words = ("--user-range", "1879048192-1879048193", str(path), str(path))
    (found,) = probe("chimirror-bridge", *words)
    assert "for user 1879048192" in str(found["text"])
    assert found["absent"]
    assert os.geteuid() == 0


def test_one_line_is_printed_for_each_application(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["unit_probe", "chimirror-server", "cat"])
    unit_probe.main()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [GOOD]
