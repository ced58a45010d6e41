"""Tests that each session gets a user of its own, free again when its process is dead.

Each test process becomes another user and cannot return. So each runs separately.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.bridge import users
from processes import ended
from serve import ROOT

# Ids of this test process. The process that takes an id kills all others with it.
FIRST = 1879100000 + 2 * os.getpid()
GROUP = 1879060000  # group id of the table
PROGRAM = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from chimirror.bridge import users
try:
    user = users.switch_to_free_user(int(sys.argv[3]), int(sys.argv[4]), sys.argv[2])
    print(user.number)
except users.NoFreeUser:
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
    """A process that has tried to become a user of the range and printed the result."""
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


def test_each_process_gets_its_own_user(table: Path) -> None:
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        assert {said(one), said(two)} == {str(FIRST), str(FIRST + 1)}
        with somebody(table, FIRST + 1) as three:
            assert said(three) == "none"


def test_places_of_other_processes_are_not_free(table: Path) -> None:
    is_free = "users.is_byte_free(user.fd, {})".format
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        taken = int(said(one)) - FIRST
        said(two)
        assert ask(two, f"{is_free(taken)}, {is_free(5)}") == "(False, True)"


def test_switch_of_user_is_complete_and_final(table: Path) -> None:
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


def test_each_process_learns_the_former_session_of_its_user(table: Path) -> None:
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        called = {said(one): "a" * 32, said(two): "b" * 32}
        # A process that has answered exits, and its id is free.
        for process, name in zip((one, two), called.values(), strict=True):
            assert ask(process, f"user.record_session({name!r})") == ""
    with somebody(table, FIRST + 1) as one, somebody(table, FIRST + 1) as two:
        former = [called[said(one)], called[said(two)]]
        for process, name in zip((one, two), former, strict=True):
            assert ask(process, "user.record_session('c' * 32)") == name


def test_free_once_it_is_dead(table: Path) -> None:
    with somebody(table) as process:
        assert said(process) == str(FIRST)
    with somebody(table) as process:
        assert said(process) == str(FIRST)


def test_processes_of_a_killed_bridge_are_ended(table: Path) -> None:
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


def test_process_that_cannot_drop_privileges_exits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("open", "setgroups", "setresgid", "setresuid", "kill"):
        monkeypatch.setattr(f"posix.{name}", lambda *ignored: None)
    anything = os.stat(os.devnull)
    monkeypatch.setattr("posix.fstat", lambda *ignored: anything)
    monkeypatch.setattr(users, "_lock_number", lambda *ignored: 0)
    with pytest.raises(users.PrivilegesRetained):
        users.switch_to_free_user(FIRST, FIRST, os.devnull)
