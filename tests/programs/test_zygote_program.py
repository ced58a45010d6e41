"""Tests chimirror-zygote as a program: permissions, responses, ends of processes.

Processes and the socket are real. Packets are literal JSON, as chimirror-protocol(7)
describes them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

import shell_sessions
from chimirror.zygote import MAX_IDLE
from json_log import messages
from processes import descendants, descriptors, ended, listening, marked, read, until
from serve import LAUNCH, ROOT, Service, zygote

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELL = ("--", *shell_sessions.SHELL)
OBSTINATE = "trap '' TERM HUP INT; echo ok; while :; do sleep 1; done"
SOON = 200.0


def variable(value: bytes) -> bytes:
    return b'{"start":1,"environment":{"A":"%s"}}' % value


def session(value: bytes) -> bytes:
    return b'{"start":1,"environment":{"CHIMIRROR_SESSION":"%s"}}' % value


class Asker:
    """A client: its link, and the descriptors that it received."""

    def __init__(self, service: Service, before: str = "") -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(30)
        self.link.connect(str(service.address))
        self.pipes: list[int] = []

    def say(self, **message: object) -> None:
        self.link.send(json.dumps(message).encode())

    def hear(self) -> dict[str, Any] | None:
        packet, pipes, _, _ = socket.recv_fds(self.link, 1 << 16, 3)
        self.pipes += pipes
        found: dict[str, Any] | None = json.loads(packet) if packet else None
        return found

    def start(self, **more: object) -> int:
        """Start an application and wait until it has written `up`. Returns its pid."""
        first = len(self.pipes)
        self.say(start=1, **more)
        told = self.hear()
        assert told
        for pipe in self.pipes[first:]:
            os.set_blocking(pipe, True)
        assert self.read(3, self.pipes[first + 1]) == b"up\n"
        pid: int = told["pid"]
        return pid

    def write(self, line: str, pipe: int = 0) -> None:
        os.write(self.pipes[pipe], line.encode() + b"\n")

    def read(self, size: int, pipe: int = -1) -> bytes:
        fd = self.pipes[1] if pipe < 0 else pipe
        said = b""
        while len(said) < size and (more := os.read(fd, size - len(said))):
            said += more
        return said

    def close(self) -> None:
        self.link.close()
        for pipe in self.pipes:
            os.close(pipe)
        self.pipes = []

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def shell(directory: Path, *options: str) -> Iterator[Service]:
    with zygote(directory, "--kill-grace=100ms", *options, *SHELL) as service:
        yield service


def test_requests(tmp_path: Path) -> None:
    with shell(tmp_path, "--env=BASE=1") as service, Asker(service) as one:
        pid = one.start(environment={"ASKED": "2", "CHIMIRROR_SESSION": "s-1"})
        one.write("echo $BASE$ASKED$CHIMIRROR_SESSION; echo oops >&2")
        assert one.read(6) == b"12s-1\n"
        assert one.read(5, one.pipes[2]) == b"oops\n"
        one.write(shell_sessions.AWAIT_USR1)
        assert one.read(3) == b"ok\n"
        one.say(signal=10, pid=pid)
        assert one.read(6) == b"heard\n"
        one.write("sleep 1000 & exit 5")
        assert one.hear() == {"exited": [[pid, 5, True]]}
        one.say(finish=["s-1"])
        until(lambda: not service.applications(), "the survivor has ended", SOON)
        other = one.start(stderr=False)
        assert other != pid
        assert len(one.pipes) == 5


def test_what_cannot_be_started(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.symlink_to("/bin/cat")
    with zygote(tmp_path, "--", str(program)) as service:
        program.unlink()
        before = descriptors(service.pid)
        for _ in range(3):
            with Asker(service) as one:
                one.say(start=7)
                reason = f"{program}: No such file or directory (ENOENT)"
                expected = {"failed": 7, "reason": reason, "shortage": False}
                assert one.hear() == expected
        with Asker(service) as one:
            one.say(start=8, environment={"A=B": "1"})
            told = one.hear()
            assert told
            assert told["reason"].endswith("illegal environment variable name")
        until(lambda: descriptors(service.pid) == before, "nothing is kept open")


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"hello", "it is not JSON"),
        (b'{"dance":1}', "'dance' is not a known message"),
        (b'{"adopt":{}}', "'adopt' is not accepted here"),
        (b'{"link":1}', "'link' is not accepted here"),
        (b'{"signal":99,"pid":1}', "signal: signal is wrong"),
    ],
)
def test_nonsense_is_refused_and_ends_what_was_started(
    packet: bytes, reason: str, tmp_path: Path
) -> None:
    with shell(tmp_path) as service, Asker(service) as one:
        pid = one.start()
        one.link.send(packet)
        assert one.hear() == {"refused": reason}
        assert one.hear() is None
        assert ended(pid, SOON)
        with Asker(service) as another:
            another.start()


@pytest.mark.parametrize(
    ("packet", "answer", "reason"),
    [
        (b'{"%s":1}' % (b"n" * 150_000), "refused", "is not a known message"),
        (b'{"start":1,"x":%s1%s}' % (b"[" * 9000, b"]" * 9000), "refused", "not JSON"),
        (b'{"start":1%s}' % (b"0" * 9000), "refused", "it is not JSON"),
        (b'{"start":1,"environment":{"A":1}}', "refused", "environment is wrong"),
        (session(b"s" * 300), "failed", "CHIMIRROR_SESSION is longer than 256 bytes"),
        (session(b"\\ud800"), "failed", "CHIMIRROR_SESSION is longer than 256"),
        (variable(b"\\ud800"), "failed", "surrogates not allowed"),
        (variable(b"\\u0000"), "failed", "embedded null byte"),
        (variable(b"x" * 150_000), "failed", "Argument list too long (E2BIG)"),
        (b"", "", ""),
    ],
    ids=range(10),
)
def test_no_packet_of_a_client_ends_the_service(
    packet: bytes, answer: str, reason: str, tmp_path: Path
) -> None:
    with shell(tmp_path) as service, Asker(service) as other:
        other.start()
        with Asker(service) as one:
            one.link.send(packet)
            told = one.hear()
            if answer:
                assert told
                text = told["reason"] if answer == "failed" else told[answer]
                assert reason in text
                assert len(text) < 2000
        other.write("echo alive")
        assert other.read(6) == b"alive\n"
        other.start()


def test_sessions_that_are_never_finished_are_forgotten(tmp_path: Path) -> None:
    script = "import chimirror.zygote as z; z.MAX_UNFINISHED = 2; z.main()"
    argv = [sys.executable, "-c", script, "--socket", str(tmp_path / "zygote")]
    argv += ["--", "sh", "-c", "sleep 1000 >&- 2>&- & exec true"]
    env = os.environ | {"PYTHONPATH": ROOT}
    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=env) as process:
        service = Service(process, tmp_path, "")
        service.address = str(tmp_path / "zygote")
        until(lambda: Path(str(service.address)).exists(), "it listens")
        with Asker(service) as one:
            for number in range(5):
                session = {"CHIMIRROR_SESSION": f"s-{number}"}
                one.say(start=1, environment=session)
                one.hear()
                told = one.hear()
                assert told
                assert "exited" in told
            until(lambda: len(descendants(process.pid)) == 2, "the oldest have ended")
        process.terminate()
        assert process.wait(SOON) == 0


def test_unexpected_descriptors_are_closed(tmp_path: Path) -> None:
    with shell(tmp_path) as service, Asker(service) as one:
        one.start()
        before = descriptors(service.pid)
        socket.send_fds(one.link, [b'{"signal":18,"pid":1}'], [0, 1, 2])
        one.start()
        until(lambda: descriptors(service.pid) <= before, "they are closed")


def test_others_are_not_signalled(tmp_path: Path) -> None:
    with shell(tmp_path) as service, Asker(service) as one, Asker(service) as other:
        victim = one.start(environment={"CHIMIRROR_SESSION": "theirs"})
        bystander = subprocess.Popen(["sleep", "1000"])
        for pid in (victim, bystander.pid, service.pid, 1):
            other.say(signal=9, pid=pid)
            other.say(finish=["theirs", "one", ""])
        other.start()
        one.write("echo alive")
        assert one.read(6) == b"alive\n"
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()


def test_signal_to_a_reused_pid_is_dropped(tmp_path: Path) -> None:
    """The session ended before the signal, and another process has the pid now."""
    with shell(tmp_path) as service, Asker(service) as one:
        pid = one.start(environment={"CHIMIRROR_SESSION": "new"})
        one.say(signal=9, pid=pid, session="old")
        one.start()
        one.write("echo alive")
        assert one.read(6) == b"alive\n"
        one.say(signal=9, pid=pid, session="new")
        assert one.hear() == {"exited": [[pid, -9, False]]}


# Ends


def test_the_end_of_a_connection_ends_what_was_started_over_it(tmp_path: Path) -> None:
    with shell(tmp_path) as service, Asker(service) as other:
        bystander = other.start()
        with Asker(service) as one:
            pids = [one.start() for _ in range(3)]
            one.write("setsid -f sleep 1000 >&-; sleep 1000 >&- & echo ok")
            assert one.read(3) == b"ok\n"
            one.write(OBSTINATE, 3)
            assert one.read(3, one.pipes[4]) == b"ok\n"
            one.link.close()
            assert all(ended(pid, SOON) for pid in pids)
        until(lambda: service.applications() == [bystander], "nothing else", SOON)


def test_client_that_never_reads_is_disconnected(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.symlink_to("/bin/cat")
    with zygote(tmp_path, "--", str(program)) as service, Asker(service) as one:
        program.unlink()
        asking = iter(lambda: one.say(start=1), 0)
        with pytest.raises(ConnectionError):
            list(asking)


def test_idle_clients_give_way(tmp_path: Path) -> None:
    """The oldest without an application is disconnected, and no other."""
    with shell(tmp_path) as service, ExitStack() as all_:
        busy = all_.enter_context(Asker(service))
        busy.start()
        idle = [all_.enter_context(Asker(service)) for _ in range(MAX_IDLE + 2)]
        newest = all_.enter_context(Asker(service))
        newest.start()
        for one in idle[:3]:
            assert one.hear() is None
        busy.write("echo here")
        assert busy.read(5) == b"here\n"
        for one in idle[3:]:
            one.link.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.hear()


@pytest.mark.parametrize("obstinate", [False, True])
def test_term_ends_everything(tmp_path: Path, *, obstinate: bool) -> None:
    with shell(tmp_path) as service, ExitStack() as all_:
        askers = [all_.enter_context(Asker(service)) for _ in range(3)]
        for asker in askers:
            asker.start()
            if obstinate:
                asker.write(OBSTINATE)
                assert asker.read(3) == b"ok\n"
        service.process.terminate()
        assert service.process.wait(SOON) == 0
        assert marked(service.mark) == []
        assert not Path(str(service.address)).exists()


def test_second_term_does_not_wait(tmp_path: Path) -> None:
    with zygote(tmp_path, "--kill-grace=1h", *SHELL) as service, Asker(service) as one:
        one.start()
        one.write(OBSTINATE)
        assert one.read(3) == b"ok\n"
        service.process.terminate()
        until(lambda: not Path(str(service.address)).exists(), "it stops")
        service.process.terminate()
        assert service.process.wait(SOON) == 0
        assert marked(service.mark) == []
        said = messages(service.log.read_text())[-3:]
    assert said == [
        "stopping: 1 application, at most 3600 s; again to end them now",
        "ending 1 application now",
        "stopped",
    ]


def test_without_descriptors_it_accepts_again_later(tmp_path: Path) -> None:
    with shell(tmp_path) as service, ExitStack() as all_:
        first = all_.enter_context(Asker(service))
        first.start()
        import resource

        used = descriptors(service.pid)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (used, 1024))
        second = all_.enter_context(Asker(service))
        first.say(start=2)
        told = first.hear()
        assert told
        assert "Too many open files" in told["reason"]
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        second.start()


# Permissions

OTHER_USER = """
import os, socket, sys
os.setgroups([]); os.setuid(int(sys.argv[2]))
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(sys.argv[1])
try: link.send(sys.argv[3].encode())
except BrokenPipeError: pass
print(link.recv(9999).decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(
    ("uid", "environment", "answer"),
    [
        (4711, {}, '{"started":1,'),
        (4711, {"LD_PRELOAD": "x"}, '{"failed":1,"reason":"only our own user and root'),
        (4712, {}, '{"refused":"user 4712 may not ask; see --allow-uid"}'),
    ],
)
def test_permissions(uid: int, environment: dict[str, str], answer: str) -> None:
    message = json.dumps({"start": 1, "environment": environment})
    argv = [sys.executable, "-c", OTHER_USER]
    options = ("--allow-uid=4711", "--socket-mode=0666")
    with ExitStack() as stack:
        # Temporary directories of pytest are accessible to its own user only.
        place = Path(stack.enter_context(TemporaryDirectory(dir="/tmp")))
        place.chmod(0o755)
        service = stack.enter_context(shell(place, *options))
        given = [str(service.address), str(uid), message]
        done = subprocess.run([*argv, *given], capture_output=True, text=True)
        assert done.stdout.startswith(answer), done.stderr


def test_the_mode_of_the_socket(tmp_path: Path) -> None:
    with shell(tmp_path) as service:
        assert os.stat(str(service.address)).st_mode & 0o777 == 0o600


def test_a_socket_from_systemd(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    argv = ["systemd-socket-activate", "--seqpacket", "--listen", path]
    argv += ["-E", f"PYTHONPATH={ROOT}", *LAUNCH, "chimirror.zygote", "--", "cat"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        until(lambda: listening(Path(path)), "it listens")
        service = Service(process, tmp_path, "")
        service.address = path
        with Asker(service) as one:
            one.say(start=1)
            assert one.hear()
            for pipe in one.pipes:
                os.set_blocking(pipe, True)
            one.write("hello")
            assert one.read(6) == b"hello\n"
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr
        assert b"listening on unix:" in process.stderr.read()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCH, "chimirror.zygote", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ROOT} | environment,
    )


def test_what_is_wrong_with_a_command_line(tmp_path: Path) -> None:
    done = run("--", "cat")
    assert done.returncode == os.EX_USAGE
    (said,) = messages(done.stderr)
    assert said.startswith("chimirror-zygote: no socket; write --socket ")
    done = run("--socket", str(tmp_path), "--", "cat")
    assert done.returncode == os.EX_UNAVAILABLE
    assert "exists and is not a socket" in done.stderr
    done = run("--socket", f"{tmp_path}/s", "--directory", "/no/such", "--", "cat")
    assert done.returncode != 0
    assert "/no/such: No such file or directory" in done.stderr
    done = run("--socket", f"{tmp_path}/s", "--", "nosuchprogram")
    assert done.returncode == os.EX_UNAVAILABLE
    (said,) = messages(done.stderr)
    assert 'there is no program "nosuchprogram" in PATH' in said


def test_a_live_socket_is_not_taken(tmp_path: Path) -> None:
    with shell(tmp_path) as service:
        done = run("--socket", str(service.address), "--", "cat")
        assert "is in use" in done.stderr
        with Asker(service) as one:
            one.start()


def test_it_is_no_subject_of_the_applications_signals(tmp_path: Path) -> None:
    with shell(tmp_path) as service, Asker(service) as one:
        one.start()
        one.write("kill -TERM 0")
        told = one.hear()
        assert told
        assert told["exited"][0][1] == -signal.SIGTERM
        assert read(f"/proc/{service.pid}/stat")
