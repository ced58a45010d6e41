"""Programs that cannot write to standard error or output.

A full disk or a pipe without a reader is no reason not to serve. A failure of the start
keeps its exit status (sysexits(3)), although its reason is lost.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import until
from serve import LAUNCH, ROOT, Service, argv_of, running
from websocket_peer import Closed, Peer

SHELL = ["bash", "-c", 'echo up; while read -r line; do eval "$line"; done']
BROKEN = ("full", "without a reader", "unread")


@contextmanager
def broken(kind: str) -> Iterator[int]:
    """Yield a descriptor that takes nothing."""
    if kind == "full":
        fd = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
        yield fd
        os.close(fd)
        return
    read_fd, fd = os.pipe()
    os.set_blocking(fd, False)
    try:
        while kind == "unread":
            os.write(fd, bytes(4096))
    except BlockingIOError:
        os.set_blocking(fd, True)
    if kind == "without a reader":
        os.close(read_fd)
    yield fd
    os.close(fd)
    if kind == "unread":
        os.close(read_fd)


def await_socket(service: Service, path: Path) -> None:
    service.address = str(path)

    def ask() -> bool:
        assert service.process.poll() is None
        try:
            service.connect().close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:  # of another type: the zygote listens
            return error.strerror == "Protocol wrong type for socket"
        return True

    until(ask, "it listens")


@pytest.mark.parametrize("kind", BROKEN)
def test_the_server_serves_without_a_log(tmp_path: Path, kind: str) -> None:
    mark, path = uuid.uuid4().hex, tmp_path / "socket"
    options = (f"--listen=unix:{path}", "--workers=1", "--stderr=log")
    argv = argv_of("server", SHELL, options, mark)
    with broken(kind) as fd, running(tmp_path, argv, mark, stderr=fd) as service:
        await_socket(service, path)
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
            peer.send_close()
            assert peer.transcript().closed == Closed(1000, "")
        service.process.terminate()
        assert service.process.wait(60) == 0


@pytest.mark.parametrize("kind", BROKEN)
def test_the_zygote_starts_applications_without_a_log(
    tmp_path: Path, kind: str
) -> None:
    mark, path = uuid.uuid4().hex, tmp_path / "socket"
    argv = argv_of("zygote", SHELL, (f"--socket={path}",), mark)
    with broken(kind) as fd, running(tmp_path, argv, mark, stderr=fd) as service:
        await_socket(service, path)
        assert started(path)
        service.process.terminate()
        assert service.process.wait(60) == 0


def started(path: Path) -> bool:
    """Let a zygote start an application, and return whether it has written `up`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(60)
        link.connect(str(path))
        link.send(b'{"start":1}')
        packet, pipes, _, _ = socket.recv_fds(link, 1 << 16, 3)
        assert json.loads(packet)["started"] == 1
        os.set_blocking(pipes[1], True)
        said = os.read(pipes[1], 3)
        for fd in pipes:
            os.close(fd)
    return said == b"up\n"


FAILURES = [
    ("server.main", "--nope", os.EX_USAGE),
    ("server.main", "--listen unix:/nonexistent/socket -- cat", os.EX_UNAVAILABLE),
    ("server.main", "--directory /nonexistent -- cat", os.EX_UNAVAILABLE),
    ("server.main", "--listen 127.0.0.1:0 --preload nowhere:x", os.EX_UNAVAILABLE),
    ("zygote", "--nope", os.EX_USAGE),
    ("zygote", "--socket /nonexistent/socket -- cat", os.EX_UNAVAILABLE),
    ("bridge", "--nope", os.EX_USAGE),
    ("bridge", "cat", os.EX_USAGE),
    ("connect.main", "--nope", os.EX_USAGE),
    ("connect.main", "ws+unix:/nonexistent/socket", 255),
    ("ctl.main", "--nope", os.EX_USAGE),
]


def status(program: str, words: str, stdout: int, stderr: int) -> int:
    """Run a program, and return its exit status."""
    argv = [*LAUNCH, f"chimirror.{program}", *words.split()]
    # Without PYTHONUNBUFFERED, text may wait for a flush at the exit.
    kept = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
    ran = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=kept | {"PYTHONPATH": ROOT},
        timeout=200,
        check=False,
    )
    return ran.returncode


@pytest.mark.parametrize("kind", ["full", "without a reader"])
@pytest.mark.parametrize(("program", "words", "expected"), FAILURES)
def test_a_failure_keeps_its_status(
    program: str, words: str, expected: int, kind: str
) -> None:
    with broken(kind) as fd:
        assert status(program, words, subprocess.DEVNULL, fd) == expected


OUTPUTS = [
    *((f"{name}", words) for name in ("bridge", "server.main", "zygote")
      for words in ("--help", "--version")),
    ("ctl.main", "--help"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "words"), OUTPUTS)
def test_help_that_cannot_be_printed(program: str, words: str, tmp_path: Path) -> None:
    with broken("full") as fd:
        with (tmp_path / "said").open("wb") as said:
            assert status(program, words, fd, said.fileno()) == os.EX_OSERR
        assert status(program, words, fd, fd) == os.EX_OSERR
    text = (tmp_path / "said").read_text()
    assert text.count("\n") == 1
    if text.startswith("{"):  # chimirror-ctl has no log
        text = json.loads(text)["MESSAGE"] + "\n"
    assert text.endswith(": No space left on device\n")
