"""The side of a target: connections, directions, full pipes. With both APIs.

The test process connects to the services itself, instead of the target.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chimirror.services import NotConnected, PeerClosed
from processes import PATIENCE
from service_apis import VARIABLE, Api, directory_of, python
from service_fixtures import api, runtime, serve, stdin, watch

__all__ = ["api", "runtime", "serve", "stdin", "watch"]

BOTH = {"receive": int, "send": int}


@pytest.mark.usefixtures("watch")
def test_each_direction_is_closed_by_itself(
    api: Api, serve: Callable[..., Any]
) -> None:
    _, pipe = serve(a=BOTH)
    with api.connect("a", receive=int, send=int) as peer:
        peer.send(1)
        peer.close_send()
        peer.close_send()
        assert list(pipe) == [1]
        pipe.send(2)
        pipe.close_send()
        assert list(peer) == [2]
        for closed in (peer.send, pipe.send):
            with pytest.raises(ValueError, match="closed"):
                closed(3)


def test_the_other_side_stops_reading(api: Api, serve: Callable[..., Any]) -> None:
    _, pipe = serve(a=BOTH)
    with api.connect("a", receive=int, send=int) as peer:
        peer.close_receive()
        with pytest.raises(PeerClosed, match="service a: the other side reads no more"):
            fill(pipe)
        pipe.close_receive()
        with pytest.raises(PeerClosed, match="reads no more"):
            fill(peer)
        with pytest.raises(ValueError, match="closed"):
            pipe.receive()


def fill(pipe: Any) -> None:
    """Send until a send fails."""
    while True:
        pipe.send(1)


@pytest.mark.usefixtures("watch")
def test_what_was_sent_before_the_target_opens_the_fifo(
    api: Api, serve: Callable[..., Any]
) -> None:
    server, pipe = serve(a={"send": int})
    for value in range(3):
        pipe.send(value)
    pipe.close_send()
    waiter = threading.Thread(target=server.wait)
    waiter.start()
    with api.connect("a", receive=int) as peer:
        assert list(peer) == [0, 1, 2]
        assert list(peer) == []
    server.kill()
    waiter.join()


def test_a_direction_is_used_once(api: Api, serve: Callable[..., Any]) -> None:
    """A later open neither waits nor creates a file."""
    server, pipe = serve(a=BOTH)
    with api.connect("a", receive=int, send=int) as peer:
        peer.send(1)
    assert list(pipe) == [1]
    with pytest.raises(PeerClosed):
        fill(pipe)
    with pytest.raises(NotConnected, match="this direction was closed before"):
        api.connect("a", send=int)
    with pytest.raises(NotConnected, match="this direction was closed before"):
        api.connect("a", receive=int)
    for redirection in (">", ">>", "<"):
        for file in ("a.in", "a.out"):
            script = f'true {redirection}"${VARIABLE}/{file}"'
            assert subprocess.run(["sh", "-c", script], capture_output=True).returncode
    assert not [x for x in Path(directory_of(server)).iterdir() if x.is_file()]


def test_no_service(api: Api, serve: Callable[..., Any]) -> None:
    serve(sums={"receive": int}, log={"send": int})
    for name, named, message in (
        ("x", BOTH, "no service x; it has: log, sums"),
        ("sums", BOTH, "service sums: the server sends nothing there"),
        ("log", {"send": int}, "service log: the server receives nothing there"),
    ):
        with pytest.raises(NotConnected, match=message):
            api.connect(name, **named)
    with pytest.raises(ValueError, match="write receive"):
        api.connect("sums")
    with pytest.raises(ValueError, match="no name of a service"):
        api.connect("../x", send=int)


@pytest.mark.parametrize("value", [None, "", "/nowhere"])
def test_no_server(
    api: Api, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(NotConnected, match=VARIABLE):
        api.connect("a", send=int)


def test_the_fifos_of_a_server_that_has_gone(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    os.mkfifo(tmp_path / "a.in")
    os.mkfifo(tmp_path / "a.out")
    for named in ({"send": int}, {"receive": int}, BOTH):
        with pytest.raises(NotConnected, match="service a: its server has ended"):
            api.connect("a", **named)


def test_a_full_pipe_pauses_the_sender(api: Api, serve: Callable[..., Any]) -> None:
    """Both directions at once, each many times the capacity of a pipe."""
    _, pipe = serve(a={"receive": str, "send": str})
    with api.connect("a", receive=str, send=str) as peer:
        threads = [
            threading.Thread(target=send_all, args=(end,)) for end in (pipe, peer)
        ]
        for thread in threads:
            thread.start()
        for end in (peer, pipe):
            assert [end.receive() for _ in VALUES] == VALUES
        for thread in threads:
            thread.join()


VALUES = [str(number) * (number % 9000) for number in range(0, 20000, 97)]


def send_all(pipe: Any) -> None:
    for value in VALUES:
        pipe.send(value)


def send_in_time(pipe: Any) -> int:
    """Send without a wait until the pipe is full. Returns the number of values."""
    for number in range(10**6):
        try:
            pipe.send(str(number) * 3000, timeout=0)
        except TimeoutError:
            return number
    raise AssertionError("a pipe that is never full")


def test_a_time_limit(api: Api, serve: Callable[..., Any]) -> None:
    """After a timeout, a value is either not sent or follows later."""
    _, pipe = serve(a={"receive": str})
    with api.connect("a", send=str) as peer:
        with pytest.raises(TimeoutError):
            pipe.receive(timeout=0)
        peer.send("in time")
        assert pipe.receive(timeout=0) == "in time"
        sent = send_in_time(peer)
        with pytest.raises(TimeoutError):
            peer.send("x" * 100_000, timeout=0)
        reader = threading.Thread(target=lambda: found.extend(pipe))
        found: list[str] = []
        reader.start()
        peer.send("last")
        peer.close_send()
        reader.join()
    assert found[:sent] == [str(number) * 3000 for number in range(sent)]
    assert found[-1] == "last"
    assert found[sent:-1] in ([], [str(sent) * 3000])


def test_a_paused_pipe_does_not_stop_the_others(api: Api) -> None:
    script = """
from chimirror.services import connect
slow = connect("slow", send=int, receive=str)
fast = connect("fast", send=int, receive=int)
for number in range(100):
    slow.send(number)
for number in range(100):
    fast.send(number)
    assert fast.receive() == number
for number in range(100):
    assert slow.receive() == str(number) * 10_000
"""
    server = api.server(python(script))
    server.pipe("slow", receive=int, send=str).handler(lambda n: str(n) * 10_000)
    server.pipe("fast", receive=int, send=int).handler(lambda n: n)
    server.run().check()


def test_close_wakes_a_receive_in_another_thread(
    api: Api, serve: Callable[..., Any]
) -> None:
    _, pipe = serve(a=BOTH)
    with api.connect("a", receive=int, send=int) as peer:
        errors: list[BaseException] = []

        def receive(end: Any) -> None:
            try:
                end.receive()
            except ValueError as error:
                errors.append(error)

        for end in (peer, pipe):
            thread = threading.Thread(target=receive, args=(end,))
            thread.start()
            end.close_receive()
            thread.join(PATIENCE)
        assert [str(error) for error in errors] == [
            "service a: this direction is closed"
        ] * 2
