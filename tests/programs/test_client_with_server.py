"""The client library with chimirror-server, both as real processes, in both APIs."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

import serve
from chimirror.client import Refused, SessionLost, SessionOver
from client_apis import APIS, Connect
from processes import Memory, until
from tls_servers import server_url


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


@pytest.mark.parametrize("way", ["server", "server-unix"])
def test_a_session(connect: Connect, way: str, tmp_path: Path) -> None:
    command = ["sh", "-c", "echo $CHIMIRROR_SESSION; tr a-z A-Z; echo oops >&2; exit 3"]
    with (
        serve.SERVICES[way](tmp_path, command) as service,
        connect(server_url(service)) as session,
    ):
        name = next(session.stdout.lines())
        assert session.id == name
        with pytest.raises(ValueError, match="has no terminal"):
            session.resize(80, 24)
        stdout, stderr, exit_ = session.communicate("no newline")
    assert (stdout, stderr) == (b"NO NEWLINE", b"oops\n")
    assert exit_ == (3, None, "exit 3", 1011)


def test_a_terminal(connect: Connect, tmp_path: Path) -> None:
    command = ["sh", "-c", "stty size; read -r _; stty size"]
    with (
        serve.server(tmp_path, command, "--pty") as service,
        connect(server_url(service), size=(132, 43)) as session,
    ):
        lines = session.stdout.lines()
        assert next(lines).rstrip() == "43 132"
        session.resize(111, 33)
        session.send("\n")
        assert next(lines).rstrip() == ""  # echo of the terminal
        assert next(lines).rstrip() == "33 111"
        assert session.wait().code == 0


@pytest.mark.parametrize("option", ["--direction=receive", "--read-only"])
def test_a_process_that_only_sends(
    connect: Connect, option: str, tmp_path: Path
) -> None:
    with (
        serve.server(tmp_path, ["seq", "3"], option) as service,
        connect(server_url(service)) as session,
    ):
        read_only = option == "--read-only"
        assert (session.direction, session.read_only) == ("receive", read_only)
        assert session.communicate(b"")[0] == b"1\n2\n3\n"


def test_every_framing(connect: Connect, tmp_path: Path) -> None:
    options = ("--framing", "json,lines,lsp,stdio")
    value = {"text": "ä\n\ud800", "numbers": [1, 2.5, None, True]}
    with serve.server(tmp_path, ["head", "-n", "1"], *options) as service:
        url = server_url(service)
        with connect(url, framing="json") as session:
            session.send(value)
            assert json.loads(next(session.stdout.lines())) == value
            assert session.wait() == (0, None, "exit 0", 1000)
        with connect(url, framing="lines") as session:
            session.send("ä")
            assert list(session) == [("stdout", "ä\n".encode())]
            assert session.wait().code == 0
    with (
        serve.server(tmp_path, ["cat"], *options) as service,
        connect(server_url(service), framing="lsp") as session,
    ):
        session.send(value)
        assert json.loads(next(session.stdout.lines())) == value
    body = "{\r\n}"
    command = ["printf", f"Content-Length: {len(body)}\\r\\n\\r\\n{body}"]
    with (
        serve.server(tmp_path, command, *options) as service,
        connect(server_url(service), framing="lsp") as session,
    ):
        assert list(session.stdout.lines()) == ["{  }"]


@pytest.mark.parametrize("framing", ["json", "stdio", "lines", "lsp"])
def test_another_name_of_a_framing(
    connect: Connect, framing: str, tmp_path: Path
) -> None:
    """With each name of the subprotocol, at each position in the server's list."""
    options = ("--framing", "json,lines,lsp,stdio", "--subprotocol", f"x={framing}")
    with (
        serve.server(tmp_path, ["cat"], *options) as service,
        connect(server_url(service), framing=framing, subprotocol="x") as session,
    ):
        session.send("12" if framing == "lines" else "12\n")
        assert "12" in next(session.stdout.lines())


def test_signals_reach_the_process(connect: Connect, tmp_path: Path) -> None:
    command = ["sh", "-c", "echo ready; exec cat"]
    with (
        serve.server(tmp_path, command) as service,
        connect(server_url(service)) as session,
    ):
        assert next(session.stdout.lines()) == "ready"
        session.signal("INT")
        assert session.wait() == (None, "INT", "signal INT", 1011)
        with pytest.raises(SessionOver, match="has ended: signal INT"):
            session.send(b"x")


def test_leaving_ends_the_process(connect: Connect, tmp_path: Path) -> None:
    with serve.server(tmp_path, ["sleep", "1000"]) as service:
        with connect(server_url(service)) as session:
            until(service.applications, "the process runs")
            assert session.exit is None
        until(lambda: not service.applications(), "the process has gone")


def test_a_refusal(connect: Connect, tmp_path: Path) -> None:
    with serve.server(tmp_path, ["cat"]) as service:
        with (
            pytest.raises(Refused, match=r"^403 Forbidden: Origin") as caught,
            connect(server_url(service), origin="https://evil.example"),
        ):
            pass
        assert caught.value.status == 403
        with (
            pytest.raises(Refused, match="no subprotocol that is served here"),
            connect(server_url(service), framing="lines"),
        ):
            pass


def test_a_server_that_goes_down(connect: Connect, tmp_path: Path) -> None:
    with (
        serve.server(tmp_path, ["cat"], "--drain-timeout", "0.1") as service,
        connect(server_url(service)) as session,
    ):
        service.stop()
        with pytest.raises(SessionLost, match="the server is shutting down") as caught:
            session.wait()
        assert (caught.value.close_code, caught.value.reason) == (1001, "drain")


def test_much_there_and_back_in_little_memory(connect: Connect, tmp_path: Path) -> None:
    size, block = 24 << 20, bytes(1 << 18)
    memory = Memory([os.getpid()])
    with (
        serve.server(tmp_path, ["cat"]) as service,
        connect(server_url(service)) as session,
    ):

        def feed() -> None:
            for _ in range(size // len(block)):
                session.send(block)
            session.end_input()

        feeding = threading.Thread(target=feed)
        feeding.start()
        # Back-pressure stops the process, and then the thread that sends to it.
        assert sum(len(chunk) for chunk in session.stdout) == size
        feeding.join()
        assert session.wait().code == 0
    assert memory.growth() < 16 << 20
