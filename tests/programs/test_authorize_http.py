"""chimirror-authorize by HTTP: questions of proxies, garbage, and systemd's sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from authorize_program import (
    ARGV,
    ENVIRONMENT,
    HttpAuthorizer,
    basic,
    http_authorizer,
    run,
)
from processes import PATIENCE

YES = basic("jörg", "a:b")
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"jörg:{bcrypt.hashpw(b'a:b', bcrypt.gensalt(4)).decode()}\n")
    return path


@pytest.fixture
def authorizer(tmp_path: Path, users: Path) -> Iterator[HttpAuthorizer]:
    options = ("--max-age", "1min", "--socket-mode", "0660")
    with http_authorizer(tmp_path, *options, "htpasswd", users) as found:
        yield found


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PROPFIND"])
def test_a_yes(authorizer: HttpAuthorizer, method: str) -> None:
    response = authorizer.ask(method, "/any/path?x=1", Authorization=YES)
    assert response.status == 200
    assert response.headers["Remote-User"].encode("latin-1").decode() == "jörg"
    assert response.headers["Cache-Control"] == "max-age=60"
    assert response.headers["Content-Length"] == "0"


def test_a_no(authorizer: HttpAuthorizer) -> None:
    for fields in ({}, {"Authorization": basic("jörg", "x")}):
        response = authorizer.ask(**fields)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert response.headers["Cache-Control"] == "no-store"
        assert "Remote-User" not in response.headers
    assert response.text == "wrong user or password\n"


def test_tokens_of_one_application(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = run("--application", "shell", "token", path, "ann").stdout.strip()
    field = f"Bearer {token}"
    with http_authorizer(tmp_path, "tokens", path) as authorizer:
        ask = authorizer.ask
        response = ask(Authorization=field, Chimirror_Application="shell")
        assert response.status == 200
        assert response.headers["Chimirror-Applications"] == "shell"
        assert response.headers["Cache-Control"] == "no-store"
        other = ask(Authorization=field, Chimirror_Application="log")
        assert other.status == 403
        # A proxy that does not name the application.
        assert ask(Authorization=field, X_Original_URI="/shell").status == 403
        # The list of applications shows those of the answer.
        for name in ("X_Original_URI", "X_Forwarded_Uri"):
            uri = {name: "/.well-known/chimirror?x"}
            assert ask(Authorization=field, **uri).status == 200


def test_a_connection_serves_many_requests(authorizer: HttpAuthorizer) -> None:
    request = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {YES}\r\n"
    bodies = [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "\r\n",
    ]
    with authorizer.connect() as connection:
        connection.sendall("".join(request + body for body in bodies).encode())
        connection.shutdown(socket.SHUT_WR)
        found = received(connection)
    assert found.count(b"HTTP/1.1 200 OK\r\n") == 3


def received(connection: socket.socket) -> bytes:
    found = b""
    try:
        while data := connection.recv(1 << 16):
            found += data
    except ConnectionResetError:
        pass  # it had not read all
    return found


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"garbage\r\n\r\n", (b"400",)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (b"400",)),
        (b"GET / HTTP/1.1\r\n\r\n", (b"400",)),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70_000, (b"431",)),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: x\r\n" * 20_000, (b"431",)),
        (
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (b"400", b"401"),
        ),
        (
            POST + b"Content-Length: 99999999\r\n\r\n" + bytes(200_000),
            (b"401",),
        ),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", (b"401",)),
        (b"GET / HTTP/1.0\r\n\r\n", (b"401",)),
    ],
)
def test_requests_that_end_the_connection(
    authorizer: HttpAuthorizer, request_bytes: bytes, statuses: tuple[bytes, ...]
) -> None:
    with authorizer.connect() as connection:
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has been refused before its end
        found = received(connection)
    assert not found or found.split()[1] in statuses
    assert authorizer.ask(Authorization=YES).status == 200
    assert "error" not in authorizer.log.read_text()


def test_a_client_that_has_gone_disturbs_no_other(authorizer: HttpAuthorizer) -> None:
    request = f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {YES}\r\n\r\n".encode()
    for size in range(0, len(request), 7):
        with authorizer.connect() as connection:
            connection.sendall(request[:size])
    with authorizer.connect() as connection:
        connection.sendall(request)
    assert authorizer.ask(Authorization=YES).status == 200
    assert "error" not in authorizer.log.read_text()


def test_the_socket_has_its_mode_and_the_log_no_secret(
    authorizer: HttpAuthorizer,
) -> None:
    assert stat.S_IMODE(authorizer.path.stat().st_mode) == 0o660
    authorizer.ask(Authorization=YES, Cookie="a=secret")
    log = authorizer.log.read_text()
    assert log == f"chimirror-authorize: listening on unix:{authorizer.path}\n"


def test_an_address_in_use(authorizer: HttpAuthorizer, users: Path) -> None:
    done = run("--listen", f"unix:{authorizer.path}", "htpasswd", users)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "is in use" in done.stderr


def test_sockets_of_systemd(tmp_path: Path, users: Path) -> None:
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(tmp_path / "notify"))
    path = tmp_path / "s"
    argv = ["systemd-socket-activate", f"--listen={path}", "-ENOTIFY_SOCKET"]
    env = {**ENVIRONMENT, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    command = [
        *argv,
        *(f"-E{name}" for name in ENVIRONMENT),
        *ARGV,
        "htpasswd",
        str(users),
    ]
    with ready, subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert b"Listening on" in process.stderr.readline()
        authorizer = HttpAuthorizer(process, path, tmp_path / "log")
        try:
            assert authorizer.ask(Authorization=YES).status == 200
            assert ready.recv(100) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            assert ready.recv(100) == b"STOPPING=1"
            assert process.wait(PATIENCE) == 0
            assert path.exists()  # it belongs to systemd
        finally:
            process.kill()


def test_answers_are_those_of_the_json_lines(authorizer: HttpAuthorizer) -> None:
    users = authorizer.path.parent / "users"
    headers = json.dumps({"authorization": YES})
    done = run("htpasswd", users, text=f'{{"id":1,"headers":{headers}}}\n')
    assert json.loads(done.stdout) == {"id": 1, "status": 200, "user": "jörg"}
