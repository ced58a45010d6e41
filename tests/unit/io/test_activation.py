"""Each kind of descriptor 0 (or systemd's 3), in a process of its own.

A connection is taken, moved and protected: printed text never reaches the client. Any
other descriptor gives an error that names its kind.
"""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import chimirror
from chimirror import builtin_modules
from chimirror.io import activation

ROOT = str(Path(chimirror.__file__).parent.parent)
PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from chimirror.io import activation
told = {"wire": activation.detach_stderr()}
os.write(2, b"noise")
try:
    found = activation.find_connection(os.environ)
except activation.NoConnection as error:
    told["error"] = str(error)
else:
    told |= {name: getattr(found, name) for name in found.__slots__}
    told["blocking"] = [os.get_blocking(fd) for fd in (found.read_fd, found.write_fd)]
    os.write(1, b"noise")
    os.write(2, b"noise")
    os.set_blocking(found.write_fd, True)
    os.write(found.write_fd, b"ok")
told["open"] = {}
for name in os.listdir("/proc/self/fd"):
    try:
        told["open"][name] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass
told["passed"] = [
    fd for fd in map(int, told["open"]) if fd > 2 and os.get_inheritable(fd)
]
with open(sys.argv[2], "w") as file:
    json.dump(told, file)
"""


class ActivationHarness:
    """Runs the program with given descriptors, and holds its report."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.report = directory / "report"
        self.stack = stack

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for fd in ends:
            self.stack.callback(os.close, fd)
        return ends

    def run(
        self,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        stderr: Any = subprocess.PIPE,
        redirect: str = "",
        variables: str = "",
    ) -> dict[str, Any]:
        """Run the program to its end. `redirect` and `variables` go to the shell."""
        argv = [sys.executable, "-c", PROGRAM, ROOT, str(self.report)]
        script = f'{variables} exec "$@" {redirect}'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *argv], stdin=stdin, stdout=stdout, stderr=stderr
        )
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        report: dict[str, Any] = json.loads(self.report.read_text())
        assert set("012") <= set(report["open"])
        if "error" not in report:
            assert report["passed"] == []
            assert report["blocking"] == [False, False]
        return report


@pytest.fixture
def harness(tmp_path: Path) -> Any:
    with ExitStack() as stack:
        yield ActivationHarness(tmp_path, stack)


def received(connection: socket.socket) -> bytes:
    """Return all data from the connection, up to its end."""
    got = b""
    while chunk := connection.recv(99):
        got += chunk
    return got


FAMILIES = {
    "IPv4": (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1", "::1"),
    "IPv4 over IPv6": (socket.AF_INET6, "127.0.0.1", "127.0.0.1"),
}


def connected(name: str) -> tuple[socket.socket, socket.socket]:
    """A TCP connection: the server's end and the client's."""
    family, client, _ = FAMILIES[name]
    with socket.create_server(
        ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6
    ) as listener:
        far = socket.create_connection((client, listener.getsockname()[1]))
        return listener.accept()[0], far


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("stderr", ["socket", "own"])
def test_tcp_from_inetd(harness: ActivationHarness, name: str, stderr: str) -> None:
    ours, far = connected(name)
    with ours, far:
        report = harness.run(
            ours, ours, ours if stderr == "socket" else subprocess.PIPE
        )
        ours.close()
        assert received(far) == b"ok"
        assert (report["address"], report["port"]) == (
            FAMILIES[name][2],
            far.getsockname()[1],
        )
    assert report["wire"] == (stderr == "socket")
    assert report["read_fd"] == report["write_fd"] > 2
    assert report["uid"] == -1
    assert report["open"]["0"] == report["open"]["1"] == os.devnull
    assert harness.said == (None if stderr == "socket" else b"noisenoise")


def test_nagle_is_off() -> None:
    ours, far = connected("IPv4")
    with ours, far:
        found = activation.InheritedConnection(ours.fileno(), ours.fileno())
        activation._check_socket(found, "it")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_unix_socket(harness: ActivationHarness, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as far,
    ):
        listener.bind(path)
        listener.listen()
        far.connect(path)
        ours, _ = listener.accept()
        with ours:
            report = harness.run(ours, ours)
        assert received(far) == b"ok"
    assert (report["address"], report["port"], report["uid"]) == ("", 0, os.getuid())


def test_the_socketpair_of_socat(harness: ActivationHarness) -> None:
    ours, far = socket.socketpair()
    with far:
        with ours:
            report = harness.run(ours, ours, ours)
        assert received(far) == b"ok"
    assert (report["wire"], report["uid"]) == (True, os.getuid())


def test_separate_stdout_is_kept(harness: ActivationHarness) -> None:
    """StandardInput=socket with StandardOutput=journal."""
    ours, far = socket.socketpair()
    reader, writer = harness.pipe()
    with far:
        with ours:
            report = harness.run(ours, writer)
        assert received(far) == b"ok"
    assert os.read(reader, 99) == b"noise"
    assert report["open"]["0"] == os.devnull


@pytest.mark.parametrize("stderr", ["own", "out"])
def test_two_pipes(harness: ActivationHarness, stderr: str) -> None:
    """Pipes as socat's `pipes` option makes them, with `stderr` too."""
    read_fd, _ = harness.pipe()
    reader, write_fd = harness.pipe()
    report = harness.run(
        read_fd, write_fd, write_fd if stderr == "out" else subprocess.PIPE
    )
    assert os.read(reader, 99) == b"ok"
    assert report["wire"] == (stderr == "out")
    assert len({report["read_fd"], report["write_fd"], 0, 1, 2}) == 5
    assert report["open"]["0"] == report["open"]["1"] == os.devnull


def test_stderr_is_the_incoming_pipe(harness: ActivationHarness) -> None:
    read_fd, pipe_fd = harness.pipe()
    report = harness.run(read_fd, subprocess.DEVNULL, redirect="2<&0")
    assert report["wire"]
    assert pipe_fd > 2


def test_the_socket_of_systemd(harness: ActivationHarness) -> None:
    ours, far = connected("IPv4")
    with far:
        with ours:
            report = harness.run(
                ours,
                redirect="3<&0 0</dev/null",
                variables="LISTEN_FDS=1 LISTEN_PID=$$",
            )
        assert received(far) == b"ok"
    assert (report["read_fd"], report["write_fd"], report["address"]) == (
        3,
        3,
        "127.0.0.1",
    )
    assert harness.said == b"noisenoise"


def test_stdio_may_be_closed(harness: ActivationHarness) -> None:
    ours, far = socket.socketpair()
    with far:
        with ours:
            report = harness.run(
                ours,
                redirect="3<&0 0<&- 1>&- 2>&-",
                variables="LISTEN_FDS=1 LISTEN_PID=$$",
            )
        assert received(far) == b"ok"
    assert [report["open"][name] for name in "012"] == [os.devnull] * 3


def test_variables_for_another_process_are_ignored(harness: ActivationHarness) -> None:
    ours, far = socket.socketpair()
    with ours, far:
        report = harness.run(ours, ours, variables="LISTEN_FDS=1 LISTEN_PID=1")
    assert report["read_fd"] > 2


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ("LISTEN_FDS=2", "systemd passed 2 sockets, not one"),
        ("LISTEN_FDS=0", "systemd passed 0 sockets, not one"),
        ("LISTEN_FDS=x", "systemd passed x sockets, not one"),
        ("", "systemd passed no sockets, not one"),
        ("LISTEN_FDS=1", "the socket from systemd is not a socket"),
    ],
)
def test_invalid_systemd_variables(
    harness: ActivationHarness, variables: str, error: str
) -> None:
    report = harness.run(variables=f"{variables} LISTEN_PID=$$")
    assert report["error"].startswith(error)


def test_a_listening_socket(harness: ActivationHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        report = harness.run(listener)
    assert report["error"].startswith(
        "descriptor 0 is a listening socket: set Accept=yes"
    )


def test_a_datagram_socket(harness: ActivationHarness) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        report = harness.run(datagrams)
    assert report["error"].startswith("descriptor 0 is a datagram socket")


def test_a_terminal(harness: ActivationHarness) -> None:
    master, slave = pty.openpty()
    report = harness.run(slave, slave)
    for fd in (master, slave):
        os.close(fd)
    assert report["error"].startswith("descriptor 0 is a terminal, not a connection")
    assert "socat TCP-LISTEN" in report["error"]


@pytest.mark.parametrize(
    ("redirect", "what"),
    [
        ("<&-", "a device (such as /dev/null)"),
        ("</dev/null", "a device (such as /dev/null)"),
        ("</etc/passwd", "a file"),
    ],
)
def test_other_descriptors_are_rejected(
    harness: ActivationHarness, redirect: str, what: str
) -> None:
    report = harness.run(redirect=redirect)
    assert report["error"].startswith(
        f"descriptor 0 is {what}, not a connection; the bridge serves"
    )


def test_unknown_file_types_are_rejected(harness: ActivationHarness) -> None:
    counter = os.eventfd(0)
    report = harness.run(counter)
    os.close(counter)
    assert report["error"].startswith("descriptor 0 is an unknown type of file")


def test_one_pipe_is_half_a_connection(harness: ActivationHarness) -> None:
    report = harness.run(harness.pipe()[0])
    assert report["error"].startswith("descriptor 0 is a pipe without a pipe as")


def test_a_disconnected_client_is_a_connection(harness: ActivationHarness) -> None:
    ours, far = connected("IPv4")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with ours:
        found = activation.InheritedConnection(ours.fileno(), ours.fileno())
        activation._check_socket(found, "it")
    assert (found.address, found.port) == ("", 0)


class Handle(SimpleNamespace):
    """A socket of a family that not every kernel has."""


def test_a_family_without_ip_addresses() -> None:
    found = activation.InheritedConnection(7, 7)
    handle: Any = Handle(family=40)  # AF_VSOCK: its addresses are numbers
    activation._read_peer(found, handle)
    assert (found.address, found.port, found.uid) == ("", 0, -1)


@pytest.mark.parametrize("uid", [0, 1000, 3_000_000_000, -1])
def test_every_uid(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = (7).to_bytes(4, sys.byteorder) + (uid % 2**32).to_bytes(4, sys.byteorder)
    handle: Any = Handle(getsockopt=lambda *_: raw + bytes(4))
    assert activation.peer_uid(handle) == uid
    monkeypatch.delattr(builtin_modules.socket, "SO_PEERCRED")
    assert activation.peer_uid(handle) == -1
