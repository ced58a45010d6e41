"""Programs that are started as another user, in real processes. Only root can."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chimirror.io import fds
from chimirror.process import child_setup, children, user_program
from chimirror.process.spawner import Program
from loops import turn_until
from processes import comm, descriptors, let_others_in, read, until
from spawner_fixture import Client, SpawnerHarness, spawner_harness

IDS = (65534, 65533, 65532, 65531)  # a user, its group, its other groups
FAILURES = {
    "./no-such-program": "./no-such-program: No such file or directory (ENOENT)",
    "{}/data": "{}/data: Permission denied (EACCES)",
    "{}/bare": "{}/bare: Exec format error (ENOEXEC)",
    "{}/private/sh": "{}/private/sh: Permission denied (EACCES)",
    "nul\0": "nul\0: Invalid argument (EINVAL)",
}


@pytest.fixture
def harness() -> Iterator[SpawnerHarness]:
    if os.getuid():
        pytest.skip("only root can start a program as another user")
    with spawner_harness() as one:
        yield one


def name_and_state(pid: int) -> tuple[str, str]:
    """Return the name of a process, and one letter as in proc(5): S sleeps."""
    stat = read(f"/proc/{pid}/stat").decode()
    return comm(pid), stat.rpartition(")")[2].strip()[:1]


def program(*argv: str, directory: str | None = None) -> Program:
    return Program(argv, directory, user_ids=IDS)


def test_it_has_the_user_and_no_other_group(harness: SpawnerHarness) -> None:
    text = harness.output_of(harness.start(program("cat", "/proc/self/status")))
    fields = dict(line.split(":\t", 1) for line in text.decode().splitlines())
    assert fields["Uid"] == "\t".join(4 * ["65534"])
    assert fields["Gid"] == "\t".join(4 * ["65533"])
    assert fields["Groups"].split() == ["65531", "65532", "65533"]
    for name in ("CapPrm", "CapEff", "CapAmb"):
        assert int(fields[name], 16) == 0


def test_signals_are_as_a_program_expects_them(harness: SpawnerHarness) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        text = harness.output_of(harness.start(program("cat", "/proc/self/status")))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM}
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    fields = dict(line.split(":\t", 1) for line in text.decode().splitlines())
    internal = 1 << 31 | 1 << 32  # reserved by the C library
    for name in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(fields[name], 16) & ~internal == 0, name


def test_descriptors_and_process_group(harness: SpawnerHarness) -> None:
    fds.set_cloexec_all()  # those of the test runner
    script = "ls /proc/self/fd; cut -d' ' -f5 /proc/self/stat; echo $$"
    command = Program(("sh", "-c", script), user_ids=IDS, control=True)
    *numbers, group, pid = harness.output_of(harness.start(command)).split()
    assert numbers == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]  # the last one belongs to the listing
    assert group == pid


def test_the_user_enters_the_directory(harness: SpawnerHarness, tmp_path: Path) -> None:
    let_others_in(tmp_path)
    pwd = program("pwd", directory=str(tmp_path))
    assert harness.output_of(harness.start(pwd)).decode().strip() == str(tmp_path)
    tmp_path.chmod(0o700)
    client = outcome(harness, harness.start(pwd))
    assert client.failed == f"{tmp_path}: Permission denied (EACCES)"


def test_it_is_preferred_for_the_oom_killer(harness: SpawnerHarness) -> None:
    pid = outcome(harness, harness.start(program("cat"))).pid
    score = Path(f"/proc/{pid}/oom_score_adj")
    turn_until(harness.loop, lambda: score.read_text() == "1000\n")


def outcome(harness: SpawnerHarness, client: Client) -> Client:
    """Return the client once the program runs, or has failed to start."""
    turn_until(harness.loop, lambda: client.pid or client.failed)
    return client


@pytest.mark.parametrize("path", FAILURES)
def test_a_failed_start_leaves_nothing(
    path: str, harness: SpawnerHarness, tmp_path: Path
) -> None:
    let_others_in(tmp_path)
    (tmp_path / "data").write_text("echo hello\n")
    (tmp_path / "bare").write_text("echo hello\n")
    (tmp_path / "bare").chmod(0o755)
    (tmp_path / "private").mkdir(0o700)
    before = descriptors(os.getpid())
    client = outcome(harness, harness.start(program(path.format(tmp_path))))
    harness.wait_for_all()
    assert client.failed == FAILURES[path].format(tmp_path)
    assert descriptors(os.getpid()) == before


def test_a_process_without_privileges_reports_the_user(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(groups: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("chimirror.process.child_setup.os.setgroups", refuse)
    client = outcome(harness, harness.start(program("cat")))
    assert client.failed == "user 65534: Operation not permitted (EPERM)"


# Other processes of the user, which may signal the child


def signal_itself(number: int, user: int) -> Callable[..., None]:
    def switch_user(ids: tuple[int, ...], *, pty: bool) -> None:
        if ids[0] == user:
            os.kill(os.getpid(), number)

    return switch_user


def test_a_child_that_is_stopped_delays_no_other_start(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_program, "START_TIMEOUT", 3600)
    stop = signal_itself(signal.SIGSTOP, IDS[0])
    monkeypatch.setattr(child_setup, "switch_user", stop)
    stopped = harness.start(program("cat"))
    (child,) = children.list_children()
    other = Program(("echo", "served"), user_ids=(65530, 65530))
    assert harness.output_of(harness.start(other)) == b"served\n"
    assert (stopped.pid, stopped.failed) == (0, "")
    start = harness.spawner.client(child)
    assert isinstance(start, user_program.UserStart)
    start.on_timer(harness.loop.now)
    outcome(harness, stopped)
    assert stopped.failed == "user 65534: the start took over 3600 s"
    assert stopped.shortage
    harness.wait_for_all()
    # refused at once, and only this user
    barred = harness.start(program("cat"))
    text = "user 65534: an earlier start took over 3600 s (EAGAIN)"
    assert (barred.failed, barred.shortage) == (text, True)
    assert harness.output_of(harness.start(other)) == b"served\n"
    assert harness.spawner._user_starts
    harness.spawner._user_starts._barred[IDS[0]] = harness.loop.now  # it is over
    monkeypatch.undo()
    assert outcome(harness, harness.start(program("cat"))).pid


def test_a_busy_parent_kills_no_program_that_runs(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_program, "START_TIMEOUT", 0.0)
    client = harness.start(program("cat"))
    # A process has its new name before its report is closed. Then cat waits for input.
    until(lambda: ("cat", "S") in map(name_and_state, children.list_children()), "cat")
    outcome(harness, client)
    assert (client.failed, client.status) == ("", None)


def test_a_child_that_is_killed_has_ended(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = signal_itself(signal.SIGKILL, IDS[0])
    monkeypatch.setattr(child_setup, "switch_user", kill)
    client = harness.start(program("cat"))
    harness.output_of(client)
    assert client.status == -signal.SIGKILL
