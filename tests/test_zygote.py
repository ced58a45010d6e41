"""The server's zygote: it starts, it dies, and sessions go on; nothing is left.

Law: real processes that are killed for real; a test awaits what the kernel or the log
tells. The program chimirror-zygote is in test_zygote_alone.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from launch import ROOT, Service, server
from peers import Closed, Peer, stdin, upgrade
from settling import comm, descriptors, ended, parent_of, read, until

GRACES = ("--stop-grace=50ms", "--kill-grace=100ms", "--linger-timeout=100ms")
SHELL = ["bash", "-c", 'echo up; while read -r line; do eval "$line"; done']
SOON = 10.0


def workers(service: Service) -> list[int]:
    return [pid for pid in service.serving() if pid != service.pid]


def kill_zygote(service: Service) -> int:
    """Ends it, and awaits its successor; the pid that it had."""
    (victim,) = service.zygotes()
    os.kill(victim, signal.SIGKILL)
    service.find(rf"the zygote \(pid {victim}\) ended: signal KILL")
    until(lambda: service.zygotes() not in ([], [victim]), "a successor", SOON)
    return victim


def join(service: Service) -> Peer:
    peer = Peer(service.connect())
    assert peer.open(framing="stdio").status == 101
    assert peer.message()["type"] == "session"
    assert peer.output(3) == b"up\n"
    return peer


def ask(peer: Peer) -> None:
    peer.send_raw(upgrade("/", "json", ()))


def told(peer: Peer, line: str, size: int) -> bytes:
    """What the application's shell answers."""
    peer.send(stdin(f"{line}\n".encode()))
    return peer.output(size)


def pid_of(peer: Peer) -> int:
    return int(told(peer, "printf %08d $$", 8))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """It runs no further for a while."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: b"\nState:\tT" in read(f"/proc/{pid}/status"), "it stops")
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_it_is_the_parent_of_applications_and_holds_few_descriptors(
    tmp_path: Path,
) -> None:
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        (zygote,) = service.zygotes()
        before = descriptors(zygote)
        peers = [join(service) for _ in range(10)]
        assert {parent_of(pid_of(peer)) for peer in peers} == {zygote}
        assert descriptors(zygote) == before < 16
        for peer in peers:
            peer.close()


def test_an_application_gets_the_limit_of_descriptors_that_we_were_given(
    tmp_path: Path,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    try:
        with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
            assert told(peer, "ulimit -Sn", 4) == b"300\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# It dies


def test_sessions_outlive_it(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        peers = [join(service) for _ in range(6)]
        for number, peer in enumerate(peers):
            if number % 3 == 0:
                kill_zygote(service)
            assert parent_of(pid_of(peer)) in (service.pid, *service.zygotes())
        for number, peer in enumerate(peers):
            peer.send(stdin(f"exit {number}\n".encode()))
            assert peer.story().messages[-1] == {"type": "exit", "code": number}
            peer.close()
        join(service).close()


def test_what_ends_before_it_is_claimed_is_told(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (worker,) = workers(service)
        with join(service) as first, join(service) as second:
            one, two = pid_of(first), pid_of(second)
            with stopped(worker):
                victim = kill_zygote(service)
                until(lambda: parent_of(one) == service.pid, "it is adopted")
                os.kill(one, signal.SIGTERM)
                assert ended(one, SOON)
                until(lambda: not os.path.exists(f"/proc/{one}"), "it is reaped")
            assert first.story().messages[-1] == {"type": "exit", "signal": "TERM"}
            assert parent_of(two) == service.pid != victim
            assert pid_of(second) == two


def test_adopted_applications_are_signalled_and_stopped(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
        obstinate = join(service)
        pid = pid_of(obstinate)
        assert told(obstinate, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
        assert told(peer, "trap 'echo heard' USR1; echo ok", 3) == b"ok\n"
        kill_zygote(service)
        peer.send({"type": "signal", "name": "USR1"}, stdin(b"\n"))
        assert peer.output(6) == b"heard\n"
        obstinate.close()
        assert ended(pid, SOON)
        peer.send({"type": "signal", "name": "KILL"})
        assert peer.story().closed == Closed(1011, "signal KILL")


def test_what_an_adopted_application_leaves_behind_ends(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
        daemon = told(peer, "setsid -f sleep 1000 >&-; echo ok", 3)
        assert daemon == b"ok\n"
        kill_zygote(service)
        assert len(service.applications()) == 2, "a daemon of a session lives with it"
        assert told(peer, "setsid -f sleep 1000 >&-; echo ok", 3) == b"ok\n"
        peer.send(stdin(b"sleep 1000 >&- & exit\n"))
        assert peer.story().closed == Closed(1000, "exit 0")
        until(lambda: not service.applications(), "nothing of it is left", SOON)


def test_a_start_that_was_not_answered_is_asked_again(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (zygote,) = service.zygotes()
        peers = [Peer(service.connect()) for _ in range(20)]  # more than in flight
        with stopped(zygote):
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


def test_what_nobody_claims_is_killed(tmp_path: Path) -> None:
    """Its worker is dead, too."""
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (zygote,), (worker,) = service.zygotes(), workers(service)
        with join(service) as peer, stopped(service.pid):
            assert told(peer, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
            os.kill(worker, signal.SIGKILL)
            os.kill(zygote, signal.SIGKILL)
        until(lambda: not service.applications(), "nothing is left", SOON)
        join(service).close()


HOPELESS = """
from chimirror import foster, nursery, server
foster.SOON, foster.PAUSE = 1000, 0.01
def fail(zygote): raise ValueError("a bug")
nursery.Zygote.serve = fail
server.main()
"""


def test_it_is_given_up_when_it_cannot_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOPELESS, "--listen=127.0.0.1:0", "cat"],
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == os.EX_SOFTWARE
    assert done.stderr.count("ValueError: a bug") == 6
    assert "the zygote cannot run; giving up" in done.stderr


def test_one_without_a_descriptor_for_a_link_is_replaced(tmp_path: Path) -> None:
    """The worker that the link was for would wait for ever."""
    with server(tmp_path, SHELL, *GRACES, "--workers=1") as service:
        with join(service):
            (zygote,) = service.zygotes()
        service.await_ends(1)
        hard = resource.prlimit(zygote, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(zygote, resource.RLIMIT_NOFILE, (3, hard))
        (worker,) = workers(service)
        os.kill(worker, signal.SIGKILL)
        service.find(rf"the zygote \(pid {zygote}\) ended: exit 70")
        join(service).close()


# Others die


def test_a_dead_workers_applications_are_stopped_in_order(tmp_path: Path) -> None:
    said = tmp_path / "said"
    options = ("--workers=1", "--kill-grace=20s")
    with server(tmp_path, SHELL, *options) as service, join(service) as peer:
        trap = f"trap '' PIPE; trap 'echo TERM >{said}; exit' TERM; echo ok"
        trap += "; while :; do sleep 1; done"
        assert told(peer, trap, 3) == b"ok\n"
        (worker,) = workers(service)
        os.kill(worker, signal.SIGKILL)
        until(lambda: not service.applications(), "it obeys", SOON)
        assert said.read_text() == "TERM\n"


def test_a_dead_workers_adopted_applications_end(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, "--workers=1", *GRACES) as service:
        (worker,) = workers(service)
        with join(service) as peer:
            assert told(peer, "trap '' TERM HUP; echo ok", 3) == b"ok\n"
            pid = pid_of(peer)
            kill_zygote(service)
            assert pid_of(peer) == pid
            os.kill(worker, signal.SIGKILL)
            assert ended(pid, SOON)
        join(service).close()


def test_without_supervisor_and_zygote_workers_end(tmp_path: Path) -> None:
    """What obeys the end of its input ends, too; nobody is left to kill others."""
    with server(tmp_path, SHELL, "--drain-timeout=0", *GRACES) as service:
        with join(service) as peer:
            (zygote,) = service.zygotes()
            os.kill(service.pid, signal.SIGSTOP)
            os.kill(zygote, signal.SIGKILL)
            service.process.kill()
            assert peer.story().closed is not None
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
        until(lambda: not accepts(service), "it drains")
        service.process.terminate()
        assert service.process.wait(SOON) == 0
        assert ended(pid, 0)


def accepts(service: Service) -> bool:
    try:
        with Peer(service.connect()):
            return True
    except ConnectionRefusedError:
        return False


# What sessions leave behind


def daemon(service: Service, peer: Peer) -> int:
    """One that has fled from its session."""
    before = sleepers(service)
    assert told(peer, "setsid -f sleep 1000 >&- 2>&-; echo ok", 3) == b"ok\n"
    until(lambda: sleepers(service) != before, "it is what it is to be")
    (new,) = set(sleepers(service)) - set(before)
    return new


def sleepers(service: Service) -> list[int]:
    return [pid for pid in service.applications() if comm(pid) == "sleep"]


def test_the_supervisor_adopts_and_ends_it(tmp_path: Path) -> None:
    with server(tmp_path, SHELL, *GRACES) as service, join(service) as peer:
        pid = daemon(service, peer)
        assert parent_of(pid) == service.pid
        peer.send(stdin(b"exit\n"))
        assert ended(pid, SOON)


def test_a_successors_session_keeps_it_when_others_are_purged(tmp_path: Path) -> None:
    """Until all claims are made nobody else's may be taken for a dead zygote's."""
    with server(tmp_path, SHELL, "--workers=2", *GRACES) as service:
        (zygote,) = service.zygotes()
        with ExitStack() as stack:
            with stopped(workers(service)[0]):  # it claims nothing
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
        service.process.kill()
        service.process.wait()
        (zygote,) = service.zygotes()
        until(lambda: parent_of(zygote) != service.pid, "it is an orphan", SOON)
        pid = daemon(service, peer)
        until(lambda: parent_of(pid) == zygote, "it adopts", SOON)
        peer.send(stdin(b"exit\n"))
        until(lambda: not service.applications(), "nothing is left", SOON)
