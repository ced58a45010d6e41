"""Each thing that descriptor 0 (or systemd's 3) can be, in a process of its own.

What is a connection is taken, moved and protected: what the program prints never gets
on the wire. What is none gets an error that says what it is.
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
from chimirror.system import activation, lean

ROOT = str(Path(chimirror.__file__).parent.parent)
PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from chimirror.system import activation
told = {"wire": activation.protect_wire()}
os.write(2, b"noise")
try:
    found = activation.find(os.environ)
except activation.NoConnection as error:
    told["error"] = str(error)
else:
    told |= {name: getattr(found, name) for name in found.__slots__}
    told["blocking"] = [os.get_blocking(fd) for fd in (found.source, found.sink)]
    os.write(1, b"noise")
    os.write(2, b"noise")
    os.set_blocking(found.sink, True)
    os.write(found.sink, b"ok")
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


class Stage:
    """Starts the program with any descriptors, and has what it told."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.report = directory / "report"
        self.stack = stack

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for fd in ends:
            self.stack.callback(os.close, fd)
        return ends

    def play(
        self,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        stderr: Any = subprocess.PIPE,
        redirect: str = "",
        variables: str = "",
    ) -> dict[str, Any]:
        """Run it to its end; `redirect` and `variables` are the shell's."""
        argv = [sys.executable, "-c", PROGRAM, ROOT, str(self.report)]
        script = f'{variables} exec "$@" {redirect}'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *argv], stdin=stdin, stdout=stdout, stderr=stderr
        )
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        told: dict[str, Any] = json.loads(self.report.read_text())
        assert set("012") <= set(told["open"])
        if "error" not in told:
            assert told["passed"] == []
            assert told["blocking"] == [False, False]
        return told


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


def heard(connection: socket.socket) -> bytes:
    """Everything that has come over the wire, to its end."""
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
def test_tcp_as_inetd_hands_it_over(stage: Stage, name: str, stderr: str) -> None:
    ours, far = connected(name)
    with ours, far:
        told = stage.play(ours, ours, ours if stderr == "socket" else subprocess.PIPE)
        ours.close()
        assert heard(far) == b"ok"
        assert (told["address"], told["port"]) == (
            FAMILIES[name][2],
            far.getsockname()[1],
        )
    assert told["wire"] == (stderr == "socket")
    assert told["source"] == told["sink"] > 2
    assert told["uid"] == -1
    assert told["open"]["0"] == told["open"]["1"] == os.devnull
    assert stage.said == (None if stderr == "socket" else b"noisenoise")


def test_nagle_is_off() -> None:
    ours, far = connected("IPv4")
    with ours, far:
        found = activation.Found(ours.fileno(), ours.fileno())
        activation._examine(found, "it")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
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
            told = stage.play(ours, ours)
        assert heard(far) == b"ok"
    assert (told["address"], told["port"], told["uid"]) == ("", 0, os.getuid())


def test_the_socketpair_of_socat(stage: Stage) -> None:
    ours, far = socket.socketpair()
    with far:
        with ours:
            told = stage.play(ours, ours, ours)
        assert heard(far) == b"ok"
    assert (told["wire"], told["uid"]) == (True, os.getuid())


def test_standard_output_that_is_elsewhere_is_left_alone(stage: Stage) -> None:
    """StandardInput=socket with StandardOutput=journal."""
    ours, far = socket.socketpair()
    reader, writer = stage.pipe()
    with far:
        with ours:
            told = stage.play(ours, writer)
        assert heard(far) == b"ok"
    assert os.read(reader, 99) == b"noise"
    assert told["open"]["0"] == os.devnull


@pytest.mark.parametrize("stderr", ["own", "out"])
def test_two_pipes(stage: Stage, stderr: str) -> None:
    """As socat's `pipes` option makes them, `stderr` too."""
    source, _ = stage.pipe()
    reader, sink = stage.pipe()
    told = stage.play(source, sink, sink if stderr == "out" else subprocess.PIPE)
    assert os.read(reader, 99) == b"ok"
    assert told["wire"] == (stderr == "out")
    assert len({told["source"], told["sink"], 0, 1, 2}) == 5
    assert told["open"]["0"] == told["open"]["1"] == os.devnull


def test_stderr_that_is_the_pipe_that_leads_in(stage: Stage) -> None:
    source, inlet = stage.pipe()
    told = stage.play(source, subprocess.DEVNULL, redirect="2<&0")
    assert told["wire"]
    assert inlet > 2


def test_the_socket_of_systemd(stage: Stage) -> None:
    ours, far = connected("IPv4")
    with far:
        with ours:
            told = stage.play(
                ours,
                redirect="3<&0 0</dev/null",
                variables="LISTEN_FDS=1 LISTEN_PID=$$",
            )
        assert heard(far) == b"ok"
    assert (told["source"], told["sink"], told["address"]) == (3, 3, "127.0.0.1")
    assert stage.said == b"noisenoise"


def test_the_standard_three_may_be_closed(stage: Stage) -> None:
    ours, far = socket.socketpair()
    with far:
        with ours:
            told = stage.play(
                ours,
                redirect="3<&0 0<&- 1>&- 2>&-",
                variables="LISTEN_FDS=1 LISTEN_PID=$$",
            )
        assert heard(far) == b"ok"
    assert [told["open"][name] for name in "012"] == [os.devnull] * 3


def test_variables_for_another_process_mean_nothing(stage: Stage) -> None:
    ours, far = socket.socketpair()
    with ours, far:
        told = stage.play(ours, ours, variables="LISTEN_FDS=1 LISTEN_PID=1")
    assert told["source"] > 2


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ("LISTEN_FDS=2", "systemd handed over 2 sockets, not one"),
        ("LISTEN_FDS=0", "systemd handed over 0 sockets, not one"),
        ("LISTEN_FDS=x", "systemd handed over x sockets, not one"),
        ("", "systemd handed over no sockets, not one"),
        ("LISTEN_FDS=1", "the socket from systemd is no socket"),
    ],
)
def test_what_systemd_cannot_mean(stage: Stage, variables: str, error: str) -> None:
    told = stage.play(variables=f"{variables} LISTEN_PID=$$")
    assert told["error"].startswith(error)


def test_a_listening_socket(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = stage.play(listener)
    assert told["error"].startswith(
        "descriptor 0 is a listening socket: set Accept=yes"
    )


def test_a_datagram_socket(stage: Stage) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        told = stage.play(datagrams)
    assert told["error"].startswith("descriptor 0 is a datagram socket")


def test_a_terminal(stage: Stage) -> None:
    master, slave = pty.openpty()
    told = stage.play(slave, slave)
    for fd in (master, slave):
        os.close(fd)
    assert told["error"].startswith("descriptor 0 is a terminal, no connection")
    assert "socat TCP-LISTEN" in told["error"]


@pytest.mark.parametrize(
    ("redirect", "what"),
    [
        ("<&-", "a device (such as /dev/null)"),
        ("</dev/null", "a device (such as /dev/null)"),
        ("</etc/passwd", "a file"),
    ],
)
def test_what_is_no_connection(stage: Stage, redirect: str, what: str) -> None:
    told = stage.play(redirect=redirect)
    assert told["error"].startswith(f"descriptor 0 is {what}, no connection; it serves")


def test_what_is_nothing_of_all_this(stage: Stage) -> None:
    counter = os.eventfd(0)
    told = stage.play(counter)
    os.close(counter)
    assert told["error"].startswith("descriptor 0 is nothing that can be one")


def test_one_pipe_is_half_a_connection(stage: Stage) -> None:
    told = stage.play(stage.pipe()[0])
    assert told["error"].startswith("descriptor 0 is a pipe without a pipe as")


def test_a_client_that_has_gone_is_a_connection(stage: Stage) -> None:
    ours, far = connected("IPv4")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with ours:
        found = activation.Found(ours.fileno(), ours.fileno())
        activation._examine(found, "it")
    assert (found.address, found.port) == ("", 0)


class Handle(SimpleNamespace):
    """A socket of a family that not every kernel has."""


def test_a_family_without_addresses_of_ours() -> None:
    found = activation.Found(7, 7)
    handle: Any = Handle(family=40)  # AF_VSOCK: its addresses are numbers
    activation._learn_peer(found, handle)
    assert (found.address, found.port, found.uid) == ("", 0, -1)


@pytest.mark.parametrize("uid", [0, 1000, 3_000_000_000, -1])
def test_every_uid(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = (7).to_bytes(4, sys.byteorder) + (uid % 2**32).to_bytes(4, sys.byteorder)
    handle: Any = Handle(getsockopt=lambda *_: raw + bytes(4))
    assert activation.peer_uid(handle) == uid
    monkeypatch.delattr(lean.socket, "SO_PEERCRED")
    assert activation.peer_uid(handle) == -1


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0:c000:201", "::ffff:0:c000:201"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_plain_addresses(address: str, plain: str) -> None:
    assert activation.plain_address(address) == plain
