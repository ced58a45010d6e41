"""Tests the zygote of a server: sessions go on when it dies, and nothing is left.

The server has no C extension, so the zygote starts all applications. Real processes are
really killed. Tests wait for events of the kernel or the log. The program
chimirror-zygote is tested in test_zygote_program.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from json_log import messages
from processes import descriptor_limit, descriptors, ended, parent_of, until
from serve import ROOT, Service
from serve import pure_server as server
from shell_sessions import (
    AWAIT_USR1,
    SHELL,
    adopts,
    ask,
    daemon,
    join,
    kill_zygote,
    pid_of,
    suspended,
    told,
)
from websocket_peer import Closed, Peer, stdin

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms", "--linger-timeout=100ms")
SOON = 200.0


def test_it_is_the_parent_of_applications_and_holds_few_descriptors(
    tmp_path: Path,
) -> None:
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        (zygote,) = service.zygotes()
        peers = [join(service) for _ in range(10)]
        assert {parent_of(pid_of(peer)) for peer in peers} == {zygote}
        # an application answers before the zygote has closed its ends of the pipes
        until(lambda: descriptors(zygote) < 16, "the zygote keeps none of the pipes")
        for peer in peers:
            peer.close()


def test_an_application_gets_the_limit_of_descriptors_that_we_were_given(
    tmp_path: Path,
) -> None:
    with (
        descriptor_limit(300),
        server(tmp_path, SHELL, *GRACES) as service,
        join(service) as peer,
    ):
        assert told(peer, "ulimit -Sn", 4) == b"300\n"


# The zygote dies


def test_sessions_outlive_it(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        peers = [join(service) for _ in range(6)]
        for number, peer in enumerate(peers):
            if number % 3 == 0:
                kill_zygote(service)
            assert parent_of(pid_of(peer)) in (service.pid, *service.zygotes())
        for number, peer in enumerate(peers):
            peer.send(stdin(f"exit {number}\n".encode()))
            assert peer.transcript().messages[-1] == {"type": "exit", "code": number}
            peer.close()
        join(service).close()


def test_end_before_the_claim_is_reported(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (worker,) = service.workers()
        with join(service) as first, join(service) as second:
            one, two = pid_of(first), pid_of(second)
            with suspended(worker):
                victim = kill_zygote(service)
                until(lambda: parent_of(one) == service.pid, "it is adopted")
                os.kill(one, signal.SIGTERM)
                assert ended(one, SOON)
                until(lambda: not os.path.exists(f"/proc/{one}"), "it is reaped")
            assert first.transcript().messages[-1] == {"type": "exit", "signal": "TERM"}
            assert parent_of(two) == service.pid != victim
            assert pid_of(second) == two


def test_adopted_applications_are_signalled_and_stopped(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
        obstinate = join(service)
        pid = pid_of(obstinate)
        assert told(obstinate, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
        assert told(peer, AWAIT_USR1, 3) == b"ok\n"
        kill_zygote(service)
        peer.send({"type": "signal", "name": "USR1"})
        assert peer.output(6) == b"heard\n"
        obstinate.close()
        assert ended(pid, SOON)
        peer.send({"type": "signal", "name": "KILL"})
        assert peer.transcript().closed == Closed(1011, "signal KILL")


def test_what_an_adopted_application_leaves_behind_ends(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
        daemon = told(peer, "setsid -f sleep 1000 >&-; echo ok", 3)
        assert daemon == b"ok\n"
        kill_zygote(service)
        alive = "a daemon of a session lives with it"
        until(lambda: len(service.applications()) == 2, alive)
        assert told(peer, "setsid -f sleep 1000 >&-; echo ok", 3) == b"ok\n"
        peer.send(stdin(b"sleep 1000 >&- & exit\n"))
        assert peer.transcript().closed == Closed(1000, "exit 0")
        until(lambda: not service.applications(), "nothing of it is left", SOON)


def test_a_start_that_was_not_answered_is_asked_again(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (zygote,) = service.zygotes()
        # more than can be in flight
        peers = [Peer(service.connect()) for _ in range(20)]
        with suspended(zygote):
            for peer in peers:
                ask(peer)
            assert join_waits(service)
            os.kill(zygote, signal.SIGKILL)
        for peer in peers:
            assert peer.head().status == 101
            assert peer.output(3) == b"up\n"
            peer.close()
        until(lambda: not service.applications(), "nothing is left", SOON)


def join_waits(service: Service) -> bool:
    """A request that comes now is not answered for a while."""
    with Peer(service.connect()) as peer:
        ask(peer)
        peer.socket.settimeout(0.2)
        try:
            peer.socket.recv(1)
        except TimeoutError:
            return True
    return False


def test_unclaimed_applications_are_killed(tmp_path: Path) -> None:
    """The worker of the session is dead, too."""
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (zygote,), (worker,) = service.zygotes(), service.workers()
        with join(service) as peer, suspended(service.pid):
            assert told(peer, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
            os.kill(worker, signal.SIGKILL)
            os.kill(zygote, signal.SIGKILL)
        until(lambda: not service.applications(), "nothing is left", SOON)
        join(service).close()


HOPELESS = """
from chimirror.server import main, zygote, zygote_manager
zygote_manager.MIN_LIFETIME, zygote_manager.RESTART_DELAY = 1000, 0.01
def fail(zygote): raise ValueError("a bug")
zygote.Zygote.serve = fail
main.main()
"""


def test_it_is_given_up_when_it_cannot_run() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", HOPELESS, "--listen=127.0.0.1:0", "cat"],
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == os.EX_SOFTWARE
    assert messages(done.stderr).count("internal error: ValueError: a bug") == 6
    assert "the zygote cannot run; giving up" in done.stderr


def test_zygote_without_free_descriptors_is_replaced(tmp_path: Path) -> None:
    """Without this, the worker of the link would wait forever."""
    with server(tmp_path, SHELL, *GRACES, "--workers=1") as service:
        with join(service):
            (zygote,) = service.zygotes()
        service.await_ends(1)
        hard = resource.prlimit(zygote, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(zygote, resource.RLIMIT_NOFILE, (3, hard))
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        service.find(rf"the zygote \(pid {zygote}\) ended: exit 70")
        join(service).close()


# Other processes die


def test_a_dead_workers_applications_are_stopped_in_order(tmp_path: Path) -> None:
    said = tmp_path / "said"
    options = ("--workers=1", "--kill-grace=20s")
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        trap = f"trap '' PIPE; trap 'echo TERM >{said}; exit' TERM; echo ok"
        trap += "; while :; do sleep 1; done"
        assert told(peer, trap, 3) == b"ok\n"
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: not service.applications(), "it obeys", SOON)
        assert said.read_text() == "TERM\n"


def test_a_dead_workers_adopted_applications_end(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (worker,) = service.workers()
        with join(service) as peer:
            assert told(peer, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
            pid = pid_of(peer)
            kill_zygote(service)
            assert pid_of(peer) == pid
            os.kill(worker, signal.SIGKILL)
            assert ended(pid, SOON)
        join(service).close()


def test_without_supervisor_and_zygote_workers_end(tmp_path: Path) -> None:
    """The guardian ends the applications."""
    with server(tmp_path, SHELL, "--drain-timeout=0", *GRACES) as service:
        with join(service) as peer:
            (zygote,) = service.zygotes()
            os.kill(service.pid, signal.SIGSTOP)
            os.kill(zygote, signal.SIGKILL)
            service.kill_supervisor()
            assert peer.transcript().closed is not None
        service.process.wait()
        until(lambda: not service.serving(), "all have ended", SOON)


def test_a_second_term_after_its_death_ends_at_once(tmp_path: Path) -> None:
    options = ("--drain-timeout=1h", "--stop-grace=1h", "--kill-grace=1h")
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        assert told(peer, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
        pid = pid_of(peer)
        kill_zygote(service)
        assert pid_of(peer) == pid
        service.process.terminate()
        until(service.refuses, "it drains")
        service.process.terminate()
        assert service.process.wait(SOON) == 0
        assert ended(pid, 0)


# Processes that sessions leave behind


def test_the_supervisor_adopts_and_ends_it(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
        pid = daemon(service, peer)
        assert parent_of(pid) == service.pid
        peer.send(stdin(b"exit\n"))
        assert ended(pid, SOON)


def test_a_successors_session_keeps_it_when_others_are_purged(tmp_path: Path) -> None:
    """Until all claims are made, no unclaimed process is killed as an orphan."""
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        (zygote,) = service.zygotes()
        with ExitStack() as stack:
            with suspended(service.workers()[0]):  # a stopped worker claims nothing
                before = stack.enter_context(join(service))
                told(before, "export CHIMIRROR_SESSION=nobodys; echo ok", 3)
                nobodys = daemon(service, before)
                os.kill(zygote, signal.SIGKILL)
                service.find(rf"the zygote \(pid {zygote}\) ended: signal KILL")
                late = daemon(service, stack.enter_context(join(service)))
                assert not ended(nobodys, 0)
            assert ended(nobodys, SOON), "it is purged"
            assert pid_of(before) in service.applications()
            assert not ended(late, 0)


def test_without_supervisor_the_zygote_ends_it(tmp_path: Path) -> None:
    options = ("--drain-timeout=1h", *GRACES)
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        (zygote,) = service.zygotes()
        service.kill_supervisor()
        until(lambda: adopts(zygote, daemon(service, peer)), "it adopts", SOON)
        peer.send(stdin(b"exit\n"))
        until(lambda: not service.applications(), "nothing is left", SOON)


def test_without_supervisor_the_zygote_finds_what_it_had_adopted(
    tmp_path: Path,
) -> None:
    options = ("--drain-timeout=1h", *GRACES)
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        stray = daemon(service, peer)
        service.kill_supervisor()
        peer.send(stdin(b"exit\n"))
        assert ended(stray, SOON)
