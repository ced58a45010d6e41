"""Where live sessions are found, and which of them are believed."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chimirror.ctl import control, sources
from chimirror.ctl.cgroups import Usage
from chimirror.ctl.failure import Failure
from chimirror.ctl.live import Live
from chimirror.wire.control import Call, Fault, serve
from hosts import Machine, identity, status


def ids(found: sources.Found) -> list[str]:
    return sorted(one.id for one in found.sessions)


# Bridges


def test_a_units_session(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    unit = machine.unit(1)
    machine.tell(1)
    found = sources.gather(machine.host)
    (one,) = found.sessions
    assert (one.id, one.unit, one.peer) == (identity(1), unit, "192.0.2.1:4711")
    assert (one.state, one.bytes_in, one.server) == ("open", 1, 0)
    assert one.usage == Usage(0.25, 1_000_000, 2)
    assert (found.denied, found.silent) == ([], [])


def test_a_unit_that_has_said_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.unit(1, "chimirror-game")
    environ = "REMOTE_ADDR=2001:db8::7\0REMOTE_PORT=4711\0"
    machine.process(101, environ=environ)
    (one,) = sources.gather(machine.host).sessions
    assert (one.id, one.state, one.peer) == (
        identity(1),
        "unknown",
        "[2001:db8::7]:4711",
    )
    assert (one.application, one.bytes_in, one.pid) == ("game", None, 101)
    assert one.started > 0


def test_a_bridge_without_a_unit(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.tell(1)
    machine.process(101)
    machine.process(5001, "cat")
    (one,) = sources.gather(machine.host).sessions
    assert (one.id, one.unit) == (identity(1), "")
    assert one.usage == Usage(2 * 200 / os.sysconf("SC_CLK_TCK"), 2 << 20, 4)


def test_stale_files_go(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = machine.tell(1)  # no such process, no such unit
    assert not sources.gather(machine.host).sessions
    assert not file.exists()


def test_a_file_of_a_bridge_that_died_before_it_wrote_goes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    left = machine.write(f"runtime/sessions/{identity(1)}", "")
    control = machine.write(f"runtime/sessions/{identity(1)}.control", "")
    kept = machine.write(f"runtime/sessions/{identity(2)}", "")
    machine.process(102)
    (machine.directory / "proc/102/fd").mkdir()
    (machine.directory / "proc/102/fd/5").symlink_to(kept)
    (machine.directory / "proc/102/fd/6").symlink_to(tmp_path / "closed")
    machine.process(103)  # just going: its descriptors are closed
    os.mkfifo(machine.runtime / "sessions" / identity(3))
    assert not sources.gather(machine.host).sessions
    assert not left.exists()
    assert not control.exists()
    assert kept.exists()
    assert (machine.runtime / "sessions" / identity(3)).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_file_that_somebody_may_have_open_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    kept = machine.write(f"runtime/sessions/{identity(1)}", "")
    machine.process(102)
    (machine.directory / "proc/102/fd").mkdir(0o700)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    (machine.runtime / "sessions").chmod(0o777)
    os.seteuid(65534)
    try:
        assert not sources.gather(machine.host).sessions
    finally:
        os.seteuid(0)
    assert kept.exists()


def test_files_that_are_not_believed_stay(tmp_path: Path) -> None:
    """Somebody has put them there: another program, another user, another id."""
    machine = Machine(tmp_path)
    program = machine.tell(1)
    machine.process(101, "vim")
    other = machine.tell(2)
    machine.process(102)
    os.chown(other, 65534, 65534)
    moved = machine.tell(3).rename(machine.runtime / "sessions" / identity(4))
    machine.process(103)
    assert not sources.gather(machine.host).sessions
    assert program.exists()
    assert other.exists()
    assert moved.exists()


def test_a_file_cannot_speak_for_a_unit_it_does_not_belong_to(tmp_path: Path) -> None:
    """It names the pid of a bridge that is a unit: what is done goes by its id."""
    machine = Machine(tmp_path)
    unit = machine.unit(1)
    machine.tell(1)
    machine.process(101)
    machine.tell(2, pid=101, peer="forged")
    machine.process(1, "init")
    os.chown(machine.runtime / "sessions" / identity(2), 65534, 65534)
    found = sources.gather(machine.host)
    assert [(one.id, one.unit) for one in found.sessions] == [(identity(1), unit)]


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
def test_what_is_no_status_is_passed_over(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path)
    machine.write(f"runtime/sessions/{identity(1)}", text)
    machine.process(101)
    assert not sources.gather(machine.host).sessions


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """It would be waited for, or lead elsewhere."""
    machine = Machine(tmp_path)
    place = machine.runtime / "sessions"
    os.mkfifo(place / identity(1))
    (place / identity(2)).symlink_to(machine.write("else", json.dumps(status(2))))
    (place / identity(3)).mkdir()
    machine.write(f"runtime/sessions/x{identity(4)[1:]}", json.dumps(status(4)))
    for number in range(1, 5):
        machine.process(100 + number)
    assert not sources.gather(machine.host).sessions


def test_no_runtime_directory(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    host = machine.host._replace(places=(str(tmp_path / "nowhere"),))
    assert sources.gather(host) == sources.Found([], [], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_others_are_denied(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    machine = Machine(tmp_path)
    tmp_path.chmod(0o755)
    machine.runtime.chmod(0o755)
    (machine.runtime / "sessions").chmod(0o1730)
    (machine.runtime / "servers").chmod(0o711)
    for directory in tmp_path.parents[:2]:
        directory.chmod(0o755)
    os.seteuid(65534)
    try:
        found = sources.gather(machine.host)
    finally:
        os.seteuid(0)
    assert [Path(place).name for place in found.denied] == ["sessions", "servers"]
    with pytest.raises(Failure, match="permission denied; ask as root") as caught:
        found.complain()
    assert caught.value.status == os.EX_NOPERM
    found.sessions.append(Live("a", 1, 1))  # a unit: that it is there, all may see
    with pytest.raises(Failure):
        found.complain()
    found.sessions.append(Live("b", 1, 1, state="open"))
    assert found.complain() == os.EX_OK
    assert capfd.readouterr().err.count("some sessions are missing") == 2


# Servers


@contextmanager
def worker(
    machine: Machine, perform: Callable[[str, Any], object], number: int = 0
) -> Iterator[str]:
    """A worker's end of a control socket, that serves one client after the other."""
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
    def answering(call: Call) -> None:
        call.answer(perform(call.method, call.params))

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rwb") as file:
            for line in file:
                answers: list[bytes] = []
                try:
                    serve(line, answering, answers.append)
                    file.write(b"".join(answers))
                    file.flush()
                except BrokenPipeError:
                    break


def paged(method: str, params: dict[str, Any]) -> object:
    """Three sessions on two pages."""
    assert method == "sessions"
    if "more" in params:
        return {"sessions": [status(3)], "more": False}
    return {"sessions": [status(1), status(2, application="game")], "more": True}


def test_the_sessions_of_a_worker(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.process(5001, "cat")
    with worker(machine, paged) as path:
        found = sources.gather(machine.host)
    assert ids(found) == [identity(1), identity(2), identity(3)]
    one, other, _ = found.sessions
    assert (one.server, one.socket, one.unit) == (77, path, "")
    assert (one.application, other.application) == ("", "game")
    assert one.usage.tasks == 2
    assert found.complain() == os.EX_OK


def test_a_socket_that_nobody_serves_is_passed_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with worker(machine, paged):
        pass
    (machine.runtime / "servers" / "no-number").mkdir()
    found = sources.gather(machine.host)
    assert not found.sessions
    assert found.complain() == os.EX_OK


def refuse(method: str, params: object) -> object:
    raise Fault(-32000, "not today")


@pytest.mark.parametrize(
    ("perform", "said"),
    [
        (refuse, "not today"),
        (lambda method, params: [], "not an object but list"),
        (lambda method, params: {}, "sessions is not a list"),
        (lambda method, params: {"sessions": [1]}, "not an object but int"),
        (lambda method, params: {"sessions": [{}]}, "id is not a string"),
        (lambda method, params: {"sessions": [], "more": 1}, "more is neither"),
    ],
)
def test_a_worker_that_answers_nonsense_is_told_of(
    tmp_path: Path,
    perform: Callable[[str, Any], object],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The others are still asked."""
    machine = Machine(tmp_path)
    with worker(machine, perform), worker(machine, paged, 1):
        found = sources.gather(machine.host)
    assert len(found.sessions) == 3
    assert found.complain() == os.EX_TEMPFAIL
    assert said in capfd.readouterr().err


def test_a_worker_that_does_not_answer_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    machine = Machine(tmp_path)
    directory = machine.runtime / "servers" / "77"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(directory / "0"))
        deaf.listen()
        found = sources.gather(machine.host)
    (text,) = found.silent
    assert text == f"{directory}/0 has not answered in 0.05 s"


def test_a_worker_that_hangs_up_is_told_of(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    directory = machine.runtime / "servers" / "77"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "0"))
        listener.listen()

        def hang_up() -> None:
            for _ in range(2):  # it is asked once more
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        found = sources.gather(machine.host)
        thread.join()
    assert found.silent == [f"{directory}/0 has hung up"]


def test_an_answer_to_something_else_is_no_answer(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with (
        worker(machine, lambda method, params: {"ids": []}) as path,
        control.Worker(path) as asked,
    ):
        assert asked.end(["a"], force=True) == []
        asked._handle.sendall(b'{"jsonrpc":"2.0","id":9,"method":"x"}\n')
        with pytest.raises(control.Silent, match="has answered something else"):
            asked.ask("sessions")
