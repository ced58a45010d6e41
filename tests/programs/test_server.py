"""Tests chimirror-server as a program: listeners, workers, limits, signals, deaths.

Processes and sockets are real. A single worker is tested in
tests/unit/server/test_worker.py, leftovers of sessions in test_teardown.
"""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import chimirror
from chimirror.config import parser
from chimirror.io import listener
from chimirror.server import main as program
from chimirror.server.supervisor import Supervisor
from chimirror.server.worker_process import WorkerProcess
from json_log import messages
from processes import (
    MARK,
    descendants,
    ended,
    listening,
    marked,
    name_of,
    until,
)
from serve import (
    LAUNCH,
    ROOT,
    Service,
    argv_of,
    pure_package,
    reserved,
    running,
    server,
    server_unix,
)
from session_harness import RecordingEventLog
from websocket_peer import NO_CLOSE, Closed, Peer, upgrade

CAT = ["sh", "-c", "echo up; exec cat"]
GRACES = ("--stop-grace=50ms", "--kill-grace=100ms")
SOON = 200.0  # seconds
SERVER = [sys.executable, "-P", "-m", "chimirror.server.main"]
ENVIRONMENT = os.environ | {"PYTHONPATH": ROOT}


def join(service: Service) -> Peer:
    peer = Peer(service.connect())
    assert peer.open().status == 101
    assert peer.output(3) == b"up\n"
    return peer


def status_of(service: Service) -> int:
    with Peer(service.connect()) as peer:
        peer.send_raw(upgrade("/", "json", ()))
        return peer.head().status


def notes(service: Service, priority: int = 4) -> list[str]:
    """Return the messages of at least this priority."""
    told = [json.loads(line) for line in service.log.read_text().splitlines()]
    return [one["MESSAGE"] for one in told if int(one["PRIORITY"]) <= priority]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*SERVER, *arguments]
    return subprocess.run(argv, capture_output=True, env=ENVIRONMENT, text=True)


# The command line and the listeners


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 64, "no COMMAND"),
        (("--workers=0", "cat"), 64, "--workers"),
        (("--listen=nowhere", "cat"), 64, "write nowhere:30747\nUsage: "),
        (("--listen=127.0.0.1:abc", "cat"), 64, '"abc" is no port'),
        (("--listen=unix:", "cat"), 64, "write unix:/run/NAME.sock"),
        (("--listen=192.0.2.1:1", "cat"), 69, "192.0.2.1"),
        (("--listen=unix:/nonexistent/socket", "cat"), 69, "/nonexistent"),
        (("--listen=127.0.0.1:0", "--directory=/nonexistent", "cat"), 69, "/nonexist"),
        (("--listen=127.0.0.1:0", "nosuchprogram"), 69, 'no program "nosuchprogram"'),
        (("--listen=127.0.0.1:0", "--user=65534", "/root"), 69, "/root: this is a dir"),
    ],
)
def test_what_cannot_be_started(
    arguments: tuple[str, ...], status: int, text: str
) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert text in "\n".join(messages(done.stderr))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_version_tells_which_process_starts_applications(tmp_path: Path) -> None:
    said = []
    for root in (ROOT, pure_package(tmp_path)):
        argv = [*LAUNCH, "chimirror.server", "--version"]
        environment = os.environ | {"PYTHONPATH": root}
        output = subprocess.check_output(argv, env=environment, text=True)
        said.append(output.splitlines())
    version = f"chimirror-server {chimirror.__version__}"
    obstacle = "the C extension is not installed"
    assert [lines[:2] for lines in said] == [
        [version, "applications are started by the workers"],
        [version, f"applications are started by the zygote: {obstacle}"],
    ]
    cgroups = [lines[2] for lines in said]
    assert cgroups[0] == cgroups[1]
    assert re.match("sessions have (no cgroup: .|a cgroup with --sess)", cgroups[0])


def test_several_listeners(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    options = ("--listen=[::1]:0", f"--listen=unix:{path}", "--workers=2")
    with server(tmp_path, CAT, *options) as service:
        first = service.address
        port = service.find(r"listening on \[::1\]:(\d+)")
        service.find(f"listening on unix:{path}")
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.create_connection(("::1", int(port))) as sixth, Peer(sixth) as peer:
            assert peer.open().status == 101
        for service.address in (first, str(path)):
            join(service).close()
    assert not path.exists()


def test_ipv4_clients_of_a_socket_for_both_families(tmp_path: Path) -> None:
    """A trusted proxy and its client are IPv4 in options, variables, log and limits."""
    options = ("--listen=[::]:0", "--trusted-proxy=::ffff:127.0.0.1")
    command = ["sh", "-c", "echo $REMOTE_ADDR; exec cat"]
    with server(tmp_path, command, *options, "--max-sessions-per-source=1") as service:
        port = int(service.find(r"listening on \[::\]:(\d+)"))
        with socket.create_connection(("127.0.0.1", port)) as link, Peer(link) as first:
            fields = ("X-Forwarded-For: ::ffff:192.0.2.7",)
            assert first.open(fields=fields).status == 101
            assert first.output(10) == b"192.0.2.7\n"
            service.find(r"session \w+ for (192\.0\.2\.7) started")
            with Peer(service.connect()) as second:
                fields = ("X-Forwarded-For: 192.0.2.7",)
                assert second.open(fields=fields).status == 503


def test_the_mode_of_a_socket(tmp_path: Path) -> None:
    with server_unix(tmp_path, CAT, "--socket-mode=0666"):
        assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o666


def test_a_live_socket_is_not_taken_and_a_stale_one_is(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with server_unix(tmp_path, CAT) as service:
        done = run(f"--listen=unix:{path}", "cat")
        assert (done.returncode, "in use" in done.stderr) == (69, True)
        join(service).close()
    path.write_text("somebody's")
    done = run(f"--listen=unix:{path}", "cat")
    assert (done.returncode, "not a socket" in done.stderr) == (69, True)
    assert path.read_text() == "somebody's"


def test_a_socket_from_systemd(tmp_path: Path) -> None:
    mark = tmp_path.name + str(os.getpid())
    with reserved() as port:
        listen = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}"]
        listen += [f"--setenv=PYTHONPATH={ROOT}", f"--setenv={MARK}={mark}"]
        argv = [*listen, *argv_of("server", CAT, ("--workers=2",), mark)]
        with running(tmp_path, argv, mark) as service:
            until(lambda: listening(port), "systemd-socket-activate listens")
            service.address = ("127.0.0.1", port)
            peer = join(service)
            # a worker may serve before the supervisor says so
            service.find(f"listening on 127.0.0.1:{port}")
            peer.send([1])
            assert peer.output(4) == b"[1]\n"
            peer.close()


def test_a_socket_from_systemd_and_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        program = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        argv = [*SERVER, "--listen=127.0.0.1:0", "cat"]
        done = subprocess.run(
            ["sh", "-c", program, "sh", *argv],
            stdin=opened.fileno(),
            capture_output=True,
            env=ENVIRONMENT,
            text=True,
        )
    assert (done.returncode, "--listen" in done.stderr) == (69, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root is warned")
@pytest.mark.parametrize(("address", "warned"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_root_is_warned(tmp_path: Path, address: str, *, warned: int) -> None:
    with server(tmp_path, CAT, listen=f"{address}:0") as service:
        service.address = ("127.0.0.1", int(service.find(r"listening on \S+:(\d+)")))
        join(service).close()
    assert service.log.read_text().count("warning: root serves") == warned


# Limits


def at_once(service: Service, count: int) -> list[Peer]:
    """Open `count` connections and send all requests at once."""
    peers = [Peer(service.connect()) for _ in range(count)]
    barrier = threading.Barrier(count)

    def ask(peer: Peer) -> None:
        barrier.wait()
        peer.send_raw(upgrade("/", "json", ()))

    threads = [threading.Thread(target=ask, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return peers


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("--max-sessions=5", "all sessions are taken"),
        ("--max-sessions-per-source=5", "all sessions of this address are taken"),
        ("--max-rate=5/h", "too many new sessions just now"),
    ],
)
def test_limits_are_exact_over_all_workers(
    tmp_path: Path, limit: str, text: str
) -> None:
    with server(tmp_path, CAT, limit, "--workers=2", *GRACES) as service:
        peers = at_once(service, 30)
        replies = [peer.head() for peer in peers]
        statuses = [reply.status for reply in replies]
        admitted = 1 if "rate" in limit else 5
        assert (statuses.count(101), statuses.count(503)) == (admitted, 30 - admitted)
        for peer, reply in zip(peers, replies, strict=True):
            if reply.status == 503:
                assert int(reply.fields["retry-after"]) >= 1
                assert peer.stream.read().decode() == f"{text}; try again later\n"
            peer.close()
        if "rate" in limit:
            return
        service.await_ends(admitted)
        assert status_of(service) == 101


@contextmanager
def cramped(directory: Path, soft: int, *options: str) -> Iterator[Service]:
    """A server with a limit on descriptors."""
    wrapper = directory / "cramped"
    wrapper.write_text(f'#!/bin/sh\nulimit -n {soft}\nexec "$@"\n')
    wrapper.chmod(0o755)
    mark = f"{directory.name}-{os.getpid()}"
    argv = argv_of("server", CAT, ("--listen=127.0.0.1:0", *options), mark)
    with running(directory, [str(wrapper), *argv], mark) as service:
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        yield service


def test_few_descriptors(tmp_path: Path) -> None:
    """Clients beyond the limit are rejected, and the server goes on serving."""
    with cramped(tmp_path, 128, "--workers=1", *GRACES) as service, ExitStack() as all_:
        served = 0
        for turn in range(1, 4):
            peers = []
            for _ in range(40):
                peers.append(all_.enter_context(Peer(service.connect())))
                peers[-1].send_raw(upgrade("/", "json", ()))
            while peers:
                ready = select.select([peer.socket for peer in peers], [], [], 30)[0]
                assert ready, "a client waits for ever"
                for peer in [peer for peer in peers if peer.socket in ready]:
                    served += peer.head().status == 101
                    peer.close()
                    peers.remove(peer)
            assert served >= 5 * turn
            service.await_ends(served)
        join(service).close()


def test_no_descriptors_at_all(tmp_path: Path) -> None:
    """accept(2) fails until a session ends, and then works again."""
    with server(tmp_path, CAT, "--workers=1", *GRACES) as service:
        (worker,) = service.workers()
        first = join(service)
        soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (4, hard))
        with Peer(service.connect()) as peer:
            peer.send_raw(upgrade("/", "json", ()))
            service.find("cannot accept connections just now")
            first.send([1])
            assert first.output(4) == b"[1]\n"
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
            assert peer.head().status == 101
        first.close()
        until(lambda: not service.applications(), "all have gone")
        assert service.workers() == [worker]


def test_slow_handshakes_do_not_stop_open_sessions(tmp_path: Path) -> None:
    options = ("--workers=1", "--handshake-timeout=1")
    with server(tmp_path, CAT, *options) as service, ExitStack() as all_:
        inside = all_.enter_context(join(service))
        for _ in range(600):
            peer = all_.enter_context(Peer(service.connect()))
            peer.send_raw(b"GET / HT")
        for number in range(9):
            inside.send([number])
            assert inside.output(4) == b"[%d]\n" % number
        join(service).close()


# Deaths


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    options = ("--workers=2", "--max-sessions=4", *GRACES)
    with server(tmp_path, CAT, *options) as service, ExitStack() as all_:
        peers = [all_.enter_context(join(service)) for _ in range(4)]
        assert status_of(service) == 503
        pids = service.workers()
        victim = pids[0]
        os.kill(victim, signal.SIGKILL)
        service.find(rf"worker \d \(pid {victim}\) ended: signal KILL")
        until(lambda: len(set(service.workers()) - {victim}) == 2, "a new worker")
        lived = [peer for peer in peers if lives(peer)]
        until(lambda: len(service.applications()) == len(lived), "the others' end")
        again = [join(service) for _ in range(4 - len(lived))]
        assert status_of(service) == 503
        assert len(set(service.workers()) & set(pids)) == 1
        for peer in again:
            peer.close()


def lives(peer: Peer) -> bool:
    peer.send([1])
    try:
        return peer.receive() != Closed(NO_CLOSE, "")
    except ConnectionResetError:
        return False


def test_applications_of_a_dead_worker_end_wherever_they_are(tmp_path: Path) -> None:
    program = "setsid -f sleep 1000; (sleep 1000 &); trap '' TERM; echo up; sleep 1000"
    options = ("--workers=1", *GRACES)
    with server(tmp_path, ["sh", "-c", program], *options) as service:
        with join(service):
            until(lambda: len(service.applications()) >= 4, "all have been started")
            os.kill(service.workers()[0], signal.SIGKILL)
            until(lambda: not service.applications(), "nothing of it is left")
        join(service).close()


def test_without_supervisor_the_workers_end(tmp_path: Path) -> None:
    options = ("--workers=2", "--drain-timeout=200ms", *GRACES)
    with ExitStack() as all_:
        service = all_.enter_context(orphaned(tmp_path, *options))
        peers = [all_.enter_context(join(service)) for _ in range(4)]
        pids = service.workers()
        service.kill_supervisor()
        for peer in peers:
            assert peer.transcript().closed == Closed(1001, "drain")
            peer.close()
        assert all(ended(pid, SOON) for pid in pids)
        until(lambda: not marked(service.mark), "the zygote ends, too")


@contextmanager
def orphaned(directory: Path, *options: str) -> Iterator[Service]:
    """A server whose supervisor may be killed."""
    try:
        with server(directory, CAT, *options) as service:
            yield service
    finally:
        service.process.wait(30)


def test_a_supervisor_that_dies_leaves_nothing_of_obstinate_applications(
    tmp_path: Path,
) -> None:
    program = ["sh", "-c", "trap '' TERM HUP INT; echo up; while :; do sleep 1; done"]
    options = ("--workers=1", "--drain-timeout=0", *GRACES)
    with server(tmp_path, program, *options) as service, join(service):
        service.kill_supervisor()
        service.process.wait()
        until(lambda: not marked(service.mark), "no process")


CRASHING = """
import sys
from chimirror.server import main, supervisor, worker_main
supervisor.MIN_LIFETIME = 1000
def replace_soon(self, number):
    self._delayed_workers.append(number)
    self._loop.set_timer(self, self._loop.now)
supervisor.Supervisor._replace_soon = replace_soon
def fail(*args): raise ValueError("a bug")
worker_main.run = fail
main.main()
"""


def test_workers_that_cannot_run_are_given_up() -> None:
    argv = [sys.executable, "-c", CRASHING, "--workers=1", "--listen=127.0.0.1:0"]
    argv += ["cat"]
    done = subprocess.run(argv, capture_output=True, env=ENVIRONMENT, text=True)
    assert done.returncode == os.EX_SOFTWARE
    assert messages(done.stderr).count("internal error: ValueError: a bug") == 5
    assert "the workers cannot run; giving up" in messages(done.stderr)


FORKLESS = """
import os, sys
from chimirror.server import main, supervisor
supervisor.MIN_LIFETIME = 0.05
fork, left = os.fork, [1, 1, 0, 0, 1]  # the zygote is the first
def scarce():
    if left and not left.pop(0):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = scarce
main.main()
"""


def test_worker_is_replaced_once_fork_succeeds(tmp_path: Path) -> None:
    mark = f"{tmp_path.name}-{os.getpid()}"
    options = ["--env", f"{MARK}={mark}", "--workers=1", "--listen=127.0.0.1:0"]
    argv = [sys.executable, "-c", FORKLESS, *options, "--", *CAT]
    with running(tmp_path, argv, mark) as service:
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        join(service).close()
        (child,) = [
            each.pid for each in descendants(service.pid) if is_worker(each.pid)
        ]
        os.kill(child, signal.SIGKILL)
        service.find("cannot start worker 0: .* unavailable")
        join(service).close()


def is_worker(pid: int) -> bool:
    return "chimirror-server: worker" in name_of(pid)


# Stop


def test_term_waits_for_sessions_to_end_by_themselves(tmp_path: Path) -> None:
    with server_unix(tmp_path, CAT, "--workers=2", *GRACES) as service:
        peers = [join(service) for _ in range(4)]
        service.process.terminate()
        until(service.refuses, "it accepts no more")
        assert not (tmp_path / "socket").exists()
        for peer in peers:
            peer.send([1])
            assert peer.output(4) == b"[1]\n"
            peer.send_close()
            assert peer.transcript().closed == Closed(1000, "")
            peer.close()
        assert service.process.wait(SOON) == 0
        assert notes(service) == []


def test_term_closes_1001_what_lasts(tmp_path: Path) -> None:
    options = ("--drain-timeout=100ms", *GRACES)
    with server(tmp_path, CAT, *options) as service, join(service) as peer:
        service.process.terminate()
        assert peer.transcript().closed == Closed(1001, "drain")
        peer.close()
        assert service.process.wait(SOON) == 0


def test_a_client_that_does_not_read_holds_up_no_drain(tmp_path: Path) -> None:
    """The application has ended and its output waits for a client that never reads."""
    program = ["sh", "-c", "exec head -c 350000 /dev/zero"]
    options = ("--drain-timeout=100ms", *GRACES)
    with ExitStack() as all_:
        service = all_.enter_context(server_unix(tmp_path, program, *options))
        peer = all_.enter_context(Peer(service.connect()))
        assert peer.open().status == 101
        until(lambda: not service.applications(), "its end")
        service.process.terminate()
        assert service.process.wait(SOON) == 0


def test_a_second_term_ends_at_once(tmp_path: Path) -> None:
    program = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
    options = ("--drain-timeout=1h", "--stop-grace=1h", "--workers=2")
    with server(tmp_path, program, *options) as service:
        peers = [join(service) for _ in range(4)]
        service.process.terminate()
        until(service.refuses, "it accepts no more")
        service.process.terminate()
        for peer in peers:
            assert peer.transcript().closed == Closed(1001, "drain")
            peer.close()
        assert service.process.wait(SOON) == 0
        assert marked(service.mark) == []
        assert service.log.read_text().count('"session ') == 8
        assert notes(service, 5) == [
            "draining: 4 sessions, at most 3600 s; again to end them now",
            "ending 4 sessions now",
            "stopped",
        ]


def test_term_to_every_process_is_one_term(tmp_path: Path) -> None:
    """As systemd does it with KillMode=control-group."""
    with server(tmp_path, CAT, "--workers=2", *GRACES) as service:
        with join(service) as peer:
            for pid in (*service.workers(), service.pid):
                os.kill(pid, signal.SIGTERM)
            until(service.refuses, "it accepts no more")
            peer.send([1])
            assert peer.output(4) == b"[1]\n"
            peer.send_close()
            assert peer.transcript().closed == Closed(1000, "")
        assert service.process.wait(SOON) == 0


def test_without_a_successor_clients_are_rejected(tmp_path: Path) -> None:
    with server(tmp_path, CAT, "--workers=2", *GRACES) as service:
        with join(service) as peer:
            os.kill(service.pid, signal.SIGUSR2)
            assert open_status(service) == 101
            service.process.terminate()
            until(lambda: open_status(service) == 503, "it drains")
            peer.send([1])
            assert peer.output(4) == b"[1]\n"
            peer.send_close()
            assert peer.transcript().closed == Closed(1000, "")
        assert service.process.wait(SOON) == 0
        assert notes(service) == []


def open_status(service: Service) -> int:
    with Peer(service.connect()) as peer:
        return peer.open().status


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """SIGINT to the whole foreground process group drains the server."""
    ours, theirs = pty.openpty()
    mark = f"{tmp_path.name}-{os.getpid()}"
    argv = argv_of("server", CAT, ("--listen=127.0.0.1:0", *GRACES), mark)
    program = "import os, sys; os.setsid(); "
    program += "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    program += "os.execvp(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENVIRONMENT,
    )
    os.close(theirs)
    try:
        said = b""
        while not (found := re.search(rb"listening on 127.0.0.1:(\d+)\r", said)):
            said += os.read(ours, 4096)
        with socket.create_connection(("127.0.0.1", int(found[1]))) as client:
            peer = Peer(client)
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
            os.write(ours, b"\x03")
            draining = b"draining: 1 session, at most 30 s; again to end them now\r\n"
            while draining not in said:
                said += os.read(ours, 4096)
            peer.send([1])
            assert peer.output(4) == b"[1]\n"
            peer.send_close()
            assert peer.transcript().closed == Closed(1000, "")
            peer.close()
        assert process.wait(SOON) == 0
        assert marked(mark) == []
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_hang_up_is_survived_where_it_is_ignored(tmp_path: Path) -> None:
    """nohup(1)."""
    mark = f"{tmp_path.name}-{os.getpid()}"
    argv = argv_of("server", CAT, ("--listen=127.0.0.1:0", *GRACES), mark)
    argv = ["env", "--ignore-signal=HUP", *argv]
    with running(tmp_path, argv, mark) as service:
        port = service.find(r"listening on 127.0.0.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        with join(service) as peer:
            os.kill(service.pid, signal.SIGHUP)
            peer.send([1])
            assert peer.output(4) == b"[1]\n"
        join(service).close()


# The supervisor alone


@contextmanager
def supervising(records: RecordingEventLog) -> Iterator[Supervisor]:
    """A supervisor that does not run."""
    config = parser.parse_server(["--workers=2", "--max-sessions=4", "--", "program"])
    supervisor = Supervisor(config, [], cast("Any", records), 1024)
    try:
        yield supervisor
    finally:
        supervisor._loop.close_all()
        supervisor._table.close()
        supervisor._worker_starts.close()
        supervisor._spare_table.close()


def test_a_worker_that_has_lasted_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = RecordingEventLog()
    with supervising(records) as supervisor:
        forked: list[int] = []
        monkeypatch.setattr(supervisor, "_fork", forked.append)
        for since, replaced in ((0, []), (10, [1])):
            born = supervisor._loop.clock() - since
            process = WorkerProcess(1, 4711, born, supervisor.on_worker_exit)
            process.on_exit(-9, survivors=False)
            assert forked == replaced
        assert supervisor._delayed_workers == [1]
        supervisor.on_timer(0)
        assert forked == [1, 1]
    told = "worker 1 (pid 4711) ended: signal KILL"
    assert [note["text"] for note in records.of("note")] == [told, told]


def test_failure_of_a_stopping_worker_is_logged() -> None:
    records = RecordingEventLog()
    with supervising(records) as supervisor:
        supervisor._stop()
        for status in (0, 70):
            process = WorkerProcess(0, 4711, 0, supervisor.on_worker_exit)
            process.on_exit(status, survivors=False)
        assert supervisor._delayed_workers == []
    assert [note["text"] for note in records.of("note")] == [
        "stopping: 0 sessions",
        "worker 0 (pid 4711) ended: exit 70",
    ]


def test_internal_error_ends_the_supervisor() -> None:
    with supervising(RecordingEventLog()) as supervisor, pytest.raises(ValueError):
        supervisor.on_error(ValueError())


def test_sockets_of_systemd_are_used() -> None:
    handed: Any = [object()]
    assert program._open_listeners(parser.parse_server(["cat"]), handed) is handed
    with pytest.raises(listener.ListenError):
        program._open_listeners(
            parser.parse_server(["--listen=127.0.0.1:0", "cat"]), handed
        )
    with pytest.raises(listener.ListenError, match="write BindIPv6Only=ipv6-only in"):
        program._open_listeners(
            parser.parse_server(["--bind-ipv6-only", "cat"]), handed
        )
