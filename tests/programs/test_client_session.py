"""The client library with fake servers: each test runs through both APIs.

Hostile servers are in test_client_hostile_server.py, real ones in
test_client_with_server.py.
"""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from chimirror.client import (
    Completed,
    ConnectTimeout,
    Exit,
    ExitFailure,
    InvalidURL,
    LineTooLong,
    NotConnected,
    NotDelivered,
    Output,
    Refused,
    SessionLost,
    SessionOver,
    Unread,
    Untrusted,
    blocking,
)
from client_apis import APIS, Connect
from client_scripts import echo, send_session, sends
from connect_process import bare_server, frame, request, upgrade
from fake_server import Remote, exited, fake, output
from processes import until
from tls_servers import certificate, server_context

__all__ = ["certificate"]

EVERY = bytes(range(256))


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


# Session.


def test_echo(connect: Connect) -> None:
    with fake(echo) as server, connect(server.url) as session:
        assert session.id == "x"
        session.send(EVERY)
        assert session.receive() == Output("stdout", EVERY)
        assert session.receive() == ("stderr", EVERY[::-1])
        session.send("ä\n")
        assert [session.exit] == [None]
        session.end_input()
        session.end_input()
        with pytest.raises(ValueError, match="the input has been ended"):
            session.send(b"more")
        assert list(session) == [
            ("stdout", "ä\n".encode()),
            ("stderr", "ä\n".encode()[::-1]),
        ]
        assert session.receive() is None
        assert session.wait() == (3, None, "exit 3", 1011)
        assert session.exit == session.wait()
        with pytest.raises(SessionOver, match="has ended: exit 3"):
            session.send(b"more")
        with pytest.raises(SessionOver):
            session.signal("INT")


def test_a_large_message_is_sent_in_order(connect: Connect) -> None:
    data = b"".join(b"%d " % number for number in range(50_000))
    with fake(echo) as server, connect(server.url) as session:
        session.stderr.discard()
        session.send(memoryview(data))
        session.end_input()
        assert b"".join(session.stdout) == data


@pytest.mark.parametrize(
    ("message", "close", "exit_"),
    [
        ({"code": 0}, (1000, "exit 0"), Exit(0, None, "exit 0", 1000)),
        ({"code": 7}, None, Exit(7, None)),
        (
            {"signal": "SEGV"},
            (1011, "signal SEGV"),
            (None, "SEGV", "signal SEGV", 1011),
        ),
        (
            {"signal": "KILL"},
            (1011, "out of memory"),
            (None, "KILL", "out of memory", 1011),
        ),
    ],
)
def test_exits(
    connect: Connect,
    message: dict[str, object],
    close: tuple[int, str] | None,
    exit_: tuple[object, ...],
) -> None:
    sent = frame(json.dumps({"type": "exit", **message}))
    if close:
        sent += frame(close[0].to_bytes(2, "big") + close[1].encode(), 0x88)
    with bare_server() as (url, take):
        server = threading.Thread(target=lambda: play(take, sent))
        server.start()
        with connect(url) as session:
            found = session.wait()
        server.join()
    assert found == exit_
    assert found.retry is False
    if found.code == 0:
        found.check()
    else:
        with pytest.raises(ExitFailure, match=str(found)) as caught:
            found.check()
        assert caught.value.exit == found


def play(take, *sent: bytes) -> None:  # type: ignore[no-untyped-def]
    """Accept a session, send these frames at once, and close the connection."""
    with take() as peer:
        upgrade(peer, *sent)
        peer.half_close()
        while peer.socket.recv(65536):
            pass


# Reading.


def test_each_stream_by_itself(connect: Connect) -> None:
    said = [output(b"a"), output(b"b", "stderr"), output(b"c"), output(b"d", "stderr")]
    with fake(sends(*said)) as server, connect(server.url) as session:
        assert list(session.stdout) == [b"a", b"c"]
        assert list(session.stderr) == [b"b", b"d"]
        session.wait().check()


def test_lines(connect: Connect) -> None:
    pieces = [b"one\ntw", b"o\r\n\n\xc3", b"\xa4", b"\nlast"]
    with fake(sends(*map(output, pieces))) as server, connect(server.url) as session:
        lines = session.stdout.lines()
        assert next(lines) == "one"
        assert list(session.stdout.lines()) == ["two", "", "ä", "last"]
        assert list(lines) == []


def test_lines_and_chunks_can_be_mixed(connect: Connect) -> None:
    pieces = [b"one\ntwo\nth", b"ree\n", b"four"]
    with fake(sends(*map(output, pieces))) as server, connect(server.url) as session:
        session.wait()
        lines = session.stdout.lines()
        assert next(lines) == "one"
        assert next(iter(session.stdout)) == b"two\nth"
        assert next(lines) == "ree"
        assert list(session) == [("stdout", b"four")]


def test_lines_that_are_too_long_or_not_utf8(connect: Connect) -> None:
    said = [output(b"longer\nshort\n\xff\nx\n")]
    with fake(sends(*said)) as server, connect(server.url) as session:
        lines = session.stdout.lines(limit=5)
        for _ in range(2):
            with pytest.raises(LineTooLong, match="longer than 5 bytes"):
                next(lines)
        assert next(iter(session.stdout)) == b"longer\n"
        assert next(lines) == "short"
        with pytest.raises(UnicodeDecodeError):
            next(lines)
        assert list(session.stdout.lines(encoding="ascii")) == ["x"]


def test_polling(connect: Connect) -> None:
    proceed = threading.Event()

    def handler(ws: Remote) -> None:
        send_session(ws)
        proceed.wait()
        sends(output(b"late"))(ws)

    with fake(handler) as server, connect(server.url) as session:
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match="not finished within"):
                session.receive(timeout=timeout)
        with pytest.raises(TimeoutError):
            session.wait(timeout=0.01)
        proceed.set()
        assert session.receive(timeout=200) == ("stdout", b"late")
        assert session.receive(timeout=200) is None


def test_the_other_stream_is_kept_up_to_a_limit(connect: Connect) -> None:
    much = [output(bytes(1 << 16), "stderr")] * 6
    with fake(sends(*much, output(b"end"))) as server, connect(server.url) as session:
        for _ in range(2):
            with pytest.raises(Unread, match="unread stderr blocks"):
                next(iter(session.stdout))
            with pytest.raises(Unread):
                session.wait()
        assert session.receive() == ("stderr", bytes(1 << 16))
        session.stderr.discard()
        assert list(session.stdout) == [b"end"]
        assert list(session.stderr) == []
        assert session.wait().code == 0


def test_two_readers_take_turns(connect: Connect) -> None:
    """Unread output of one stream delays the other reader. Nothing is lost."""
    size = 1 << 22
    block = [output(bytes(1 << 16)), output(bytes(1 << 16), "stderr")]
    found: dict[str, int] = {}
    with fake(sends(*block * (size >> 16))) as server, connect(server.url) as session:
        chunks = {"stdout": iter(session.stdout), "stderr": iter(session.stderr)}

        def read(name: str) -> None:
            found[name] = sum(map(len, chunks[name]))

        threads = [threading.Thread(target=read, args=(name,)) for name in chunks]
        for thread in threads:
            thread.start()
        assert session.wait().code == 0
        for thread in threads:
            thread.join()
    assert found == {"stdout": size, "stderr": size}


# Handlers.


def test_handlers(connect: Connect) -> None:
    received: list[object] = []
    said = [output(b"a"), output(b"b", "stderr"), error(b"no\x1b"), output(b"c")]
    with fake(sends(*said)) as server, connect(server.url) as session:
        session.on("stdout", received.append)
        session.on("stderr", received.append)
        session.on("error", received.append)
        session.on("exit", received.append)
        found = session.run()
        session.run()
        session.wait()
    assert received == [b"a", b"b", "no\\x1b", b"c", found]


def error(text: bytes) -> str:
    return json.dumps({"type": "error", "payload": base64.b64encode(text).decode()})


def test_readers_get_output_without_handler(connect: Connect) -> None:
    received: list[bytes] = []
    said = [output(b"a"), output(b"b", "stderr"), output(b"c")]
    with fake(sends(*said)) as server, connect(server.url) as session:
        session.on("stderr", received.append)
        assert list(session) == [("stdout", b"a"), ("stdout", b"c")]
    assert received == [b"b"]


def test_run_drops_output_without_handler(connect: Connect) -> None:
    received: list[bytes] = []
    much = [output(bytes(1 << 16))] * 8
    with (
        fake(sends(*much, output(b"b", "stderr"))) as server,
        connect(server.url) as session,
    ):
        session.on("stderr", received.append)
        session.run().check()
        assert list(session.stdout) == []
    assert received == [b"b"]


def test_a_handler_may_raise(connect: Connect) -> None:
    def refuse(data: bytes) -> None:
        raise LookupError

    with (
        fake(sends(output(b"a"), output(b"b"))) as server,
        connect(server.url) as session,
    ):
        session.on("stdout", refuse)
        for _ in range(2):
            with pytest.raises(LookupError):
                session.run()
        assert session.run().code == 0


def test_a_handler_cannot_read() -> None:
    """The handler would wait for itself."""
    with (
        fake(sends(output(b"a"))) as server,
        blocking.connect(server.url) as session,
    ):
        session.on("stdout", lambda data: session.receive())
        session.on("exit", lambda exit_: session.wait())
        for _ in range(2):
            with pytest.raises(RuntimeError, match="a handler cannot read"):
                session.run()
        assert session.run().code == 0


def test_unknown_kinds(connect: Connect) -> None:
    with (
        fake(sends()) as server,
        connect(server.url) as session,
        pytest.raises(ValueError, match="write one of stdout, stderr, error, exit"),
    ):
        session.on("data", print)  # type: ignore[call-overload]


def test_undelivered_messages(connect: Connect) -> None:
    said = [output(b"a"), error(b"unknown\ntype \xff"), output(b"b")]
    with fake(sends(*said)) as server, connect(server.url) as session:
        outputs = iter(session)
        assert next(outputs).data == b"a"
        with pytest.raises(
            NotDelivered, match=r"^the server says: unknown\\ntype \\xff$"
        ):
            next(outputs)
        assert next(outputs).data == b"b"
        assert next(outputs, None) is None


# communicate.


def test_communicating(connect: Connect) -> None:
    with fake(echo) as server, connect(server.url) as session:
        done = session.communicate(b"once")
    assert done == Completed(b"once", b"ecno", Exit(3, None, "exit 3", 1011))


def test_communicating_goes_on_after_a_timeout(connect: Connect) -> None:
    proceed = threading.Event()

    def handler(ws: Remote) -> None:
        send_session(ws)
        ws.send(output(b"early "))
        proceed.wait()
        echo(ws)

    with fake(handler) as server, connect(server.url) as session:
        with pytest.raises(TimeoutError):
            session.communicate("data", timeout=0.05)
        proceed.set()
        assert session.communicate().stdout == b"early data"


# Signals.


def test_signals(connect: Connect) -> None:
    got = []
    proceed = threading.Event()

    def handler(ws: Remote) -> None:
        send_session(ws)
        for number, message in enumerate(ws):
            got.append(message)
            if number == 0:
                proceed.wait()
            if number == 2:
                break
        ws.send(json.dumps({"type": "exit", "signal": "TERM"}))

    with fake(handler) as server, connect(server.url) as session:
        assert [session.responsive] == [True]
        session.send(b"x")
        until(lambda: got, "the input has arrived")
        session.signal("INT")
        assert [session.responsive] == [False]
        proceed.set()
        until(lambda: session.responsive, "the ping has been answered")
        session.signal(signal.SIGTERM)
        with pytest.raises(ValueError, match="write one of HUP, INT"):
            session.signal("STOP")
        assert session.wait().signal == "TERM"
    assert [message.get("name") for message in got] == [None, "INT", "TERM"]


def test_the_size_of_its_terminal(connect: Connect) -> None:
    """The size overtakes waiting input. Only sessions with a terminal have it."""
    got = []
    proceed = threading.Event()

    def handler(ws: Remote) -> None:
        ws.send('{"type":"session","id":"x","pty":true}')
        proceed.wait()
        for message in ws:
            got.append(message)
            if message["type"] == "eof":
                break
        ws.send(exited())

    with fake(handler) as server, connect(server.url) as session:
        assert [session.pty] == [True]
        session.resize(132, 50)
        sending = threading.Thread(target=session.send, args=(bytes(1 << 24),))
        sending.start()
        until(
            lambda: session._protocol.websocket.pending_bytes > 1 << 16, "input waits"
        )
        session.resize(65535, 1)
        proceed.set()
        sending.join()
        session.end_input()
        assert session.wait().code == 0
        with pytest.raises(SessionOver):
            session.resize(80, 24)
    sizes = [at for at, message in enumerate(got) if message["type"] == "resize"]
    assert [got[at] for at in sizes] == [
        {"type": "resize", "columns": 132, "rows": 50},
        {"type": "resize", "columns": 65535, "rows": 1},
    ]
    assert sizes[1] < len(got) - 10
    with fake(sends()) as server, connect(server.url) as session:
        assert [session.pty] == [False]
        with pytest.raises(ValueError, match="has no terminal"):
            session.resize(80, 24)


# Other framings.


@pytest.mark.parametrize(
    ("close", "found"),
    [
        ((1000, "exit 0"), Exit(0, None, "exit 0", 1000)),
        ((1011, "exit 42"), Exit(42, None, "exit 42", 1011)),
        ((1011, "signal KILL"), Exit(None, "KILL", "signal KILL", 1011)),
        ((1011, "out of memory"), Exit(None, "KILL", "out of memory", 1011)),
        ((1011, "exit 256"), None),
        ((1011, "error inside"), None),
        ((1001, "exit 0"), None),
        ((1001, "drain"), None),
        ((1000, ""), None),
    ],
)
def test_json(connect: Connect, close: tuple[int, str], found: Exit | None) -> None:
    values = [{"move": "e4"}, [1, None, "ä\n\ud800"], "text", 0]
    got = []

    def handler(ws: Remote) -> None:
        for message in ws:
            got.append(message)
            if len(got) == len(values):
                break
        ws.send(exited(9))  # not a message of this framing
        ws.send(output(b"{}\n"))
        ws.close(*close)

    with (
        fake(handler, subprotocol="chimirror.json.v1") as server,
        connect(server.url, framing="json") as session,
    ):
        for value in values:
            session.send(value)
        for wrong in (b"bytes", float("nan"), {1, 2}):
            with pytest.raises((TypeError, ValueError)):
                session.send(wrong)
        assert next(session.stdout.lines()) == "{}"
        for call in (session.end_input, session.communicate):
            with pytest.raises(ValueError, match="framing json cannot end the input"):
                call()
        with pytest.raises(ValueError, match="framing json carries no signals"):
            session.signal("INT")
        if found is not None:
            assert session.wait() == found
        else:
            with pytest.raises(SessionLost) as caught:
                session.wait()
            assert caught.value.retry is (close == (1001, "drain"))
    assert got == values


def test_lines_as_messages(connect: Connect) -> None:
    def handler(ws: Remote) -> None:
        for line in ws.texts():
            if line == "end":
                break
            ws.send(line)
        ws.close(1000, "exit 0")

    with (
        fake(handler, subprotocol="mcp") as server,
        connect(server.url, framing="lines", subprotocol="mcp") as session,
    ):
        session.send("one ä")
        session.send("")
        for wrong in (b"bytes", "two\nlines", "a\rb"):
            with pytest.raises((TypeError, ValueError)):
                session.send(wrong)
        session.send("end")
        assert list(session) == [("stdout", "one ä\n".encode()), ("stdout", b"\n")]
        assert session.wait().code == 0


# End.


def test_leaving_closes_after_queued_data(connect: Connect) -> None:
    got: list[str] = []

    def handler(ws: Remote) -> None:
        send_session(ws)
        got.extend(message["type"] for message in ws)
        got.append(str(ws.close_code))

    with fake(handler) as server, connect(server.url) as session:
        session.send(bytes(1 << 20))
    assert got == ["stdin"] * 32 + ["1000"]


def test_closing(connect: Connect) -> None:
    closes = []

    def handler(ws: Remote) -> None:
        send_session(ws)
        ws.send(output(b"unread"))
        assert not list(ws)
        closes.append(ws.close_code)

    with fake(handler) as server, connect(server.url) as session:
        session.close(4000, "enough")
        session.close()
        assert list(session) == []
        with pytest.raises(SessionLost, match="closed by this client") as caught:
            session.wait()
        assert (caught.value.session, caught.value.retry) == ("x", False)
        with pytest.raises(SessionOver):
            session.end_input()
        assert session.exit is None
    assert closes == [4000]


def test_aborting(connect: Connect) -> None:
    closes = []

    def handler(ws: Remote) -> None:
        send_session(ws)
        closes.extend([len(list(ws)), ws.close_code])

    with fake(handler) as server, connect(server.url) as session:
        session.abort()
        with pytest.raises(SessionOver):
            session.send(b"x")
    assert closes == [0, 1001]


def test_a_close_wakes_waiting_calls(connect: Connect) -> None:
    received: list[object] = []

    def handler(ws: Remote) -> None:
        send_session(ws)
        list(ws)

    with fake(handler) as server, connect(server.url) as session:

        def read() -> None:
            received.append(session.receive())

        def wait() -> None:
            with pytest.raises(SessionLost, match="closed by this client"):
                session.wait()
            received.append("lost")

        threads = [threading.Thread(target=one) for one in (read, wait)]
        for thread in threads:
            thread.start()
        session.close()
        for thread in threads:
            thread.join()
    assert sorted(map(str, received)) == ["None", "lost"]


def test_the_end_wakes_senders(connect: Connect) -> None:
    """The server does not read, so that sent data wait."""

    def handler(ws: Remote) -> None:
        send_session(ws)
        ws.message()
        ws.send(exited(5))
        ws.close(1011, "exit 5")

    with fake(handler) as server, connect(server.url) as session:

        def pour() -> None:
            while True:
                session.send(bytes(1 << 20))

        with pytest.raises(SessionOver, match="has ended: exit 5"):
            pour()
        assert session.wait().code == 5


def test_output_can_be_read_after_the_end(connect: Connect) -> None:
    with fake(sends(output(b"a"))) as server, connect(server.url) as session:
        session.wait().check()
    assert list(session.stdout) == [b"a"] if connect is APIS["blocking"] else True


# Failed connections.


def test_refusals(connect: Connect) -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nX: 1\r\nX: 2\r\n\r\n"
    with bare_server() as (url, take):

        def refuse() -> None:
            with take() as peer:
                request(peer)
                peer.send_raw(head + b"no room\x07\n")
                peer.half_close()

        server = threading.Thread(target=refuse)
        server.start()
        with pytest.raises(Refused) as caught, connect(url):
            pass
        server.join()
    error = caught.value
    assert str(error) == ("503 Service Unavailable: no room\\x07 (try again after 5)")
    assert (error.status, error.text) == (503, "no room\\x07")
    assert error.headers == {"retry-after": "5", "x": "1"}
    assert (error.retry, error.retry_after) == (True, 5)


@pytest.mark.parametrize("greeting", [None, b""])
def test_a_server_that_does_not_answer(
    connect: Connect, greeting: bytes | None
) -> None:
    text = "no message" if greeting is not None else "no response to the handshake"
    with bare_server() as (url, take):

        def keep() -> None:
            with take() as peer:
                if greeting is not None:
                    upgrade(peer, greeting)
                while peer.socket.recv(65536):
                    pass

        server = threading.Thread(target=keep)
        server.start()
        with (
            pytest.raises(ConnectTimeout, match=f"timeout: {text} from 127"),
            connect(url, timeout=1),
        ):
            pass
        server.join()


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("ftp://x/", {}, "it must begin with ws://"),
        ("ws://x/", {"framing": "bytes"}, "write one of stdio, json, lines, lsp"),
        ("ws://x/", {"size": (80, 65536)}, "65536 columns or rows; give each as 1 to"),
        ("ws://x/", {"size": (0, 24)}, "size: 0 columns or rows"),
        ("ws://x/", {"headers": {"A b": "c"}}, "not a valid field name"),
        (
            "ws://x/",
            {"headers": [("A", "b\r\nC: d")]},
            "must not contain control characters",
        ),
        ("ws://x/", {"headers": {"Upgrade": "h2c"}}, "belongs to the handshake"),
        ("ws://x/", {"origin": "x\r\nEvil: y"}, "must not contain control characters"),
        ("ws://x/", {"ssl": ssl.create_default_context()}, "only wss:// URLs"),
    ],
)
def test_invalid_arguments(
    connect: Connect, url: str, options: dict[str, object], text: str
) -> None:
    with pytest.raises(ValueError, match=text) as caught, connect(url, **options):
        pass
    assert isinstance(caught.value, InvalidURL) == url.startswith("ftp")


def test_nothing_listens(connect: Connect, tmp_path: Path) -> None:
    for url, text in (
        (f"ws+unix:{tmp_path}/none", "no such file or directory; is the server"),
        ("ws://127.0.0.1:1/", "connection refused; nothing listens there"),
        ("ws://no-such-host.invalid/", "cannot find the host"),
    ):
        with pytest.raises(NotConnected, match=text), connect(url):
            pass


def test_the_request(connect: Connect, tmp_path: Path) -> None:
    asked = []

    def handler(ws: Remote) -> None:
        asked.append(ws.request)
        sends()(ws)

    options = {
        "headers": {"X-A": "ä", "Host": "other", "user-agent": "mine"},
        "origin": "https://x.example",
    }
    with (
        fake(handler, path=f"{tmp_path}/s") as server,
        connect(f"{server.url}:/a?b", **options) as session,
    ):
        session.wait()
    (head,) = asked
    assert head.path == "/a?b"
    for name, values in {
        "Host": ["other"],
        "Origin": ["https://x.example"],
        "X-A": ["ä".encode().decode("latin-1")],
        "User-Agent": ["mine"],
    }.items():
        assert head.headers.get_all(name) == values


def test_a_server_that_cannot_be_reached(connect: Connect) -> None:
    """The backlog is full, so that the kernel answers no SYN."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        url = f"ws://localhost:{listener.getsockname()[1]}/"
        with (
            pytest.raises(ConnectTimeout, match="timeout: no connection from local"),
            connect(url, timeout=0.2),
        ):
            pass


def test_a_server_that_is_silent_about_tls(connect: Connect) -> None:
    context = ssl.create_default_context()  # takes its time
    with (
        bare_server() as (url, _),
        pytest.raises(ConnectTimeout, match="timeout: no TLS handshake from 127"),
        connect(f"wss{url[2:]}", timeout=1, ssl=context),
    ):
        pass


def test_tls(connect: Connect, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    with (
        fake(echo, context=server_context(certificate)) as server,
        connect(server.url, ssl=trusting) as session,
    ):
        session.stderr.discard()
        data = bytes(1 << 20)
        assert session.communicate(data).stdout == data
    with (
        fake(echo, context=server_context(certificate)) as server,
        pytest.raises(Untrusted, match="self-signed"),
        connect(server.url),
    ):
        pass


# Threads.


def test_the_data_of_one_call_stay_together(connect: Connect) -> None:
    size = 1 << 20
    with fake(echo) as server, connect(server.url) as session:
        session.stderr.discard()
        calls = [
            threading.Thread(target=session.send, args=(bytes([number]) * size,))
            for number in (1, 2)
        ]
        for call in calls:
            call.start()
        stdout = b""
        for chunk in session.stdout:
            stdout += chunk
            if len(stdout) == 2 * size:
                session.end_input()
        for call in calls:
            call.join()
    assert stdout in (
        b"\1" * size + b"\2" * size,
        b"\2" * size + b"\1" * size,
    )
