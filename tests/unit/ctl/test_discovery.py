"""Discovery of live sessions: the places that are searched, and the files believed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chimirror.ctl import control_client, discovery
from chimirror.ctl.cgroups import ResourceUsage
from chimirror.ctl.messages import CommandError
from chimirror.ctl.session_info import SessionInfo
from chimirror.protocol.jsonrpc import RPCError, RPCRequest, handle_line
from fake_host import Machine, identity, status
from processes import let_others_in

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def ids(found: discovery.Discovered) -> list[str]:
    return sorted(session.id for session in found.sessions)


# Bridges


def test_session_of_a_unit(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    unit = machine.unit(1)
    machine.tell(1)
    found = discovery.discover(machine.host)
    (session,) = found.sessions
    assert (session.id, session.unit, session.peer) == (
        identity(1),
        unit,
        "192.0.2.1:4711",
    )
    assert (session.state, session.bytes_in, session.server) == ("open", 1, 0)
    assert session.usage == ResourceUsage(0.25, 1_000_000, 2)
    assert (found.denied, found.unanswered) == ([], [])


def test_files_in_the_place_of_directories(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for name in ("sessions", "servers/7", "servers"):
        path = machine.runtime / name
        if path.is_dir():
            shutil.rmtree(path)
        path.write_text("")
        found = discovery.discover(machine.host)
        assert (found.sessions, found.unanswered) == ([], [])


def test_a_command_line_that_is_not_utf8(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.unit(1)
    machine.tell(1, command="cat \udcff")
    (session,) = discovery.discover(machine.host).sessions
    assert (session.state, session.command) == ("open", "cat \udcff")


def test_a_unit_without_a_status(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.unit(1, "chimirror-game")
    environ = "REMOTE_ADDR=2001:db8::7\0REMOTE_PORT=4711\0"
    machine.process(101, environ=environ)
    (session,) = discovery.discover(machine.host).sessions
    assert (session.id, session.state, session.peer) == (
        identity(1),
        "unknown",
        "[2001:db8::7]:4711",
    )
    assert (session.application, session.bytes_in, session.pid) == ("game", None, 101)
    assert session.started > 0


def test_a_bridge_without_a_unit(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.tell(1)
    machine.process(101)
    machine.process(5001, "cat")
    (session,) = discovery.discover(machine.host).sessions
    assert (session.id, session.unit) == (identity(1), "")
    assert session.usage == ResourceUsage(
        2 * 200 / os.sysconf("SC_CLK_TCK"), 2 << 20, 4
    )


def test_stale_files_are_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = machine.tell(1)  # no such process, no such unit
    assert not discovery.discover(machine.host).sessions
    assert not file.exists()


def test_empty_files_of_dead_bridges_are_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    left = machine.write(f"runtime/sessions/{identity(1)}", "")
    control = machine.write(f"runtime/sessions/{identity(1)}.control", "")
    kept = machine.write(f"runtime/sessions/{identity(2)}", "")
    machine.process(102)
    (machine.directory / "proc/102/fd").mkdir()
    (machine.directory / "proc/102/fd/5").symlink_to(kept)
    (machine.directory / "proc/102/fd/6").symlink_to(tmp_path / "closed")
    machine.process(103)  # ending: its descriptors are closed
    os.mkfifo(machine.runtime / "sessions" / identity(3))
    assert not discovery.discover(machine.host).sessions
    assert not left.exists()
    assert not control.exists()
    assert kept.exists()
    assert (machine.runtime / "sessions" / identity(3)).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_a_file_that_may_be_open_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    kept = machine.write(f"runtime/sessions/{identity(1)}", "")
    machine.process(102)
    (machine.directory / "proc/102/fd").mkdir(0o700)
    let_others_in(tmp_path)
    (machine.runtime / "sessions").chmod(0o777)
    os.seteuid(65534)
    try:
        assert not discovery.discover(machine.host).sessions
    finally:
        os.seteuid(0)
    assert kept.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_foreign_files_stay(tmp_path: Path) -> None:
    """Another program, another user, or another id: anyone may write such files."""
    machine = Machine(tmp_path)
    program = machine.tell(1)
    machine.process(101, "vim")
    other = machine.tell(2)
    machine.process(102)
    os.chown(other, 65534, 65534)
    moved = machine.tell(3).rename(machine.runtime / "sessions" / identity(4))
    machine.process(103)
    assert not discovery.discover(machine.host).sessions
    assert program.exists()
    assert other.exists()
    assert moved.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_a_file_cannot_claim_a_unit(tmp_path: Path) -> None:
    """The file names the pid of a unit's bridge, but the session goes by its id."""
    machine = Machine(tmp_path)
    unit = machine.unit(1)
    machine.tell(1)
    machine.process(101)
    machine.tell(2, pid=101, peer="forged")
    machine.process(1, "init")
    os.chown(machine.runtime / "sessions" / identity(2), 65534, 65534)
    found = discovery.discover(machine.host)
    assert [(session.id, session.unit) for session in found.sessions] == [
        (identity(1), unit)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        json.dumps({**status(1), "pid": "101"}),
        json.dumps({**status(1), "bytes_in": -1}),
        json.dumps({**status(1), "bytes_in": True}),
        json.dumps({**status(1), "started": 1 << 63}),
        json.dumps({**status(1), "peer": None}),
        json.dumps({"id": identity(1)}),
    ],
)
def test_invalid_status_is_ignored(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path)
    machine.write(f"runtime/sessions/{identity(1)}", text)
    machine.process(101)
    assert not discovery.discover(machine.host).sessions


def test_irregular_files_are_ignored(tmp_path: Path) -> None:
    """Opening one would block, or follow a link to elsewhere."""
    machine = Machine(tmp_path)
    place = machine.runtime / "sessions"
    os.mkfifo(place / identity(1))
    (place / identity(2)).symlink_to(machine.write("else", json.dumps(status(2))))
    (place / identity(3)).mkdir()
    machine.write(f"runtime/sessions/x{identity(4)[1:]}", json.dumps(status(4)))
    for number in range(1, 5):
        machine.process(100 + number)
    assert not discovery.discover(machine.host).sessions


def test_no_runtime_directory(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    host = machine.host._replace(runtime_dirs=(str(tmp_path / "nowhere"),))
    assert discovery.discover(host) == discovery.Discovered([], [], [], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_other_users_are_denied(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    let_others_in(machine.runtime)
    (machine.runtime / "sessions").chmod(0o1730)
    (machine.runtime / "servers").chmod(0o711)
    os.seteuid(65534)
    try:
        found = discovery.discover(machine.host)
    finally:
        os.seteuid(0)
    assert [Path(place).name for place in found.denied] == ["sessions", "servers"]
    with pytest.raises(
        CommandError, match="permission denied; run it as root"
    ) as caught:
        found.warn_incomplete()
    assert caught.value.status == os.EX_NOPERM
    found.sessions.append(
        SessionInfo("a", 1, 1)
    )  # a unit without a status, which every user can see
    with pytest.raises(CommandError):
        found.warn_incomplete()
    found.sessions.append(SessionInfo("b", 1, 1, state="open"))
    assert found.warn_incomplete() == os.EX_OK
    assert capfd.readouterr().err.count("some sessions are missing") == 2


# Servers


@contextmanager
def worker(
    machine: Machine, perform: Callable[[str, Any], object], number: int = 0
) -> Iterator[str]:
    """The control socket of a worker that serves one client after the other."""
    directory = machine.runtime / "servers" / "77"
    directory.mkdir(exist_ok=True)
    path = str(directory / str(number))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, perform))
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, perform: Callable[[str, Any], object]) -> None:
    def answer_call(call: RPCRequest) -> None:
        call.respond(perform(call.method, call.params))

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        # The client may close before an answer is sent, or while it is.
        with connection, connection.makefile("rb") as file, suppress(ConnectionError):
            for line in file:
                answers: list[bytes] = []
                handle_line(line, answer_call, answers.append)
                connection.sendall(b"".join(answers))


def respond_in_pages(method: str, params: dict[str, Any]) -> object:
    """Report three sessions on two pages."""
    assert method == "sessions"
    if "more" in params:
        return {"sessions": [status(3)], "more": False}
    return {"sessions": [status(1), status(2, application="game")], "more": True}


def test_the_sessions_of_a_worker(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.process(5001, "cat")
    with worker(machine, respond_in_pages) as path:
        found = discovery.discover(machine.host)
    assert ids(found) == [identity(1), identity(2), identity(3)]
    session, other, _ = found.sessions
    assert (session.server, session.socket, session.unit) == (77, path, "")
    assert (session.application, other.application) == ("", "game")
    assert session.usage.tasks == 2
    assert found.warn_incomplete() == os.EX_OK


def test_a_dead_socket_is_ignored(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with worker(machine, respond_in_pages):
        pass
    for name in ("no-number", "9" * 30, "\xb2"):
        (machine.runtime / "servers" / name).mkdir()
    found = discovery.discover(machine.host)
    assert not found.sessions
    assert found.warn_incomplete() == os.EX_OK


def refuse(method: str, params: object) -> object:
    raise RPCError(-32000, "not today")


@pytest.mark.parametrize(
    ("perform", "message"),
    [
        (refuse, "not today"),
        (lambda method, params: [], "not an object but list"),
        (lambda method, params: {}, "sessions is not a list"),
        (lambda method, params: {"sessions": [1]}, "not an object but int"),
        (lambda method, params: {"sessions": [{}]}, "id is not a string"),
        (lambda method, params: {"sessions": [], "more": 1}, "more is neither"),
        (lambda method, params: {"sessions": [], "more": True}, "an empty page"),
        (
            lambda method, params: {"sessions": [status(1, id="$(reboot)")]},
            "id is not that of a session",
        ),
    ],
)
def test_invalid_responses_are_reported(
    tmp_path: Path,
    perform: Callable[[str, Any], object],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The other workers are still asked."""
    machine = Machine(tmp_path)
    with worker(machine, perform), worker(machine, respond_in_pages, 1):
        found = discovery.discover(machine.host)
    assert len(found.sessions) == 3
    assert found.warn_incomplete() == os.EX_TEMPFAIL
    said = capfd.readouterr().err
    assert "some sessions are missing: worker 0 of server 77: " in said
    assert message in said


def test_a_missing_response_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "ANSWER_TIMEOUT", 0.05)
    machine = Machine(tmp_path)
    directory = machine.runtime / "servers" / "77"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(directory / "0"))
        deaf.listen()
        found = discovery.discover(machine.host)
    (text,) = found.unanswered
    assert text.startswith("worker 0 of server 77 did not answer in 0.05 s; ")


def test_a_closed_connection_is_reported(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    directory = machine.runtime / "servers" / "77"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "0"))
        listener.listen()

        def close_connections() -> None:
            for _ in range(2):  # discovery asks once more
                listener.accept()[0].close()

        thread = threading.Thread(target=close_connections)
        thread.start()
        found = discovery.discover(machine.host)
        thread.join()
    assert found.unanswered == ["worker 0 of server 77 closed the connection"]


def test_a_response_to_another_request_is_rejected(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with (
        worker(machine, lambda method, params: {"ids": []}) as path,
        control_client.ControlClient(path, "worker 0") as client,
    ):
        assert client.end_sessions(["a"], force=True) == []
        client._socket.sendall(b'{"jsonrpc":"2.0","id":9,"method":"x"}\n')
        with pytest.raises(control_client.NoAnswer, match="answered another request"):
            client.request("sessions")


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (b"", None),
        (b"[]\n", "not an object"),
        (b'{"method":"x"}\n', "not an object"),
        (b"x" * ((1 << 20) + 1), "a line of over 1048576 bytes"),
    ],
)
def test_notifications(tmp_path: Path, last: bytes, message: str | None) -> None:
    """Those before a response are skipped: the application may send them."""
    path = str(tmp_path / "0")
    notice = b'{"jsonrpc":"2.0","method":"%b","params":{"a":1}}\n'
    response = b'{"jsonrpc":"2.0","id":1,"result":{"b":2}}\n'

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(notice % b"early" + response + notice % b"x" + last)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        with control_client.ControlClient(path, "worker 0") as client:
            assert client.request("attach") == {"b": 2}
            notifications = client.notifications()
            assert next(notifications) == ("x", {"a": 1})
            if message is None:
                assert list(notifications) == []
            else:
                with pytest.raises(control_client.NoAnswer, match=message):
                    next(notifications)
        thread.join()


class Clock:
    """A clock that goes on by a second each time it is read."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@contextmanager
def endless(machine: Machine) -> Iterator[str]:
    """A worker that sends a response without an end."""
    directory = machine.runtime / "servers" / "77"
    directory.mkdir()

    def send(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            while True:
                connection.send(b" " * 1000)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "0"))
        listener.listen()
        thread = threading.Thread(target=send, args=(listener,))
        thread.start()
        try:
            yield str(directory / "0")
        finally:
            thread.join()


@pytest.mark.parametrize("bound", ["time", "bytes"])
def test_a_response_without_an_end_is_reported(
    bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == "time":
        monkeypatch.setattr(control_client, "time", Clock())
    else:
        monkeypatch.setattr(control_client, "MAX_RECEIVED", 100_000)
    machine = Machine(tmp_path)
    with endless(machine):
        found = discovery.discover(machine.host)
    (text,) = found.unanswered
    assert text.startswith("worker 0 of server 77: a response of over 10 s, or ")


def test_only_sockets_are_connected(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with worker(machine, respond_in_pages) as path:
        (machine.runtime / "servers/77/1").symlink_to(path)
        (machine.runtime / "servers/77/2").touch()
        found = discovery.discover(machine.host)
    assert len(found.sessions) == 3
    assert found.unanswered == [
        f"worker {number} of server 77: {machine.runtime}/servers/77/{number} "
        "is not a socket; remove it"
        for number in (1, 2)
    ]


@only_root
def test_the_socket_of_another_user_is_not_believed(tmp_path: Path) -> None:
    """A process of this user serves it: whoever owns the path could have led here."""
    machine = Machine(tmp_path)
    with worker(machine, respond_in_pages) as path:
        os.chown(path, 65534, 65534)
        found = discovery.discover(machine.host)
    assert not found.sessions
    (text,) = found.unanswered
    assert text == (
        f"worker 0 of server 77: {path} belongs to another user than its process; "
        "remove it"
    )


@only_root
def test_links_of_another_user_lead_to_no_server(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with worker(machine, respond_in_pages):
        link = machine.runtime / "servers/78"
        link.symlink_to("77")
        assert len(discovery.discover(machine.host).sessions) == 6
        os.lchown(link, 65534, 65534)
        assert len(discovery.discover(machine.host).sessions) == 3
