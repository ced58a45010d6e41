"""Real processes: the state in which they start, and how they end.

Each application inspects itself and prints the result.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chimirror
from chimirror.io import fds
from chimirror.process import children, reaper
from chimirror.process.spawner import SpawnRequest
from loops import turn_until
from processes import descriptors
from spawner_fixture import (
    PATH,
    Client,
    SpawnerHarness,
    kept_requests,
    program,
    spawner_harness,
)

NOBODY = 65534
ROOT = str(Path(chimirror.__file__).parent.parent)


@pytest.fixture(params=[False, True], ids=["posix_spawn", "clone"])
def harness(request: pytest.FixtureRequest) -> Iterator[SpawnerHarness]:
    with spawner_harness(fast=request.param) as one:
        yield one


# State at the start


@pytest.mark.parametrize("fast", [False, True], ids=["posix_spawn", "clone"])
def test_signals_are_as_a_program_expects_them(fast: bool) -> None:
    """This holds whatever signals this process ignores, handles or blocks."""
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handled = signal.signal(signal.SIGUSR1, lambda *_: None)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with spawner_harness(fast=fast) as harness:
            client = harness.start(program("cat", "/proc/self/status"))
            status = harness.output_of(client)
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.signal(signal.SIGUSR1, handled)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    fields = dict(
        line.split(b":\t", 1) for line in status.splitlines() if b":\t" in line
    )
    internal = 1 << 31 | 1 << 32  # reserved by the C library
    for name in (b"SigIgn", b"SigBlk", b"SigCgt"):
        assert int(fields[name], 16) & ~internal == 0, name


def test_it_holds_its_three_streams_and_nothing_else(harness: SpawnerHarness) -> None:
    others = [harness.sh("cat"), harness.sh("cat")]
    foreign = os.open("/dev/null", os.O_RDONLY)
    fds.set_cloexec_all()
    output = harness.output_of(harness.sh("exec ls /proc/self/fd"))
    # the last one belongs to the listing
    assert output.split() == [b"0", b"1", b"2", b"3"]
    os.close(foreign)
    for other in others:
        other.close()
    harness.wait_for_all()


def test_it_leads_its_own_process_group(harness: SpawnerHarness) -> None:
    client = harness.start(program("cat", "/proc/self/stat"))
    fields = harness.output_of(client).rpartition(b")")[2].split()
    assert int(fields[2]) == client.pid
    assert int(fields[3]) == os.getsid(0)


def test_its_environment_is_complete(harness: SpawnerHarness) -> None:
    odd = {"ODD": "\udcff=\n", "EMPTY": ""}
    output = harness.output_of(harness.start(program("env", "-0"), environment=odd))
    wanted = {**PATH, "CHIMIRROR_SESSION": "session-1", **odd}
    assert sorted(output.split(b"\0")[:-1]) == sorted(
        os.fsencode(f"{name}={value}") for name, value in wanted.items()
    )


def test_it_is_sacrificed_when_that_is_possible(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During its exec(2) the setting of a process may not be writable yet."""
    sacrifice, answers = children.prefer_for_oom_kill, [False, False]

    def late(pid: int | str) -> bool:
        return answers.pop() if answers else sacrifice(pid)

    monkeypatch.setattr(children, "prefer_for_oom_kill", late)
    score = Path(f"/proc/{harness.sh('cat').pid}/oom_score_adj")
    turn_until(harness.loop, lambda: score.read_text() == "1000\n")


@pytest.mark.parametrize("keep", [True, False])
def test_stderr_is_a_pipe_or_nowhere(keep: bool, harness: SpawnerHarness) -> None:
    readlink = program("readlink", "/proc/self/fd/2")
    client = harness.start(readlink, keep_stderr=keep)
    assert (client.pipes[2] >= 0) == keep
    assert all(not os.get_blocking(fd) for fd in client.pipes if fd >= 0)
    output = harness.output_of(client)
    assert output.startswith(b"pipe:") if keep else output == b"/dev/null\n"


@pytest.mark.parametrize("keep", [True, False])
def test_a_control_channel_is_the_fourth(keep: bool, harness: SpawnerHarness) -> None:
    script = 'echo "$CHIMIRROR_CONTROL_FD"; read -r line <&3; echo "$line" >&3'
    command = program("sh", "-c", script).with_options(control=True)
    client = harness.start(command, keep_stderr=keep)
    with socket.socket(fileno=os.dup(client.pipes[3])) as channel:
        assert not os.get_blocking(client.pipes[3])
        channel.sendall(b"hello\n")
        assert harness.output_of(client) == b"3\n"
        assert channel.recv(99) == b"hello\n"
    assert (
        harness.output_of(harness.start(command.with_options(control=False))) == b"\n"
    )


NUMBERS = """
import os, sys
from itertools import permutations
sys.path.insert(0, sys.argv[1])
from chimirror.process import child_setup, spawner
os.dup2(1, 9)
held = [os.open("/dev", os.O_RDONLY) for _ in range(9)]
for fd in (3, 4, 5, 6):
    other = os.open(f"{sys.argv[2]}/{fd}", os.O_RDWR | os.O_CREAT)
    os.dup2(other, fd, inheritable=False)
    if other not in (3, 4, 5, 6):
        os.close(other)
ask = "for n in 0 1 2 3; do (readlink /proc/$$/fd/$n >&9); done"
for order in permutations((3, 4, 5, 6)):
    pipes = dict(enumerate(order))
    os.set_inheritable(9, True)
    os.waitpid(spawner._spawn(spawner.Program(("sh", "-c", ask)), os.environ, pipes), 0)
    pid = os.fork()
    if not pid:
        child_setup.set_descriptors(pipes, pty=False)
        os.execvp("sh", ("sh", "-c", ask))
    os.waitpid(pid, 0)
    print(*order, sep="\\n", flush=True)
"""


def test_descriptors_may_overlap_their_targets(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-c", NUMBERS, ROOT, str(tmp_path)]
    output = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    lines = [line.rpartition("/")[2] for line in output.split()]
    assert len(lines) == 24 * 12
    for at in range(0, len(lines), 12):
        spawned, warmed, wanted = (lines[at + n : at + n + 4] for n in (0, 4, 8))
        assert spawned == warmed == wanted


# Programs that cannot be started


@pytest.fixture
def unusual_programs(tmp_path: Path) -> Path:
    (tmp_path / "data").write_text("echo hello\n")
    (tmp_path / "bare").write_text("echo hello\n")
    (tmp_path / "bare").chmod(0o755)
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    return tmp_path


FAILURES = {
    "no-such-program": "no-such-program: No such file or directory (ENOENT)",
    "./no-such-program": "./no-such-program: No such file or directory (ENOENT)",
    "{}/data": "{}/data: Permission denied (EACCES)",
    "{}/bare": "{}/bare: Exec format error (ENOEXEC)",
    "{}/lost": "{}/lost: No such file or directory (ENOENT)",
    "{}/data/x": "{}/data/x: Not a directory (ENOTDIR)",
    "{}": "{}: Permission denied (EACCES)",
    "": ": No such file or directory (ENOENT)",
    "nul\0": "nul\0: embedded null byte",
}


def test_a_shortage_of_descriptors_is_reported(harness: SpawnerHarness) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        client = harness.sh("exit")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert client.failed == "sh: Too many open files (EMFILE)"
    assert client.shortage


def test_a_shortage_of_processes_is_reported(harness: SpawnerHarness) -> None:
    """As another user: root is never refused a process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            if os.getuid() == 0:
                os.setuid(NOBODY)
            client = harness.sh("exit")
            os.write(writer, f"{client.failed} {client.shortage}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.waitpid(pid, 0)[1] == 0
    output = os.read(reader, 100)
    os.close(reader)
    assert output == b"sh: Resource temporarily unavailable (EAGAIN) True"


@pytest.mark.parametrize("path", FAILURES)
def test_a_failed_start_leaves_nothing(
    path: str, harness: SpawnerHarness, unusual_programs: Path
) -> None:
    command = program(path.format(unusual_programs))
    before = descriptors(os.getpid())
    client = harness.start(command)
    expected = FAILURES[path].format(unusual_programs)
    if not path and not harness.fast:
        expected = ": posix_spawnp: argv first element cannot be empty"
    assert client.failed == expected
    assert descriptors(os.getpid()) == before
    assert children.list_children() == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"BIG": "x" * 4_000_000}, "cat: Argument list too long (E2BIG)"),
        ({"NUL": "\0"}, "cat: embedded null byte"),
        ({"A=B": "x"}, "cat: illegal environment variable name"),
        ({"LONE": "\ud800"}, "cat: 'utf-8' codec can't encode"),
    ],
)
def test_invalid_environments(
    environment: dict[str, str], reason: str, harness: SpawnerHarness
) -> None:
    client = harness.start(program("cat"), environment=environment)
    assert client.failed.startswith(reason)


@pytest.mark.parametrize("spare", range(6))
def test_without_descriptors_to_start_with(spare: int, harness: SpawnerHarness) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.listdir("/proc/self/fd")
    limit = max(map(int, held)) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    free = limit - (len(held) - 1)  # (one belonged to the listing)
    fillers = [os.dup(0) for _ in range(free - spare)]
    try:
        client = harness.start(program("true"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in fillers:
            os.close(fd)
    assert client.failed == "true: Too many open files (EMFILE)"
    assert len(os.listdir("/proc/self/fd")) == len(held)


# End


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", -9), ("kill -ABRT $$", -6)],
)
def test_its_end_is_reported(script: str, status: int, harness: SpawnerHarness) -> None:
    client = harness.sh(script)
    harness.output_of(client)
    assert (client.status, client.survivors) == (status, False)


def test_nothing_keeps_the_request_of_a_start(harness: SpawnerHarness) -> None:
    former = kept_requests()
    client = harness.start(program("cat").with_options(control=True))
    assert client.pid
    assert not kept_requests(former)


def test_many_ends_at_once(harness: SpawnerHarness) -> None:
    command = program("sh", "-c", "read go; exit 4")
    clients = [harness.start(command) for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        harness.output_of(client)
    assert [client.status for client in clients] == [4] * 20


def test_an_error_of_one_client_affects_no_other(harness: SpawnerHarness) -> None:
    class Broken(Client):
        def on_exit(self, status: int, survivors: bool) -> None:
            raise LookupError

    broken = Broken(harness.loop, harness.spawner, "session-1")
    harness.clients.append(broken)
    harness.spawner.start(SpawnRequest(broken, program("true"), PATH, keep_stderr=True))
    sound = harness.start(program("true"))
    harness.output_of(sound)
    turn_until(harness.loop, lambda: broken.errors)
    assert [type(error) for error in broken.errors] == [LookupError]


def test_only_children_are_signalled(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = harness.sh("trap 'exit 5' USR1; sleep 1000 & echo up; wait")
    turn_until(harness.loop, lambda: client.output == b"up\n")
    client.spawner.signal(client.pid, signal.SIGUSR1)
    harness.output_of(client)
    assert client.status == 5
    signalled: list[int] = []
    monkeypatch.setattr(
        children, "kill_group", lambda pid, number: signalled.append(pid)
    )
    for pid in (client.pid, 0, -1, os.getpid()):
        client.spawner.signal(pid, signal.SIGUSR1)
    assert signalled == []


# Many children


def test_all_ends_are_reported_despite_rests(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rest after each walk, and few ends in a row."""
    for name, value in (("MANY_CHILDREN", 0), ("SLOW_WALK", 1e-9), ("BATCH", 3)):
        monkeypatch.setattr(reaper, name, value)
    command = program("sh", "-c", "read go; exit 4")
    clients = [harness.start(command) for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        harness.output_of(client)
    assert [client.status for client in clients] == [4] * 20


def test_no_walk_during_a_rest(
    harness: SpawnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []

    def walk(pid: int = -1) -> None:
        walks.append(pid)

    monkeypatch.setattr(reaper, "MANY_CHILDREN", 0)
    monkeypatch.setattr(children, "next_ended", walk)
    client = harness.sh("cat")
    client.spawner.reap()
    client.spawner._next_walk = harness.loop.clock() + 3600
    for _ in range(5):
        client.spawner.reap()
    assert walks == [-1]
    assert client.spawner.deadline == client.spawner._next_walk


def test_an_unknown_child_is_reaped(harness: SpawnerHarness) -> None:
    os.posix_spawnp("true", ["true"], PATH)
    harness.wait_for_all()


def test_an_internal_error_of_the_spawner_is_raised(harness: SpawnerHarness) -> None:
    with pytest.raises(LookupError):
        harness.spawner.on_error(LookupError())
