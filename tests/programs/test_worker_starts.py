"""Tests applications that the workers of a server start themselves.

Processes are really killed: nothing of their sessions is left, and others go on. Tests
wait for events of the kernel or the log. Starts by the zygote are in test_zygote.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chimirror.config import parser
from chimirror.server import capacity
from processes import (
    MARK,
    comm,
    descriptor_limit,
    descriptors,
    ended,
    parent_of,
    until,
)
from serve import Service, running, server
from shell_sessions import (
    SHELL,
    SOON,
    adopts,
    daemon,
    join,
    kill_zygote,
    pid_of,
    suspended,
    told,
)
from websocket_peer import Closed, Peer, stdin, upgrade

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms", "--linger-timeout=100ms")
OBSTINATE = "trap '' TERM HUP PIPE; echo ok"
FILTER = Path(__file__).parents[1] / "support" / "syscall_filter.py"


def one_each(service: Service, stack: ExitStack, *, count: int = 2) -> dict[int, Peer]:
    """Open a session of each worker. Returns them by the worker."""
    peers: dict[int, Peer] = {}
    while len(peers) < count:
        peer = stack.enter_context(join(service))
        peers.setdefault(parent_of(pid_of(peer)), peer)
    return peers


def test_workers_are_the_parents_of_applications(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        with ExitStack() as stack:
            peers = one_each(service, stack)
            assert sorted(peers) == service.workers()
        service.find("exit|close")
        until(lambda: not service.applications(), "nothing is left", SOON)


@pytest.mark.parametrize(("options", "count"), [((), 4), (("--control",), 5)])
def test_workers_keep_none_of_the_pipes(
    options: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    config = parser.parse_server([*options, "--", "sh"])
    assert count <= capacity.room_per_worker(config).per_session
    with server(tmp_path, SHELL, "--workers=1", *options, *GRACES) as service:
        service.await_workers(1)
        (worker,) = service.workers()
        with join(service) as first:
            pid_of(first)
            before = descriptors(worker)
            with join(service) as peer:
                pid_of(peer)
                until(lambda: descriptors(worker) == before + count, "those of one")
            until(lambda: descriptors(worker) == before, "none is left")


def test_the_limit_of_descriptors_is_that_of_the_server(tmp_path: Path) -> None:
    with (
        descriptor_limit(300),
        server(tmp_path, SHELL, *GRACES) as service,
        join(service) as peer,
    ):
        assert told(peer, "ulimit -Sn", 4) == b"300\n"


def test_each_application_is_preferred_for_an_oom_kill(tmp_path: Path) -> None:
    """The setting cannot be written in the first part of execve(2).

    The server is not dumpable, so a server of another user than root may write it only
    once the program runs.
    """
    mark = uuid.uuid4().hex
    argv = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m"]
    argv += ["chimirror.server", "--env", f"{MARK}={mark}", "--listen=127.0.0.1:0"]
    with ExitStack() as stack:
        service = stack.enter_context(
            running(tmp_path, [*argv, "--workers=1", "--", "cat"], mark)
        )
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        for _ in range(200):
            peer = stack.enter_context(Peer(service.connect()))
            assert peer.open(framing="stdio").status == 101
        pids = service.applications()
        assert len(pids) == 200
        for pid in pids:
            score = Path(f"/proc/{pid}/oom_score_adj")
            until(lambda: score.read_text() == "1000\n", f"process {pid}")  # noqa: B023 (called at once)


# A worker dies


def test_its_applications_are_stopped_in_order(tmp_path: Path) -> None:
    said = tmp_path / "said"
    options = ("--workers=1", "--kill-grace=20s")
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        trap = f"trap '' PIPE; trap 'echo TERM >{said}; exit' TERM; echo ok"
        trap += "; while :; do sleep 1; done"
        assert told(peer, trap, 3) == b"ok\n"
        os.kill(service.workers()[0], signal.SIGKILL)
        until(lambda: not service.applications(), "it obeys", SOON)
        assert said.read_text() == "TERM\n"


def test_nothing_of_its_sessions_is_left_and_others_go_on(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        with ExitStack() as stack:
            (victim, lost), (_, other) = one_each(service, stack).items()
            assert told(lost, OBSTINATE, 3) == b"ok\n"
            dying = [pid_of(lost), daemon(service, lost, service.pid)]
            # the environment and the session are cleared
            assert told(lost, "env -i sleep 1000 >&- & echo ok", 3) == b"ok\n"
            left = [pid_of(other), daemon(service, other, service.pid)]
            os.kill(victim, signal.SIGKILL)
            for pid in dying:
                assert ended(pid, SOON)
            service.find(rf"worker \d \(pid {victim}\) ended: signal KILL")
            assert not [pid for pid in left if ended(pid, 0)]
            assert pid_of(other) == left[0]
        until(lambda: not service.applications(), "nothing is left", SOON)
        join(service).close()


def test_an_application_that_has_ended_before_leaves_nothing(tmp_path: Path) -> None:
    """A stopped worker reaps nothing."""
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (worker,) = service.workers()
        with join(service) as peer:
            pid, stray = pid_of(peer), daemon(service, peer, service.pid)
            with suspended(worker):
                os.kill(pid, signal.SIGKILL)
                until(lambda: comm(pid) in ("", "bash"), "it has ended")
                os.kill(worker, signal.SIGKILL)
                assert ended(stray, SOON)
        join(service).close()


def test_workers_that_die_at_any_time(tmp_path: Path) -> None:
    """With starts in progress, too. Every process of each session ends."""
    choose = random.Random(1)
    with server(tmp_path, SHELL, "--workers=4", *GRACES) as service:
        for _ in range(8):
            peers = []
            for _ in range(8):
                peer = Peer(service.connect())
                peer.send_raw(upgrade("/", "stdio", ()))
                peers.append(peer)
            until(lambda: len(service.workers()) == 4, "all workers")
            victim = choose.choice(service.workers())
            os.kill(victim, signal.SIGKILL)
            service.find(rf"worker \d \(pid {victim}\) ended: signal KILL")
            for peer in peers:
                peer.close()
        until(lambda: not service.applications(), "nothing is left", SOON)
        join(service).close()


# The zygote or the supervisor dies


def test_the_death_of_the_zygote_affects_no_session(tmp_path: Path) -> None:
    """The purge of orphans spares what sessions of living workers have left behind."""
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        with ExitStack() as stack:
            peers = [*one_each(service, stack).values()]
            pids = [pid_of(peer) for peer in peers]
            strays = [daemon(service, peer, service.pid) for peer in peers]
            assert told(peers[0], "export CHIMIRROR_SESSION=no; echo ok", 3) == b"ok\n"
            purged = daemon(service, peers[0], service.pid)
            kill_zygote(service)
            assert ended(purged, SOON)
            assert [pid_of(peer) for peer in peers] == pids
            assert not [pid for pid in strays if ended(pid, 0)]
        until(lambda: not service.applications(), "nothing is left", SOON)


def test_without_supervisor_the_worker_ends_strays(tmp_path: Path) -> None:
    options = ("--drain-timeout=1h", "--workers=1", *GRACES)
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        worker = parent_of(pid_of(peer))
        service.kill_supervisor()
        until(lambda: adopts(worker, daemon(service, peer)), "it adopts", SOON)
        peer.send(stdin(b"exit\n"))
        until(lambda: not service.applications(), "nothing is left", SOON)


def test_without_supervisor_the_worker_finds_what_it_had_adopted(
    tmp_path: Path,
) -> None:
    options = ("--drain-timeout=1h", *GRACES)
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        with join(service) as other:
            stray, left = daemon(service, peer), daemon(service, other)
            service.kill_supervisor()
            peer.send(stdin(b"exit\n"))
            assert ended(stray, SOON)
            assert not ended(left, 0)
        assert ended(left, SOON)


def test_without_supervisor_obstinate_applications_end(tmp_path: Path) -> None:
    options = ("--drain-timeout=0", *GRACES)
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        assert told(peer, OBSTINATE, 3) == b"ok\n"
        service.kill_supervisor()
        assert peer.transcript().closed == Closed(1001, "drain")
        until(lambda: not service.applications(), "nothing is left", SOON)


# A start that hangs


@contextmanager
def hanging(directory: Path, *options: str) -> Iterator[Service]:
    """Run a server in which no application can enter its directory."""
    mark = uuid.uuid4().hex
    timeouts = "guard.timeout, guard.interval = 2, 0.2"
    guard = "from chimirror.server.start_guard import WorkerGuard as guard"
    script = f"from chimirror.server import main\n{guard}\n{timeouts}\nmain.main()"
    python = [sys.executable, "-P"]
    argv = [*python, str(FILTER), "hang", *python, "-c", script]
    argv += ["--env", f"{MARK}={mark}", "--listen=127.0.0.1:0", *options]
    with running(directory, argv, mark) as service:
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        yield service


def test_a_start_that_hangs_fails_and_sessions_live(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    for name, directory in (("good", ""), ("stuck", 'directory = "/tmp"')):
        text = f"command = {json.dumps(SHELL)}\n{directory}\n"
        (apps / f"{name}.toml").write_text(text)
    with hanging(tmp_path, "--workers=1", "--apps", str(apps)) as service:
        with Peer(service.connect()) as peer, Peer(service.connect()) as other:
            assert peer.open("/good", framing="stdio").status == 101
            assert peer.message()["type"] == "session"
            assert peer.output(3) == b"up\n"
            pid = pid_of(peer)
            other.send_raw(upgrade("/stuck", "stdio", ()))
            service.find("killed an application of worker 0 .*: its start has hung")
            assert other.refusal().status == 500
            assert pid_of(peer) == pid
        assert not [one for one in service.applications() if comm(one) != "bash"]
