"""Kills processes of servers at random, while sessions start, run and end.

Afterwards no process, zombie or descriptor is left, and each session is recorded.
The output has the seed. A server lives until its supervisor or its guardian is killed,
and then the next one is started. Most applications have spares, which are killed, too.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from chimirror.log.records import SESSION_ENDED, SESSION_STARTED
from chimirror.process.children import become_subreaper, next_ended
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.session import session_secret
from loops import subreaper
from processes import descendants, descriptors, ended, name_of, read, until
from serve import Service, ServiceFactory, pure_server, server
from websocket_peer import Peer, upgrade

COUNT, FULL_COUNT = 240, 10_000  # sessions
BATCH, FULL_BATCH = 10, 40  # sessions that are open at the same time
KILLS = 5  # in each life of a server, without the last one
WORKERS = 2
SOON = 200.0
OPTIONS = (
    f"--workers={WORKERS}",
    "--drain-timeout=0",
    "--stop-grace=50ms",
    "--kill-grace=100ms",
    "--linger-timeout=100ms",
)
APPLICATIONS = {
    "obedient": "exec cat",
    "ignores": "trap '' TERM HUP INT PIPE; exec sleep 1000",
    "daemon": "(setsid sleep 1000 >/dev/null 2>&1 &); exec cat",
    "hides": "(env -i setsid sleep 1000 >/dev/null 2>&1 &); exec cat",
    "exits": "exit 3",
}
SPARED = ("obedient", "ignores", "daemon", "hides")  # those that have spares
SPARES = WORKERS * len(SPARED)
SESSION = SESSION_VARIABLE.encode()


def write_applications(directory: Path) -> Path:
    """Write a file for each application. Returns their directory."""
    apps = directory / "apps"
    apps.mkdir()
    for name, play in APPLICATIONS.items():
        command = f"command = {json.dumps(['sh', '-c', play])}\n"
        spares = f"spares = {WORKERS}\n" if name in SPARED else ""
        (apps / f"{name}.toml").write_text(command + spares)
    return apps


def spares(service: Service) -> list[int]:
    """Return the applications that were started without a client.

    Some of them may have one meanwhile. A daemon leads a session, a spare does not.
    """
    return [pid for pid in service.applications() if is_spare(pid)]


def is_spare(pid: int) -> bool:
    try:
        is_leader = os.getpgid(pid) == pid != os.getsid(pid)
    except ProcessLookupError:
        return False
    environ = read(f"/proc/{pid}/environ").split(b"\0")
    names = {variable.partition(b"=")[0] for variable in environ}
    return is_leader and SESSION in names and b"REMOTE_ADDR" not in names


# A victim of each kind, if there is one.
VICTIMS: dict[str, Callable[[Service], list[int]]] = {
    "worker": Service.workers,
    "zygote": Service.zygotes,
    "supervisor": lambda service: [service.pid],
    "guardian": lambda service: [service.process.pid],
    "spare": spares,
}
LAST = ("supervisor", "guardian")
OFTEN = ("worker", "worker", "worker", "zygote", "spare", "spare")


class Life:
    """One server, from its start to the kill of its supervisor or guardian.

    Args:
        service: the server.
        choose: source of all decisions.
        batch: number of sessions that are open at the same time.
    """

    def __init__(self, service: Service, choose: random.Random, batch: int) -> None:
        self.service = service
        self.choose = choose
        self.batch = batch
        self.told: dict[str, int] = {}  # sessions of greeted clients, and their workers
        self.killed: list[tuple[str, int]] = []
        self.numbers: set[int] = set()  # of the workers that were killed

    def run(self) -> None:
        """Open sessions and kill processes. The last kill is that of the server."""
        self.service.await_workers(WORKERS)
        until(self.is_complete, "all spares", SOON)
        before = self.descriptors()
        for kind in self.choose.sample(OFTEN, KILLS):  # a spare in any case
            self.open_and_kill(kind)
        until(self.is_complete, "all processes of the server", SOON)
        until(lambda: self.descriptors() <= before, f"{before} descriptors", SOON)
        until(lambda: not self.zombies(), "no zombie is left", SOON)
        self.open_and_kill(self.choose.choice(LAST))

    def open_and_kill(self, kind: str) -> None:
        with ExitStack() as stack:
            peers = [stack.enter_context(self.ask()) for _ in range(self.batch)]
            for peer in self.choose.sample(peers, self.choose.randrange(self.batch)):
                self.greet(peer)
            victims = VICTIMS[kind](self.service)
            if kind == "spare" and not victims:  # all are taken
                until(lambda: spares(self.service), "another spare", SOON)
                victims = spares(self.service)
            if victims:
                self.kill(kind, self.choose.choice(victims))

    def ask(self) -> Peer:
        name = self.choose.choice([*APPLICATIONS])
        peer = Peer(self.service.connect())
        peer.send_raw(upgrade(f"/{name}", "stdio", ()))
        return peer

    def greet(self, peer: Peer) -> None:
        """Read the first message of a session."""
        assert peer.head().status == 101
        hello = peer.message()
        number = session_secret.worker_number(hello["secret"])
        self.told[hello["id"]] = number

    def kill(self, kind: str, pid: int) -> None:
        if kind == "worker":
            self.numbers.add(int(name_of(pid).rpartition(" ")[2]))
        self.killed.append((kind, pid))
        with suppress(ProcessLookupError):  # an application whose client has gone
            os.kill(pid, signal.SIGKILL)
        assert ended(pid, SOON)

    def descriptors(self) -> int:
        """Return the number of descriptors of the server's own processes."""
        pids = [self.service.pid, *self.service.workers(), *self.service.zygotes()]
        return sum(map(descriptors, pids))

    def is_complete(self) -> bool:
        """Return True once all processes that were killed are replaced."""
        counts = len(self.service.workers()), len(self.service.zygotes())
        return counts == (WORKERS, 1) and len(spares(self.service)) == SPARES

    def zombies(self) -> list[int]:
        every = descendants(self.service.process.pid)
        return [one.pid for one in every if one.state == "Z"]

    def await_end(self) -> None:
        """Wait until none of its processes is left. This process adopts the rest."""
        self.service.process.wait(SOON)

        def is_over() -> bool:
            while next_ended():
                pass
            return not descendants(os.getpid())

        until(is_over, f"no process after {self.killed}", SOON)

    def check_records(self) -> int:
        """Check the records of all sessions. Returns the number of lost ones.

        A killed worker records no ends. The supervisor has recorded its death instead.
        Records are written at the end of a turn. So a worker that is killed in the turn
        of a start has not recorded it.
        """
        records = [*map(json.loads, self.service.log.read_text().splitlines())]
        by_kind = {
            kind: [
                one["CHIMIRROR_SESSION"]
                for one in records
                if one.get("MESSAGE_ID") == kind
            ]
            for kind in (SESSION_STARTED, SESSION_ENDED)
        }
        started, over = map(set, by_kind.values())
        assert [len(started), len(over)] == [*map(len, by_kind.values())]
        assert over <= started
        lost = (started | self.told.keys()) - over
        assert {self.told[one] for one in lost & self.told.keys()} <= self.numbers
        assert self.numbers or not lost
        said = "\n".join(one["MESSAGE"] for one in records)
        for kind, pid in self.killed:
            if kind == "worker":
                assert f"(pid {pid}) ended: signal KILL" in said
        return len(lost)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("serve", [server, pure_server])
def test_nothing_is_left(serve: ServiceFactory, tmp_path: Path, *, full: bool) -> None:
    """Applications are started by the workers, or by the zygote."""
    seed = random.randrange(1 << 32) if full else 1
    print(f"seed {seed}")
    choose = random.Random(seed)
    count, batch = (FULL_COUNT // 2, FULL_BATCH) if full else (COUNT // 2, BATCH)
    opened, lost, killed = 0, 0, Counter[str]()
    with subreaper():
        become_subreaper()
        for number in itertools.count():
            directory = tmp_path / str(number)
            directory.mkdir()
            apps = f"--apps={write_applications(directory)}"
            with serve(directory, [], apps, *OPTIONS) as service:
                life = Life(service, choose, batch)
                life.run()
                life.await_end()
                lost += life.check_records()
            opened += batch * (KILLS + 1)
            killed.update(kind for kind, _ in life.killed)
            if opened >= count:
                break
    print(f"{opened} sessions, {lost} lost with their workers; killed {dict(killed)}")
