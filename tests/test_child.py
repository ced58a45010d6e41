"""Starting real processes: what they are born with, how they end.

An application looks at itself and tells.
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
from chimirror.system import child, children, fds
from house import PATH, Client, House, housing, program
from looping import turn_until
from settling import descriptors

NOBODY = 65534
ROOT = str(Path(chimirror.__file__).parent.parent)


@pytest.fixture
def house() -> Iterator[House]:
    with housing() as one:
        yield one


# What it is born with


def test_signals_are_as_a_program_expects_them(house: House) -> None:
    """Whatever is ignored or blocked here, by us or by who started us."""
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        status = house.told(house.start(program("cat", "/proc/self/status")))
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    fields = dict(
        line.split(b":\t", 1) for line in status.splitlines() if b":\t" in line
    )
    internal = 1 << 31 | 1 << 32  # the C library's own, which it lets nobody touch
    for name in (b"SigIgn", b"SigBlk", b"SigCgt"):
        assert int(fields[name], 16) & ~internal == 0, name


def test_it_holds_its_three_streams_and_nothing_else(house: House) -> None:
    others = [house.sh("cat"), house.sh("cat")]
    foreign = os.open("/dev/null", os.O_RDONLY)
    fds.seal()
    said = house.told(house.sh("exec ls /proc/self/fd"))
    assert said.split() == [b"0", b"1", b"2", b"3"]  # the last is the listing's own
    os.close(foreign)
    for other in others:
        other.close()
    house.alone()


def test_it_leads_its_own_group_in_our_session(house: House) -> None:
    client = house.start(program("cat", "/proc/self/stat"))
    fields = house.told(client).rpartition(b")")[2].split()
    assert int(fields[2]) == client.pid
    assert int(fields[3]) == os.getsid(0)


def test_its_environment_is_what_was_asked_for(house: House) -> None:
    odd = {"ODD": "\udcff=\n", "EMPTY": ""}
    said = house.told(house.start(program("env", "-0"), environment=odd))
    wanted = {**PATH, "CHIMIRROR_SESSION": "session-1", **odd}
    assert sorted(said.split(b"\0")[:-1]) == sorted(
        os.fsencode(f"{name}={value}") for name, value in wanted.items()
    )


def test_it_is_sacrificed_when_that_is_possible(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in the middle of its exec(2) may not be ours to touch yet."""
    sacrifice, answers = children.sacrifice, [False, False]

    def late(pid: int | str) -> bool:
        return answers.pop() if answers else sacrifice(pid)

    monkeypatch.setattr(children, "sacrifice", late)
    score = Path(f"/proc/{house.sh('cat').pid}/oom_score_adj")
    turn_until(house.loop, lambda: score.read_text() == "1000\n")


@pytest.mark.parametrize("keep", [True, False])
def test_stderr_is_a_pipe_or_nowhere(keep: bool, house: House) -> None:
    readlink = program("readlink", "/proc/self/fd/2")
    client = house.start(readlink, keep_stderr=keep)
    assert (client.pipes[2] >= 0) == keep
    assert all(not os.get_blocking(fd) for fd in client.pipes if fd >= 0)
    said = house.told(client)
    assert said.startswith(b"pipe:") if keep else said == b"/dev/null\n"


@pytest.mark.parametrize("keep", [True, False])
def test_a_control_channel_is_the_fourth(keep: bool, house: House) -> None:
    script = 'echo "$CHIMIRROR_CONTROL_FD"; read -r line <&3; echo "$line" >&3'
    what = program("sh", "-c", script).asked(control=True)
    client = house.start(what, keep_stderr=keep)
    with socket.socket(fileno=os.dup(client.pipes[3])) as channel:
        assert not os.get_blocking(client.pipes[3])
        channel.sendall(b"hello\n")
        assert house.told(client) == b"3\n"
        assert channel.recv(99) == b"hello\n"
    assert house.told(house.start(what.asked(control=False))) == b"\n"


NUMBERS = """
import os, sys
from itertools import permutations
sys.path.insert(0, sys.argv[1])
from chimirror.system import child, warm
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
    os.waitpid(child._spawn(child.Program(("sh", "-c", ask)), os.environ, pipes), 0)
    pid = os.fork()
    if not pid:
        warm._take_place(pipes)
        warm._take_channel(pipes[3])
        os.execvp("sh", ("sh", "-c", ask))
    os.waitpid(pid, 0)
    print(*order, sep="\\n", flush=True)
"""


def test_descriptors_may_have_the_numbers_that_they_are_to_have(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-c", NUMBERS, ROOT, str(tmp_path)]
    said = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    lines = [line.rpartition("/")[2] for line in said.split()]
    assert len(lines) == 24 * 12
    for at in range(0, len(lines), 12):
        spawned, warmed, wanted = (lines[at + n : at + n + 4] for n in (0, 4, 8))
        assert spawned == warmed == wanted


# What cannot be started


@pytest.fixture
def oddities(tmp_path: Path) -> Path:
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
    "": ": posix_spawnp: argv first element cannot be empty",
    "nul\0": "nul\0: embedded null byte",
}


def test_a_shortage_of_descriptors_is_told_as_one(house: House) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        client = house.sh("exit")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert client.failed == "sh: Too many open files (EMFILE)"
    assert client.shortage


def test_a_shortage_of_processes_is_told_as_one(house: House) -> None:
    """Of another user: none that is root's is ever refused."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            if os.getuid() == 0:
                os.setuid(NOBODY)
            client = house.sh("exit")
            os.write(writer, f"{client.failed} {client.shortage}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.waitpid(pid, 0)[1] == 0
    said = os.read(reader, 100)
    os.close(reader)
    assert said == b"sh: Resource temporarily unavailable (EAGAIN) True"


@pytest.mark.parametrize("path", FAILURES)
def test_what_cannot_be_started_leaves_nothing(
    path: str, house: House, oddities: Path
) -> None:
    what = program(path.format(oddities))
    before = descriptors(os.getpid())
    client = house.start(what)
    assert client.failed == FAILURES[path].format(oddities)
    assert descriptors(os.getpid()) == before
    assert children.listing() == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"BIG": "x" * 4_000_000}, "cat: Argument list too long (E2BIG)"),
        ({"NUL": "\0"}, "cat: embedded null byte"),
        ({"A=B": "x"}, "cat: illegal environment variable name"),
        ({"LONE": "\ud800"}, "cat: 'utf-8' codec can't encode"),
    ],
)
def test_environments_that_cannot_be(
    environment: dict[str, str], reason: str, house: House
) -> None:
    client = house.start(program("cat"), environment=environment)
    assert client.failed.startswith(reason)


@pytest.mark.parametrize("spare", range(6))
def test_without_descriptors_to_start_with(spare: int, house: House) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.listdir("/proc/self/fd")
    limit = max(map(int, held)) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    free = limit - (len(held) - 1)  # (one was the listing's own)
    fillers = [os.dup(0) for _ in range(free - spare)]
    try:
        client = house.start(program("true"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in fillers:
            os.close(fd)
    assert client.failed == "true: Too many open files (EMFILE)"
    assert len(os.listdir("/proc/self/fd")) == len(held)


# Its end


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", -9), ("kill -ABRT $$", -6)],
)
def test_its_end_is_told(script: str, status: int, house: House) -> None:
    client = house.sh(script)
    house.told(client)
    assert (client.status, client.survivors) == (status, False)


def test_many_ends_at_once(house: House) -> None:
    what = program("sh", "-c", "read go; exit 4")
    clients = [house.start(what) for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        house.told(client)
    assert [client.status for client in clients] == [4] * 20


def test_one_clients_bug_ends_no_other(house: House) -> None:
    class Broken(Client):
        def on_exit(self, status: int, survivors: bool) -> None:
            raise LookupError

    broken = Broken(house.loop, house.player, "session-1")
    house.clients.append(broken)
    house.player.start(broken, program("true"), PATH, keep_stderr=True)
    sound = house.start(program("true"))
    house.told(sound)
    turn_until(house.loop, lambda: broken.faults)
    assert [type(error) for error in broken.faults] == [LookupError]


def test_only_what_is_ours_is_signalled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.sh("trap 'exit 5' USR1; echo up; while :; do read line; done")
    turn_until(house.loop, lambda: client.said == b"up\n")
    client.starter.signal(client.pid, signal.SIGUSR1)
    house.told(client)
    assert client.status == 5
    signalled: list[int] = []
    monkeypatch.setattr(
        children, "kill_group", lambda pid, number: signalled.append(pid)
    )
    for pid in (client.pid, 0, -1, os.getpid()):
        client.starter.signal(pid, signal.SIGUSR1)
    assert signalled == []


# Many of them


def test_all_ends_are_told_even_if_looks_for_them_are_rare(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rest after each walk, and few ends in a row."""
    for name, value in (("MANY", 0), ("SLOW", 1e-9), ("BATCH", 3)):
        monkeypatch.setattr(child, name, value)
    what = program("sh", "-c", "read go; exit 4")
    clients = [house.start(what) for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        house.told(client)
    assert [client.status for client in clients] == [4] * 20


def test_no_walk_during_a_rest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []

    def walk(pid: int = -1) -> None:
        walks.append(pid)

    monkeypatch.setattr(child, "MANY", 0)
    monkeypatch.setattr(children, "next_ended", walk)
    client = house.sh("cat")
    client.starter.reap()
    client.starter._rested = house.loop.clock() + 3600
    for _ in range(5):
        client.starter.reap()
    assert walks == [-1]
    assert client.starter.deadline == client.starter._rested


def test_a_child_that_nobody_asked_for_is_reaped(house: House) -> None:
    os.posix_spawnp("true", ["true"], PATH)
    house.alone()


def test_the_starter_itself_watches_nothing(house: House) -> None:
    house.player.on_event(0, 0)
    with pytest.raises(LookupError):
        house.player.on_fault(LookupError())
