"""chimirror-connect logs in with secrets in files, and says how when it is refused."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from connect_process import (
    bare_server,
    connect,
    error_text,
    request,
    running_client,
    shell,
)
from fake_server import LONG, Remote, exited, fake

TOKEN = "s3cret.t0ken"
PUBLIC = "all users may read {}; forbid it with chmod o-r"


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


class Asked:
    """Handler of a fake server. `fields` has the Authorization fields of a request."""

    def __init__(self) -> None:
        self.fields: list[str] = []

    def __call__(self, ws: Remote) -> None:
        self.fields += ws.request.headers.get_all("Authorization")
        ws.send(exited())


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f" {TOKEN}\r\n\n"])
def test_a_token_in_a_file(tmp_path: Path, text: str) -> None:
    asked, file = Asked(), secret(tmp_path / "token", text, 0o640)
    with fake(asked) as server:
        done = connect("--token-file", file, server.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert asked.fields == [f"Bearer {TOKEN}"]


def test_a_token_of_a_pipe(tmp_path: Path) -> None:
    """It is read once, also for several connections."""
    asked = Asked()
    with fake(asked) as server:
        urls = f"ws://127.0.0.1:1/ {server.url}"  # nothing listens at the first
        done = shell(f'"$@" --token-file <(echo {TOKEN}) {urls}')
    assert (done.returncode, done.stderr) == (0, b"")
    assert asked.fields == [f"Bearer {TOKEN}"]


def test_a_file_that_all_users_may_read(tmp_path: Path) -> None:
    asked, file = Asked(), secret(tmp_path / "token", TOKEN, 0o644)
    with fake(asked) as server:
        done = connect("--token-file", file, server.url)
    assert done.returncode == 0
    assert error_text(done) == f"--token-file: {PUBLIC.format(file)}"
    assert asked.fields == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("text", ["", "\n", f"{TOKEN} x", f"{TOKEN}\nx", "s\u00e9cret"])
def test_a_file_without_a_token(tmp_path: Path, text: str) -> None:
    file = secret(tmp_path / "token", text)
    done = connect("--token-file", file, "ws://127.0.0.1:1/")
    assert done.returncode == 255
    problem = "holds no token; write it alone, in a line"
    assert error_text(done) == f"--token-file: {file} {problem}"


@pytest.mark.parametrize("option", ["--token-file", "--netrc-file"])
def test_a_file_that_is_missing(option: str) -> None:
    done = connect(option, "/none", "ws://127.0.0.1:1/")
    assert done.returncode == 255
    reason = "cannot be read: no such file or directory; check the name"
    assert error_text(done) == f"{option}: /none {reason}"


def basic(fields: list[str]) -> str:
    (field,) = fields
    scheme, _, value = field.partition(" ")
    assert scheme == "Basic"
    return b64decode(value).decode()


@pytest.mark.parametrize(
    "entry",
    [
        "machine 127.0.0.1",
        "machine a login b password c\nmachine 127.0.0.1\n",
        "default",
    ],
)
def test_a_user_in_a_netrc_file(tmp_path: Path, entry: str) -> None:
    text = f"{entry} login ann\n password s:\u00e9cret\n"
    asked, file = Asked(), secret(tmp_path / "netrc", text)
    with fake(asked) as server:
        done = connect("--netrc-file", file, server.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert basic(asked.fields) == "ann:s:\u00e9cret"


def test_a_user_of_the_url_counts(tmp_path: Path) -> None:
    asked = Asked()
    file = secret(tmp_path / "netrc", "default login ann password s3cret\n", 0o644)
    with fake(asked) as server:
        url = server.url.replace("ws://", "ws://bob:word@")
        done = connect("--netrc-file", file, url)
    assert basic(asked.fields) == "bob:word"
    assert error_text(done) == f"--netrc-file: {PUBLIC.format(file)}"


def test_no_host_gets_the_password_of_another(tmp_path: Path) -> None:
    asked = Asked()
    file = secret(tmp_path / "netrc", "machine other.invalid login a password s3cret\n")
    with fake(asked) as server:
        done = connect("--netrc-file", file, "ws://other.invalid/", server.url)
        assert done.returncode == 0
        assert asked.fields == []
    done = connect("--netrc-file", file, "ws://127.0.0.1:1/")
    problem = "has no machine 127.0.0.1, and no default"
    assert error_text(done) == f"--netrc-file: {file} {problem}"


def test_a_netrc_file_that_is_malformed(tmp_path: Path) -> None:
    file = secret(tmp_path / "netrc", "machine a login\nmachine b s3cret\n")
    done = connect("--netrc-file", file, "ws://127.0.0.1:1/")
    assert done.returncode == 255
    assert error_text(done).startswith(f"--netrc-file: {file} is malformed in line ")
    assert b"s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--netrc-file=a", "--token-file=a"], "--token-file and --netrc-file: write"),
        (
            ["--token-file=a", "--header=authorization:x"],
            "--token-file and --header Authorization: write one of them",
        ),
        (["--token-file=/dev/null", "u:p@"], "token: the URL authorizes too; give one"),
    ],
)
def test_two_ways(argv: list[str], text: str) -> None:
    user = argv.pop() if argv[-1] == "u:p@" else ""
    done = connect(*argv, f"ws://{user}127.0.0.1:1/")
    assert done.returncode == 64
    assert text in done.stderr.decode()


# Refusals.

BASIC = b'WWW-Authenticate: Basic realm="x"\r\n'
USER, A_TOKEN = "a user and a password (Basic)", "a token (Bearer)"
BOTH = "--netrc-file FILE or --token-file FILE"
BEARER = b'WWW-Authenticate: Bearer realm="x"\r\n'


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            BASIC + BEARER,
            f" (it asks for {USER} or {A_TOKEN}); log in with {BOTH}",
        ),
        (BEARER, f" (it asks for {A_TOKEN}); log in with --token-file FILE"),
        (b"WWW-Authenticate: Negotiate\r\n", " (it asks for Negotiate)"),
        (b"", ""),
    ],
)
def test_the_ways_to_log_in(tmp_path: Path, fields: bytes, text: str) -> None:
    assert refused(fields) == f"401 Unauthorized: no{text}"
    # With a secret that the server refuses, the cure is another one.
    file = secret(tmp_path / "token", TOKEN)
    text = text.partition(";")[0]
    assert refused(fields, "--token-file", file) == f"401 Unauthorized: no{text}"


def refused(fields: bytes, *options: str) -> str:
    """Return the message of the client for a refusal with these fields."""
    with (
        bare_server() as (where, take),
        running_client(*options, where + "x") as process,
        take() as peer,
    ):
        request(peer)
        peer.send_raw(b"HTTP/1.1 401 Unauthorized\r\n" + fields + b"\r\nno\n")
        peer.half_close()
        out, err = process.communicate(timeout=LONG)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    assert (done.returncode, out) == (255, b"")
    return error_text(done)
