"""Tests pause, resume and call of chimirror-ctl, with real bridges and servers.

The same with units is in tests/systemd/test_control.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimirror.ctl.commands import control
from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError
from chimirror.ctl.paths import HostPaths
from fake_host import Machine, Screen, ctl, identity
from steered_session import Steered, of_a_bridge, of_a_server
from websocket_peer import Closed, stdin


@pytest.fixture(params=[of_a_server, of_a_bridge])
def steered(
    request: pytest.FixtureRequest, tmp_path: Path, sessions_directory: Path
) -> Iterator[Steered]:
    with request.param(tmp_path, sessions_directory) as found:
        yield found


def test_pause_and_resume(steered: Steered) -> None:
    assert steered.ask("pause", "stdout") == "paused: stdout\n"
    assert steered.ask("pause") == "paused: stdin, stdout, stderr\n"
    steered.peer.send(stdin(b"later"))
    assert steered.ask("resume", "stderr", "stdin") == "paused: stdout\n"
    assert steered.ask("resume") == "paused: nothing\n"
    assert steered.peer.output(5) == b"later"


def test_call(steered: Steered) -> None:
    status = json.loads(steered.ask("call", "status"))
    assert (status["id"], status["paused"]) == (steered.id, [])
    params = '{"streams":["stdin"]}'
    assert steered.ask("call", "pause", params) == '{"paused":["stdin"]}\n'
    odd = f'[{"[" * 600}"\\ud800",18446744073709551616{"]" * 600}]'
    params = f'{{"streams":[],\n"x":{odd}}}'
    assert steered.ask("call", "resume", params) == '{"paused":["stdin"]}\n'
    assert json.loads(steered.ask("call", "manifest"))["asyncapi"] == "3.0.0"
    assert steered.ask("call", "close") == "{}\n"
    assert steered.peer.transcript(wait=False).closed == Closed(1000, "closed")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("call", "dance"), os.EX_UNAVAILABLE, "no method 'dance'"),
        (("call", "signal", '{"name":"X"}'), os.EX_UNAVAILABLE, "is none of HUP"),
        (("call", "pause", "[]"), os.EX_UNAVAILABLE, "params go by name"),
        (("call", "pause", "stdout"), os.EX_USAGE, "PARAMS: not JSON"),
        (("call", "pause", "7"), os.EX_USAGE, "neither an object nor an array"),
        (
            ("pause", "stdlog"),
            os.EX_USAGE,
            '"stdlog" is not a stream; write stdin, stdout',
        ),
    ],
)
def test_mistakes(
    steered: Steered, words: tuple[str, ...], status: int, text: str
) -> None:
    found = steered.fail(*words)
    assert found[0] == status
    assert text in found[1]


def test_a_session_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        run(["pause", "abc"], HostPaths((str(tmp_path),)), Screen())
    assert caught.value.status == os.EX_NOINPUT


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (FileNotFoundError(2, "x"), os.EX_NOINPUT, "has ended, or is just starting"),
        (ConnectionRefusedError(111, "x"), os.EX_NOINPUT, "lists the live ones"),
        (ConnectionResetError(104, "x"), os.EX_NOINPUT, "has ended"),
        (PermissionError(13, "x"), os.EX_NOPERM, "permission denied; run it as root"),
        (TimeoutError(), os.EX_TEMPFAIL, "did not answer in 2 s; it is busy"),
        (BlockingIOError(11, "x"), os.EX_TEMPFAIL, "did not answer in 2 s"),
        (OSError(40, "Too many links"), os.EX_TEMPFAIL, ": Too many links"),
        (OSError("AF_UNIX path too long"), os.EX_TEMPFAIL, ": AF_UNIX path too long"),
    ],
)
def test_no_answer(
    error: OSError,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The error names the session and a cure, and no path."""

    def fail(_path: str) -> None:
        raise error

    machine = Machine(tmp_path)
    machine.unit(1)
    machine.tell(1)
    machine.unit(0x10)
    monkeypatch.setattr(os, "lstat", fail)
    with pytest.raises(CommandError) as caught:
        run(["call", identity(1), "status"], machine.host, Screen())
    assert caught.value.status == status
    assert str(caught.value).startswith("session 00000001")
    assert text in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_an_unreadable_response(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(control, "_call_session", lambda *_arguments: "[]")
    with pytest.raises(CommandError, match="session abc: unreadable resp") as caught:
        run(["pause", "abc"], HostPaths((str(tmp_path),)), Screen())
    assert caught.value.status == os.EX_TEMPFAIL


def test_what_an_application_says_cannot_move_a_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        control,
        "_call_session",
        lambda *_arguments: '{"\x9b2J\x7f\u202e\U0001f600":\r 1}',
    )
    expected = '{"\\u009b2J\\u007f\\u202e\\ud83d\\ude00":  1}\n'
    assert ctl(HostPaths(()), "call", "a", "x").text == expected
