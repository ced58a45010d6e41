"""Starts by the C extension: what only these do. All others are in test_spawner."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from errno import EACCES, EINVAL, ENOMEM, ENOSYS, EPERM
from pathlib import Path
from typing import Any, cast

import pytest

import syscall_filter
from chimirror.io import fds
from chimirror.process import _fast_spawn, children, fast_spawner
from chimirror.process.spawner import Program
from loops import turn_until
from processes import descriptors
from spawner_fixture import PATH, SpawnerHarness, program, spawner_harness


@pytest.fixture
def harness() -> Iterator[SpawnerHarness]:
    with spawner_harness(fast=True) as one:
        yield one


def blocked() -> set[int]:
    return {*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))}


def in_child(run: Callable[[], object]) -> str:
    """Return the result of a function in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(run()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    output = os.read(reader, 1000)
    os.close(reader)
    os.waitpid(pid, 0)
    return output.decode()


# The state of the program


def test_the_pid_is_in_the_table(harness: SpawnerHarness) -> None:
    client = harness.sh("read line")
    assert harness.processes.pid == client.pid > 0
    assert harness.processes.sessions == ["session-1"]


def test_descriptor_limits(harness: SpawnerHarness) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    cast("Any", harness.spawner)._limits = (77, hard)
    assert harness.output_of(harness.sh("ulimit -Sn")) == b"77\n"


def test_a_terminal_of_its_own(harness: SpawnerHarness) -> None:
    words = ("sh", "-c", "tty; cat /proc/$$/stat; tty </dev/tty; echo $TERM >&2")
    client = harness.start(program(*words).with_options(pty=True, control=True))
    turn_until(harness.loop, lambda: client.output.count(b"\r\n") == 4)
    name, stat, controlling, term = client.output.splitlines()
    fields = stat.rpartition(b")")[2].split()
    assert [int(fields[3]), int(fields[5])] == [client.pid, client.pid]
    assert name.startswith(b"/dev/pts/")
    assert (controlling, term) == (b"/dev/tty", b"xterm-256color")


def test_a_directory_is_entered_by_the_child_alone(
    harness: SpawnerHarness, tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "run").chmod(0o755)
    before = os.getcwd()
    client = harness.start(Program(("./run",), str(tmp_path)))
    assert harness.output_of(client) == f"{tmp_path}\n".encode()
    assert os.getcwd() == before


def test_a_missing_directory_is_named(harness: SpawnerHarness) -> None:
    client = harness.start(Program(("cat",), "/no/such"))
    assert client.failed == "/no/such: No such file or directory (ENOENT)"
    assert harness.processes.sessions == []


def test_arguments_that_are_no_text(harness: SpawnerHarness) -> None:
    client = harness.start(program("printf", "%s", "\udcff\udcfe", "é"))
    assert harness.output_of(client) == b"\xff\xfe\xc3\xa9"


def test_the_largest_environment(harness: SpawnerHarness) -> None:
    """One string has 128 KiB at most, with its end and its name: execve(2)."""
    longest = 128 * 1024 - len("V10=") - 1
    variables = {f"V{n}": "x" * longest for n in range(10, 24)}
    client = harness.start(program("env", "-0"), environment=variables)
    assert len(harness.output_of(client)) > 14 * longest
    variables["V99"] = "x" * (longest + 1)
    failed = harness.start(program("true"), environment=variables).failed
    assert failed == "true: Argument list too long (E2BIG)"


def test_a_table_of_any_size_is_not_passed_on(harness: SpawnerHarness) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    many = [os.dup(null) for _ in range(300)]
    try:
        fds.set_cloexec_all()
        client = harness.sh("exec ls /proc/self/fd")
        size = Path(f"/proc/{client.pid}/status").read_text()
        assert harness.output_of(client).split() == [b"0", b"1", b"2", b"3"]
    finally:
        for fd in (null, *many):
            os.close(fd)
    assert int(size.partition("FDSize:")[2].split()[0]) <= 64 or not size


def test_search_goes_on_after_a_file_that_is_denied(
    harness: SpawnerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "true").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}:/no/such:{os.environ['PATH']}")
    client = harness.start(program("true"))
    harness.output_of(client)
    assert client.status == 0
    (tmp_path / "denied").write_text("")
    client = harness.start(program("denied"))
    assert client.failed == "denied: Permission denied (EACCES)"


# The state of this process


@pytest.mark.parametrize("command", ["true", "no-such-program"])
def test_nothing_changes_here(command: str, harness: SpawnerHarness) -> None:
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        before, mask = descriptors(os.getpid()), blocked()
        client = harness.start(program(command))
        assert blocked() == mask
        for fd in filter(lambda fd: fd >= 0, client.pipes):
            harness.loop.watch(fd, client, 0)
            os.close(fd)
        client.pipes = (-1, -1, -1, -1)
        assert descriptors(os.getpid()) == before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def test_the_slots_keep_no_pipe(harness: SpawnerHarness) -> None:
    """Otherwise the application would never see the end of its input."""
    first = _fast_spawn.reserve()
    client = harness.sh("cat; echo end")
    slots = [os.readlink(f"/proc/self/fd/{first + n}") for n in range(4)]
    assert slots == ["/dev/null"] * 4
    os.close(client.pipes[0])
    client.pipes = (-1, *client.pipes[1:])
    assert harness.output_of(client) == b"end\n"


def test_only_the_ends_of_this_process_do_not_block(harness: SpawnerHarness) -> None:
    """A program may not expect EAGAIN from its standard streams."""
    flags = "for fd in 0 1 2; do grep flags /proc/$$/fdinfo/$fd; done"
    client = harness.sh(flags)
    assert [os.get_blocking(fd) for fd in client.pipes[:3]] == [False] * 3
    words = harness.output_of(client).split()[1::2]
    assert len(words) == 3
    assert not any(int(word, 8) & os.O_NONBLOCK for word in words)


def test_no_handler_of_this_process_runs_in_the_child(harness: SpawnerHarness) -> None:
    """A signal to the child has its default effect from the start."""
    calls: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: calls.append(os.getpid()))
    try:
        for _ in range(50):
            client = harness.sh("read line")
            os.kill(client.pid, signal.SIGUSR1)
            harness.output_of(client)
            assert client.status == -signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert calls == []


# The processors


def processors_of(harness: SpawnerHarness, *, busy: bool = True) -> list[str]:
    """Return those of a program and of this process, after a start."""
    harness.loop.is_busy = busy
    client = harness.start(program("grep", "Cpus_allowed_list", "/proc/self/status"))
    mine = Path("/proc/self/status").read_text().partition("Cpus_allowed_list:")[2]
    return [harness.output_of(client).split()[1].decode(), mine.split()[0]]


def test_a_busy_process_is_bound_for_a_moment() -> None:
    """The call kills this process, so it is made. Otherwise it is not."""

    def start() -> str:
        with spawner_harness(fast=True) as harness:
            every = processors_of(harness)
            syscall_filter.kill(CALLS["sched_setaffinity"])
            same = processors_of(harness, busy=False) == every
            os.write(2, f"{every[0] == every[1]} {same}\n".encode())
            return str(processors_of(harness))

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        start()
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"True True\n"
    several = len(os.sched_getaffinity(0)) > 1
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -31 * several


def test_a_failed_start_leaves_it_unbound(harness: SpawnerHarness) -> None:
    every = processors_of(harness)
    for failing in (Program(("cat",), "/no/such"), program("no-such-program")):
        harness.loop.is_busy = True
        assert harness.start(failing).failed
        assert processors_of(harness, busy=False) == every


@pytest.mark.parametrize("later", [False, True])
def test_what_somebody_has_bound_stays_bound(*, later: bool) -> None:
    def start() -> object:
        one = {min(os.sched_getaffinity(0))}
        if not later:
            os.sched_setaffinity(0, one)
        with spawner_harness(fast=True) as harness:
            os.sched_setaffinity(0, one)
            return {*processors_of(harness)} == {str(*one)}

    assert in_child(start) == "True"


def test_binding_may_be_refused() -> None:
    def start() -> object:
        syscall_filter.fail(CALLS["sched_setaffinity"], EPERM)
        with spawner_harness(fast=True) as harness:
            mine, other = processors_of(harness)
            return mine == other

    assert in_child(start) == "True"


# Errors of each step

CALLS = {
    "close_range": 436,
    "setpgid": 109,
    "dup2": 33,
    "prlimit64": 302,
    "rt_sigaction": 13,
    "execve": 59,
    "clone3": 435,
    "dup3": 292,
    "pipe2": 293,
    "fcntl": 72,
    "sched_setaffinity": 203,
}


@pytest.mark.parametrize("call", [*CALLS][:-1])
def test_a_failure_of_each_step(call: str, harness: SpawnerHarness) -> None:
    def start() -> object:
        count, mask = descriptors(os.getpid()), blocked()
        syscall_filter.fail(CALLS[call], ENOMEM)
        client = harness.start(program("true"))
        same = descriptors(os.getpid()) == count and blocked() == mask
        return client.failed, client.shortage, same, children.list_children()

    assert in_child(start) == str(
        ("true: Cannot allocate memory (ENOMEM)", True, True, [])
    )


@pytest.mark.parametrize(
    ("call", "error", "available"),
    [
        ("close_range", ENOSYS, False),
        ("close_range", EINVAL, False),
        ("clone3", EACCES, False),
        ("clone3", ENOSYS, True),
        ("setpgid", ENOSYS, False),
        ("setuid", ENOSYS, True),
    ],
)
def test_it_is_tried_before(call: str, error: int, *, available: bool) -> None:
    def ask() -> object:
        count = descriptors(os.getpid())
        syscall_filter.fail({**CALLS, "setuid": 105}[call], error)
        obstacle = fast_spawner.find_obstacle()
        return obstacle, descriptors(os.getpid()) - count, children.list_children()

    obstacle = "" if available else f"a start is refused: {os.strerror(error)}"
    assert in_child(ask) == str((obstacle, 5 if available else 0, []))


def test_clone_in_place_of_clone3() -> None:
    """A kernel or a filter may not allow clone3(2), and signals are reset all the same.

    Refusals of clone(2) are then final.
    """

    def start() -> object:
        syscall_filter.fail(CALLS["clone3"], ENOSYS)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        with spawner_harness(fast=True) as harness:
            client = harness.start(program("cat", "/proc/self/status"))
            lines = harness.output_of(client).split(b"\n")
            output = [line for line in lines if line[:6] in {b"SigIgn", b"SigCgt"}]
            syscall_filter.fail(56, EACCES)
            return output, harness.start(program("true")).failed

    none, failure = b":\t" + b"0" * 16, "true: Permission denied (EACCES)"
    assert in_child(start) == str(([b"SigIgn" + none, b"SigCgt" + none], failure))


def test_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_spawner, "HAS_EXTENSION", False)
    text = "applications are started by the zygote: the C extension is not installed"
    assert fast_spawner.describe(fast_spawner.try_start()) == text


def test_a_trial_keeps_no_descriptors() -> None:
    def ask() -> object:
        count = descriptors(os.getpid())
        obstacle = fast_spawner.try_start()
        text = fast_spawner.describe(obstacle)
        return text, descriptors(os.getpid()) - count

    assert in_child(ask) == str(("applications are started by the workers", 0))


def test_a_filter_may_kill_starts() -> None:
    def ask() -> object:
        syscall_filter.kill(CALLS["close_range"])
        return fast_spawner.find_obstacle(), children.list_children()

    assert in_child(ask) == str(("a start is killed", []))


def test_no_descriptors_to_reserve() -> None:
    def ask() -> object:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 9
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        while os.dup(0) < limit - 4:  # for the null device and the listing
            pass
        count = len(os.listdir("/proc/self/fd"))
        obstacle = fast_spawner.find_obstacle()
        return obstacle, len(os.listdir("/proc/self/fd")) - count

    assert in_child(ask) == str(("a start is refused: Too many open files", 0))


# Arguments that no caller passes


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (1, (), ValueError),  # no program
        (10, 6, ValueError),  # the pid would end behind the memory
        (10, 2, ValueError),  # not aligned
        (10, -4, ValueError),
        (9, b"constant", TypeError),
        (3, (0, 1, 2), TypeError),
        (2, [("A", "1")], TypeError),
        (1, ("true", 7), TypeError),
        (6, (1,), TypeError),
        (4, 7, TypeError),
        (2, {"": "1"}, ValueError),
        (2, {"A=": "1"}, ValueError),
        (2, {"A": "1\0"}, ValueError),
        (2, {"A": 1}, TypeError),
        (1, ("true", "\0"), ValueError),
        (7, "1", TypeError),
    ],
)
def test_invalid_arguments(
    position: int, value: object, error: type[Exception], harness: SpawnerHarness
) -> None:
    memory = bytearray(8)
    arguments: list[object] = [
        *(("/bin/true",), ("true",), dict(PATH)),
        *((0, 1, 2, -1), None, False, None, -1, False, memory, 4),
    ]
    arguments[position] = value
    with pytest.raises(error):
        _fast_spawn.spawn(*cast("Any", arguments))
    assert memory == bytearray(8)


def test_nothing_is_started_without_slots() -> None:
    arguments: Any = (
        ("",),
        ("",),
        {},
        (0, 1, 2, -1),
        None,
        False,
        None,
        -1,
        False,
        bytearray(4),
        0,
    )
    with pytest.raises(RuntimeError):
        _fast_spawn.spawn(*arguments)
