"""Servers and bridges that ask an authorizer: the cost of a faulty one, and secrets.

The helper is tests/support/authorizer_helper.py. The user of the client's credentials
says how it answers.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from authorizers import HELPER
from chimirror.access.authorizer import MAX_ASKED
from chimirror.log.records import SESSION_STARTED
from processes import MARK, PATIENCE, Memory, ended, marked, read, until
from serve import LAUNCH, SERVICES, Service, server, socat
from websocket_peer import Closed, Peer, Reply, upgrade

SECRET = "pa55-of-a-client"
COMMAND = ["sh", "-c", 'echo "$REMOTE_USER $AUTH_TYPE $REMOTE_GROUPS"; exec cat']
TRANSPORTS = ["server", "server-pure", "socat", "socat-pipes"]
ONE_WORKER = ("--workers", "1", "--max-handshakes-per-source", "500")


def authorize(*words: str) -> tuple[str, ...]:
    """Options for a helper. It has the mark of the test, so that none is left."""
    command = " ".join([sys.executable, str(HELPER), *words])
    return ("--authorize", f"exec:{command}", "--pass-env", MARK)


def basic(words: str) -> str:
    """Return the field of credentials that tell the helper how to answer."""
    text = base64.b64encode(f"{words}:{SECRET}".encode()).decode()
    return f"Authorization: Basic {text}"


def ask(service: Service, *fields: str) -> Peer:
    """Send a handshake, and do not wait for its response."""
    peer = Peer(service.connect())
    peer.send_raw(upgrade("/", "stdio", fields))
    return peer


@contextmanager
def session(service: Service, *fields: str) -> Iterator[Peer]:
    """A session of a client that the helper allows."""
    with ask(service, *fields) as peer:
        assert peer.head().status == 101
        yield peer


def refusal(service: Service, *fields: str) -> Reply:
    with ask(service, *fields) as peer:
        return peer.refusal()


def line_of(peer: Peer) -> str:
    """Return the first line of the application: user, type and groups."""
    data = b""
    while not data.endswith(b"\n"):
        data += peer.output(1)
    return data.decode().strip()


def helper_of(peer: Peer) -> int:
    """Return the pid of the helper that has answered, which is the group."""
    return int(line_of(peer).split()[2])


def started(service: Service) -> int:
    """Return the number of sessions so far."""
    return service.log.read_text().count(SESSION_STARTED)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_helper_names_the_user_of_a_session(tmp_path: Path, transport: str) -> None:
    with (
        SERVICES[transport](tmp_path, COMMAND, *authorize()) as service,
        session(service, basic("yes ann")) as peer,
    ):
        assert line_of(peer) == "ann Basic"
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_helper_refuses_a_client(tmp_path: Path, transport: str) -> None:
    with SERVICES[transport](tmp_path, COMMAND, *authorize()) as service:
        reply = refusal(service, basic("no"))
        assert reply.status == 401
        assert reply.fields["www-authenticate"] == 'Basic realm="x"'
        assert b"wrong" in reply.body
        assert not started(service)


@pytest.mark.parametrize("kind", ["garbage", "die", "other", "long", "echo"])
def test_a_faulty_helper_is_an_error_of_the_service(tmp_path: Path, kind: str) -> None:
    """The client learns no reason, and the next one is served again."""
    options = (*authorize(), *ONE_WORKER)
    with server(tmp_path, COMMAND, *options) as service:
        reply = refusal(service, basic(kind))
        assert reply.status == 503
        assert int(reply.fields["retry-after"]) >= 1
        assert b"helper" not in reply.body
        with session(service, basic("yes ann")):
            pass
        service.find("(it is started again in 0.1 s at the earliest)")
        assert not secrets_in(service.log.read_bytes())


def test_a_helper_that_never_answers(tmp_path: Path) -> None:
    options = (*authorize(), "--authorize-timeout", "0.2s")
    with socat(tmp_path, COMMAND, *options) as service:
        assert refusal(service, basic("hang")).status == 503
        service.find(r"(no answer within 0\.2 s)")


def test_an_answer_comes_after_its_client_has_gone(tmp_path: Path) -> None:
    options = (*authorize("pid"), *ONE_WORKER)
    with server(tmp_path, COMMAND, *options) as service:
        with session(service, basic("yes ann")) as peer:
            helper = helper_of(peer)
        for _ in range(3):
            ask(service, basic("late")).close()
        for _ in range(2):  # the late answers follow the first of these
            with session(service, basic("yes ann")) as peer:
                assert helper_of(peer) == helper
        service.await_ends(3)
        assert started(service) == 3
        assert "internal error" not in service.log.read_text()


def test_a_hung_helper_stalls_no_other_client(tmp_path: Path) -> None:
    """A client with an answer in the cache is served at once, and so is the page."""
    options = (*authorize(), *ONE_WORKER, "--authorize-timeout", "1h")
    with server(tmp_path, COMMAND, *options) as service, ExitStack() as hung:
        with session(service, basic("keep ann")):
            pass
        for _ in range(MAX_ASKED + 5):
            hung.enter_context(ask(service, basic("hang")))
        with session(service, basic("keep ann")) as peer:
            assert line_of(peer) == "ann Basic"
        with Peer(service.connect()) as peer:
            peer.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert peer.refusal().status == 200


def test_a_hung_http_server_stalls_no_other_client(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "authorizer"))
        silent.listen(1)
        where = f"http+unix:{tmp_path}/authorizer"
        options = ("--authorize", where, "--authorize-timeout", "0.5s", *ONE_WORKER)
        with server(tmp_path, COMMAND, *options) as service, ExitStack() as opened:
            hung = [opened.enter_context(ask(service)) for _ in range(5)]
            with Peer(service.connect()) as peer:
                peer.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert peer.refusal().status == 200
            assert {peer.refusal().status for peer in hung} == {503}


@pytest.mark.full
@pytest.mark.parametrize(
    ("addresses", "statuses"), [(1, {401, 429}), (20_000, {401})], ids=["one", "many"]
)
def test_ten_thousand_wrong_attempts_cost_little(
    tmp_path: Path, full: bool, addresses: int, statuses: set[int]
) -> None:
    count = 10_000 if full else 500
    with server(tmp_path, COMMAND, *authorize(), *ONE_WORKER) as service:

        def attempt(number: int) -> int:
            source = number % addresses
            address = f"127.1.{source // 250}.{source % 250 + 1}"
            where = service.address
            assert isinstance(where, tuple)
            connection = socket.create_connection(where, source_address=(address, 0))
            with Peer(connection) as peer:
                peer.send_raw(upgrade("/", "stdio", (basic(f"no {number}"),)))
                return peer.refusal().status

        found = {attempt(number) for number in range(200)}
        (worker,) = service.workers()
        memory, lines = Memory([worker]), len(service.log.read_text().splitlines())
        found |= {attempt(200 + number) for number in range(count)}
        assert found == statuses
        assert memory.growth() < 2 << 20
        assert len(service.log.read_text().splitlines()) - lines < count / 5
        assert not started(service)


def test_no_helper_outlives_a_killed_worker(tmp_path: Path) -> None:
    options = (*authorize("pid", "stopped"), *ONE_WORKER, "--kill-grace", "0.1s")
    with server(tmp_path, COMMAND, *options) as service:
        with session(service, basic("yes ann")) as peer:
            helper = helper_of(peer)
            (worker,) = service.workers()
            os.kill(worker, signal.SIGKILL)
            assert ended(helper, PATIENCE)
        until(lambda: service.workers() not in ([], [worker]), "another worker")
        with session(service, basic("yes ann")) as peer:
            assert helper_of(peer) != helper


@pytest.mark.parametrize("transport", ["server", "server-pure"])
def test_no_helper_outlives_a_killed_supervisor(tmp_path: Path, transport: str) -> None:
    options = (*authorize("pid", "stopped"), *ONE_WORKER, "--kill-grace", "0.1s")
    with SERVICES[transport](tmp_path, COMMAND, *options) as service:
        with session(service, basic("yes ann")) as peer:
            helper = helper_of(peer)
            service.kill_supervisor()
            peer.send_close()
            assert peer.transcript().closed == Closed(1000, "")
        assert ended(helper, PATIENCE)


def test_a_helper_outlives_a_killed_zygote(tmp_path: Path) -> None:
    """The next zygote has taken it over when it starts a session."""
    options = (*authorize("pid"), *ONE_WORKER)
    with SERVICES["server-pure"](tmp_path, COMMAND, *options) as service:
        with session(service, basic("yes ann")) as peer:
            helper = helper_of(peer)
            (zygote,) = service.zygotes()
            os.kill(zygote, signal.SIGKILL)
            assert ended(zygote, PATIENCE)
            peer.send({"type": "stdin", "payload": "aGk="})
            assert peer.output(2) == b"hi"
        with session(service, basic("yes ann")) as peer:
            assert helper_of(peer) == helper


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_helper_outlives_its_program(tmp_path: Path, transport: str) -> None:
    """A helper may ignore the end of its input and SIGTERM."""
    options = (*authorize("pid", "stopped"), "--kill-grace", "0.1s")
    with (
        SERVICES[transport](tmp_path, COMMAND, *options) as service,
        session(service, basic("yes ann")) as peer,
    ):
        helper = helper_of(peer)
        if not transport.startswith("server"):  # it has nothing else to ask
            assert ended(helper, PATIENCE)
        peer.send({"type": "stdin", "payload": "aGk="})
        assert peer.output(2) == b"hi"
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")
    assert ended(helper, PATIENCE)


CREDENTIALS = {
    "basic": (basic("yes ann"),),
    "bearer": (f"Authorization: Bearer yes.ann.{SECRET}",),
    "subprotocol": (
        "Sec-WebSocket-Protocol: chimirror.bearer."
        + base64.urlsafe_b64encode(f"yes.ann.{SECRET}".encode()).decode().strip("="),
    ),
}


def secrets_in(data: bytes) -> list[bytes]:
    """Return the forms of the secret that some data has."""
    forms = [SECRET.encode()]
    for shift in range(3):  # of base64, without the characters at the ends
        text = base64.b64encode(b" " * shift + SECRET.encode())
        forms.append(text[4:-4])
    return [form for form in forms if form in data]


@pytest.mark.parametrize("transport", ["server", "socat"])
@pytest.mark.parametrize("kind", CREDENTIALS)
def test_no_secret_is_visible(tmp_path: Path, transport: str, kind: str) -> None:
    """Neither in the log, nor in ps(1), nor in the environment of a session."""
    with SERVICES[transport](tmp_path, COMMAND, *authorize()) as service:
        with session(service, *CREDENTIALS[kind]) as peer:
            assert line_of(peer).startswith("ann ")
            pids = {*marked(service.mark), *service.own()}
            assert len(pids) >= 3
            for pid in pids:
                for file in ("environ", "cmdline"):
                    assert not secrets_in(read(f"/proc/{pid}/{file}")), file
        service.await_ends(1)
        assert not secrets_in(service.log.read_bytes())


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    for program in ("server", "bridge"):
        argv = [*LAUNCH, f"chimirror.{program}", "--log-format", "text"]
        argv += ["--authorize", "exec:no-such-helper", "--", "cat"]
        client, connection = socket.socketpair()
        with client, connection:  # of the bridge
            done = subprocess.run(argv, capture_output=True, stdin=connection.fileno())
        assert b'there is no program "no-such-helper" in PATH' in done.stderr
        assert done.returncode == os.EX_USAGE
