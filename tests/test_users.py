"""A user for each session: taken by one process, given up never, free when it is dead.

Law: each becomes another user in a process of its own, since there is no way back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.system import users
from launch import ROOT
from settling import ended

FIRST = 1879050000
GROUP = 1879060000  # of the table
PROGRAM = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from chimirror.system import users
try:
    user = users.become_one_of(int(sys.argv[3]), int(sys.argv[4]), sys.argv[2])
    print(user.number)
except users.NoUser:
    print("none")
except OSError as error:
    print(type(error).__name__)
sys.stdout.flush()
print(eval(sys.stdin.readline()))
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    if os.getuid():
        pytest.skip("only root can become somebody else")
    file = tmp_path / "users"
    file.touch()
    os.chown(file, 0, GROUP)
    return file


@contextmanager
def somebody(table: Path, last: int = FIRST) -> Iterator[subprocess.Popen[str]]:
    """A process that has tried to become somebody of the range, and said whom."""
    argv = [sys.executable, "-c", PROGRAM, ROOT, str(table), str(FIRST), str(last)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str], expression: str) -> str:
    assert process.stdin is not None
    process.stdin.write(expression + "\n")
    process.stdin.flush()
    return said(process)


def test_each_is_somebody_else(table: Path) -> None:
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        assert {said(one), said(two)} == {str(FIRST), str(FIRST + 1)}
        with somebody(table, FIRST + 1) as three:
            assert said(three) == "none"


def test_it_is_whole_and_for_good(table: Path) -> None:
    identity = "os.getresuid() + os.getresgid(), os.getgroups()"
    capabilities = "[x for x in open('/proc/self/status') if x[:6] in 'CapPrm CapEff']"
    with somebody(table) as process:
        assert said(process) == str(FIRST)
        assert ask(process, identity) == str(((FIRST,) * 5 + (GROUP,), []))
    with somebody(table) as process:
        assert said(process) == str(FIRST)
        answer = ask(process, capabilities)
        assert answer.count("0000000000000000") == 2


def test_what_it_executes_is_of_no_other_group(table: Path) -> None:
    groups = "import os; print(os.getresgid(), os.getgroups())"
    start = f"subprocess.check_output(['python3', '-c', {groups!r}], text=True).strip()"
    with somebody(table) as process:
        said(process)
        assert ask(process, start) == str((FIRST,) * 3) + " []"


def test_each_learns_what_the_last_of_its_number_was_called(table: Path) -> None:
    called: dict[str, str] = {}
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        for process, name in ((one, "a" * 32), (two, "b" * 32)):
            called[said(process)] = name
            assert ask(process, f"user.sign({name!r})") == ""
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        for process in (one, two):
            former = called[said(process)]
            assert ask(process, "user.sign('c' * 32)") == former


def test_free_once_it_is_dead(table: Path) -> None:
    with somebody(table) as process:
        assert said(process) == str(FIRST)
    with somebody(table) as process:
        assert said(process) == str(FIRST)


def test_what_a_killed_one_left_is_ended(table: Path) -> None:
    start = "os.posix_spawnp('sleep', ['sleep', '1000'], os.environ)"
    with somebody(table) as process:
        said(process)
        left = int(ask(process, start))
    os.kill(left, 0)
    with somebody(table) as process:
        assert said(process) == str(FIRST)
        assert ended(left, 30)


def test_no_table(table: Path) -> None:
    table.unlink()
    with somebody(table) as process:
        assert said(process) == "FileNotFoundError"


def test_who_cannot_give_it_up_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "setgroups", "setresgid", "setresuid", "kill"):
        monkeypatch.setattr(f"posix.{name}", lambda *ignored: None)
    anything = os.stat(os.devnull)
    monkeypatch.setattr("posix.fstat", lambda *ignored: anything)
    monkeypatch.setattr(users, "_take", lambda *ignored: 0)
    with pytest.raises(users.Insecure):
        users.become_one_of(FIRST, FIRST, os.devnull)
