"""Starting real processes: what they are born with, how they end, what they leave.

An application looks at itself and tells. A stray is a process that fled from its
session: into another group, another session, another generation.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.system import child, children, fds
from chimirror.system.child import Starter
from chimirror.system.loop import Loop
from looping import Timer, looping, subreaping, turn_until
from settling import descriptors, processes

PATH = {"PATH": os.environ["PATH"]}
NOBODY = 65534


class Client:
    """Asks for an application, reads what it says, lets the starter finish it."""

    def __init__(self, loop: Loop, starter: Starter, session: str) -> None:
        self.loop, self.starter, self.session = loop, starter, session
        self.pid = 0
        self.pipes: tuple[int, int, int] = (-1, -1, -1)
        self.failed = ""
        self.shortage = False
        self.status: int | None = None
        self.survivors = False
        self.said = b""
        self.faults: list[Exception] = []

    def on_started(self, pid: int, pipes: tuple[int, int, int]) -> None:
        self.pid, self.pipes = pid, pipes
        self.loop.watch(pipes[1], self, 1)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        self.failed, self.shortage = reason, shortage

    def on_exit(self, status: int, survivors: bool) -> None:
        self.status, self.survivors = status, survivors
        self.finish()

    def finish(self) -> None:
        self.starter.finish(self.pid, self.session, self.survivors)

    def on_event(self, fd: int, events: int) -> None:
        chunk = os.read(fd, 65536)
        self.said += chunk
        if not chunk:
            self.loop.watch(fd, self, 0)
            self.close()

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)

    def close(self) -> None:
        for fd in self.pipes:
            if fd >= 0:
                self.loop.close(fd)
        self.pipes = (-1, -1, -1)


class House:
    """A loop and its starter: of one command, or of what PLAY says."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.clients: list[Client] = []
        self.player = Starter(loop, ("sh", "-c", 'eval "$PLAY"'))

    def starter(self, *argv: str) -> Starter:
        """Takes the place of the one before."""
        self.player = Starter(self.loop, argv)
        return self.player

    def start(
        self,
        starter: Starter,
        session: str = "session-1",
        environment: dict[str, str] | None = None,
        *,
        keep_stderr: bool = True,
    ) -> Client:
        client = Client(self.loop, starter, session)
        self.clients.append(client)
        variables = {**PATH, "CHIMIRROR_SESSION": session, **(environment or {})}
        starter.start(client, variables, keep_stderr)
        return client

    def sh(self, script: str, session: str = "session-1") -> Client:
        return self.start(self.player, session, {"PLAY": script})

    def told(self, client: Client) -> bytes:
        """What it says until its end."""
        turn_until(
            self.loop, lambda: client.status is not None and not self.open(client)
        )
        return client.said

    def open(self, client: Client) -> bool:
        return client.pipes[1] >= 0

    def alone(self) -> None:
        """Until nothing that we started is left."""
        turn_until(self.loop, lambda: not children.listing())

    def passes(self, seconds: float) -> None:
        timer = Timer(self.loop)
        self.loop.arm(timer, self.loop.now + seconds)
        turn_until(self.loop, lambda: timer.calls)


@pytest.fixture
def house() -> Iterator[House]:
    with subreaping(), looping() as loop:
        made = House(loop)
        try:
            yield made
        finally:
            for client in made.clients:
                client.close()
            children.end_all()


# What it is born with


def test_signals_are_as_a_program_expects_them(house: House) -> None:
    """Whatever is ignored or blocked here, by us or by who started us."""
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        status = house.told(house.start(house.starter("cat", "/proc/self/status")))
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
    client = house.start(house.starter("cat", "/proc/self/stat"))
    fields = house.told(client).rpartition(b")")[2].split()
    assert int(fields[2]) == client.pid
    assert int(fields[3]) == os.getsid(0)


def test_its_environment_is_what_was_asked_for(house: House) -> None:
    odd = {"ODD": "\udcff=\n", "EMPTY": ""}
    said = house.told(house.start(house.starter("env", "-0"), environment=odd))
    wanted = {**PATH, "CHIMIRROR_SESSION": "session-1", **odd}
    assert sorted(said.split(b"\0")[:-1]) == sorted(
        os.fsencode(f"{name}={value}") for name, value in wanted.items()
    )


@pytest.mark.parametrize("keep", [True, False])
def test_stderr_is_a_pipe_or_nowhere(keep: bool, house: House) -> None:
    starter = house.starter("readlink", "/proc/self/fd/2")
    client = house.start(starter, keep_stderr=keep)
    assert (client.pipes[2] >= 0) == keep
    assert all(not os.get_blocking(fd) for fd in client.pipes if fd >= 0)
    said = house.told(client)
    assert said.startswith(b"pipe:") if keep else said == b"/dev/null\n"


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


@pytest.mark.parametrize("program", FAILURES)
def test_what_cannot_be_started_leaves_nothing(
    program: str, house: House, oddities: Path
) -> None:
    starter = house.starter(program.format(oddities))
    before = descriptors(os.getpid())
    client = house.start(starter)
    assert client.failed == FAILURES[program].format(oddities)
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
    client = house.start(house.starter("cat"), environment=environment)
    assert client.failed.startswith(reason)


@pytest.mark.parametrize("spare", range(6))
def test_without_descriptors_to_start_with(spare: int, house: House) -> None:
    starter = house.starter("true")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.listdir("/proc/self/fd")
    limit = max(map(int, held)) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    free = limit - (len(held) - 1)  # (one was the listing's own)
    fillers = [os.dup(0) for _ in range(free - spare)]
    try:
        client = house.start(starter)
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
    starter = house.starter("sh", "-c", "read go; exit 4")
    clients = [house.start(starter) for _ in range(20)]
    for client in clients:
        os.write(client.pipes[0], b"\n")
    for client in clients:
        house.told(client)
    assert [client.status for client in clients] == [4] * 20


def test_one_clients_bug_ends_no_other(house: House) -> None:
    class Broken(Client):
        def on_exit(self, status: int, survivors: bool) -> None:
            raise LookupError

    starter = house.starter("true")
    broken = Broken(house.loop, starter, "session-1")
    house.clients.append(broken)
    starter.start(broken, PATH, keep_stderr=True)
    sound = house.start(starter)
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


# What it leaves


STRAYS = {
    "in its group": "sleep 1000 & exit 3",
    "of its group, without the variable": "env -i sleep 1000 & exit 3",
    "in another group": "exec bash -c 'set -m; sleep 1000 & exit 3'",
    "in another session": "setsid sleep 1000 & exit 3",
    "forked twice": "setsid -f sh -c 'sleep 1000 & sleep 1000 & exit' & exit 3",
    "of several generations": "setsid sh -c '(sleep 1000 & (sleep 1000 & "
    "setsid sleep 1000 & sleep 1000)) & sleep 1000' & exit 3",
    "that ignore all": "trap '' TERM HUP INT; setsid sleep 1000 & exit 3",
    "that are stopped": "setsid sh -c 'kill -STOP $$' & exit 3",
    "killed with it": "setsid sleep 1000 & kill -KILL $$",
}


@pytest.mark.parametrize("name", STRAYS)
def test_strays_are_ended(name: str, house: House) -> None:
    """Right after the start too, when they have not come far yet."""
    for _ in range(5):
        client = house.sh(f"exec >&-; {STRAYS[name]}")
        turn_until(house.loop, lambda client=client: client.status is not None)  # type: ignore[misc]
        assert client.status == (-9 if name == "killed with it" else 3)
    house.alone()
    assert not [each for each in processes() if each.parent == os.getpid()]


def test_a_stray_that_flees_from_generation_to_generation(house: House) -> None:
    """Each starts the next and ends, so that most looks see a zombie."""
    for number in range(3):
        flee = 'sleep 0.02; setsid sh -c "$PLAY" &'
        house.sh(flee, f"session-{number}")
    turn_until(house.loop, lambda: all(c.status is not None for c in house.clients))
    house.alone()


def test_strays_of_living_sessions_are_left_alone(house: House) -> None:
    living = house.sh("setsid -f sleep 1000; echo up; exec cat", "living")
    turn_until(house.loop, lambda: living.said == b"up\n")
    house.told(house.sh("exit", "ended"))
    house.passes(3 * child.SWEEPS)
    strays = [pid for pid in children.listing() if pid != living.pid]
    assert len(strays) == 1
    living.close()
    house.alone()


def test_who_hides_is_looked_for_no_longer_than_needed(house: House) -> None:
    """Without its variable, in its own session, it is the cgroup's to end."""
    house.told(house.sh("exec >&-; env -i setsid sleep 1000 & exit"))
    starter = house.clients[-1].starter
    turn_until(house.loop, lambda: not starter._ended)
    assert len(children.listing()) == 1
    children.end_all()
    house.passes(0.1)


def test_nothing_is_looked_for_where_nothing_is_left(house: House) -> None:
    client = house.sh("exit")
    house.told(client)
    turn_until(house.loop, lambda: not client.starter._ended)
    assert house.loop.now - client.starter.deadline < child.MEMORY


def test_a_stray_in_the_midst_of_execve_is_found_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no environment for some microseconds."""
    client = house.sh("setsid sh -c 'echo up; exec sleep 1000' & read go")
    turn_until(house.loop, lambda: client.said == b"up\n")
    variable, looks = children.variable, []

    def blank_at_first(pid: int, name: bytes) -> bytes:
        looks.append(pid)
        return b"" if len(looks) < 3 else variable(pid, name)

    monkeypatch.setattr(children, "variable", blank_at_first)
    client.close()
    turn_until(house.loop, lambda: client.status is not None)
    house.alone()
    assert len(looks) >= 3


def test_a_shortage_of_descriptors_only_delays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, looks = children.listing, []

    def starve_at_first() -> list[int]:
        looks.append(1)
        if len(looks) < 3:
            raise OSError(24, "Too many open files")
        return listing()

    house.sh("exec >&-; sleep 1000 & exit")
    with monkeypatch.context() as patch:
        patch.setattr(children, "listing", starve_at_first)
        turn_until(house.loop, lambda: len(looks) >= 3)
    house.alone()


def test_a_number_that_is_somebody_elses_group_is_spared(house: House) -> None:
    """No child of ours is in it: then it may have been given away again."""
    killed: list[int] = []
    client = house.sh("exit", "one")
    house.told(client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "kill_group", killed.append)
        client.starter.finish(os.getppid(), "two", survivors=True)
        turn_until(house.loop, lambda: not client.starter._ended)
    assert killed == []


def test_a_number_that_was_given_away_again_is_spared(house: House) -> None:
    """To an application that lives, or to one of which only strays do."""
    living = house.sh("(sleep 1000 &); echo up; exec cat", "living")
    turn_until(house.loop, lambda: living.said == b"up\n")
    lingering = house.sh("echo up; exec >&-; (sleep 1000 &)", "lingering")
    lingering.finish = lambda: None  # type: ignore[method-assign]
    turn_until(house.loop, lambda: lingering.status is not None)
    before = children.listing()
    assert len(before) == 3
    for client in (living, lingering):
        client.starter.finish(client.pid, "another", survivors=True)
        turn_until(house.loop, lambda: not house.player._ended)
    assert children.listing() == before
    house.player.finish(lingering.pid, "lingering", survivors=True)
    turn_until(house.loop, lambda: len(children.listing()) == 2)
    living.close()
    house.alone()


def test_a_child_that_nobody_asked_for_is_reaped(house: House) -> None:
    house.starter("true")
    os.posix_spawnp("true", ["true"], PATH)
    house.alone()


def test_the_starter_itself_watches_nothing(house: House) -> None:
    starter = house.starter("true")
    starter.on_event(0, 0)
    with pytest.raises(LookupError):
        starter.on_fault(LookupError())
