"""chimirror-connect with chimirror-server, both as real processes."""

from __future__ import annotations

import hashlib
import signal
import subprocess
from pathlib import Path

import pytest

import serve
from connect_process import (
    ARGV,
    ENV,
    connect,
    error_text,
    peak_memory,
    ready,
    running_client,
    shell,
)
from fake_server import LONG
from tls_servers import server_url


@pytest.mark.parametrize("way", ["server", "server-unix"])
def test_a_process_as_if_it_were_local(way: str, tmp_path: Path) -> None:
    command = ["sh", "-c", "tr a-z A-Z; printf oops >&2; exit 3"]
    with serve.SERVICES[way](tmp_path, command) as service:
        done = connect(server_url(service), stdin=b"no newline")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"NO NEWLINE", b"oops")


@pytest.mark.full
def test_much_there_and_back(tmp_path: Path, *, full: bool) -> None:
    size = (100 if full else 24) << 20
    file = tmp_path / "zeros"
    with file.open("wb") as sparse:
        sparse.truncate(size)
    with (
        serve.server(tmp_path, ["sh", "-c", "printf ready; exec cat"]) as service,
        file.open("rb") as stdin,
        running_client(server_url(service), stdin=stdin) as process,
    ):
        ready(process)
        idle = peak_memory(process.pid)
        assert process.stdout is not None
        digest = hashlib.sha256()
        while size > 0:
            chunk = process.stdout.read(1 << 20)
            digest.update(chunk)
            size -= len(chunk)
            if size <= 1 << 20:
                assert peak_memory(process.pid) - idle < 8 << 20
            if not chunk:
                break
        assert process.wait(LONG) == 0
    assert size == 0
    with file.open("rb") as stdin:
        assert digest.digest() == hashlib.file_digest(stdin, "sha256").digest()


COUNTING = ["sh", "-c", "for i in 1 2 3; do echo $i; done; exit 3"]


@pytest.mark.parametrize("option", ["--direction=receive", "--read-only"])
def test_a_process_that_only_sends(option: str, tmp_path: Path) -> None:
    with serve.server(tmp_path, COUNTING, option) as service:
        done = connect(server_url(service))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"1\n2\n3\n", b"")


def test_input_for_a_process_that_only_sends(tmp_path: Path) -> None:
    """Input that comes once the direction is known is not sent."""
    script = "trap 'echo end; exit 3' TERM; printf ready; sleep 60 & wait"
    command = ["sh", "-c", script]
    with (
        serve.server(tmp_path, command, "--direction=receive") as service,
        running_client(server_url(service)) as client,
    ):
        ready(client)
        assert client.stdin is not None
        client.stdin.write(b"stray\n")
        client.stdin.close()
        client.send_signal(signal.SIGTERM)
        assert client.stdout is not None
        assert client.stdout.read() == b"end\n"
        assert client.wait(LONG) == 3


def test_ctrl_c_ends_the_client_of_a_read_only_session(tmp_path: Path) -> None:
    command = ["sh", "-c", "trap '' INT; printf ready; exec sleep 60"]
    with (
        serve.server(tmp_path, command, "--read-only") as service,
        running_client(server_url(service)) as client,
    ):
        ready(client)
        client.send_signal(signal.SIGINT)
        assert client.wait(LONG) == -signal.SIGINT


def test_ctrl_c(tmp_path: Path) -> None:
    command = ["sh", "-c", "printf ready; exec cat"]
    with (
        serve.server(tmp_path, command) as service,
        running_client(server_url(service)) as client,
    ):
        ready(client)
        client.send_signal(signal.SIGINT)
        assert client.wait(LONG) == 128 + signal.SIGINT


@pytest.mark.parametrize("number", [34, 40, 64])
def test_signals_without_a_name(number: int, tmp_path: Path) -> None:
    command = ["sh", "-c", f"kill -{number} $$"]
    with serve.server(tmp_path, command) as service:
        done = connect(server_url(service))
    assert (done.returncode, done.stderr) == (128 + number, b"")


def test_a_reader_that_leaves_ends_the_application(tmp_path: Path) -> None:
    with serve.server(tmp_path, ["yes"]) as service:
        done = shell('"$@" | head -n 1; echo ${PIPESTATUS[0]}', server_url(service))
    # the end of the server checks that `yes` has ended
    assert done.stdout == b"y\n141\n"


def test_a_refusal_with_the_server_text(tmp_path: Path) -> None:
    with serve.server(tmp_path, ["cat"]) as service:
        done = connect("--origin", "https://evil.example", server_url(service))
    assert done.returncode == 255
    assert error_text(done).startswith("403 Forbidden: ")


NOTE = "the remote process has a terminal, but standard input and output here"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exec sleep 1000", 129),
        # A program that shows a full screen is never quiet.
        (r"printf '\033[?1049h'; while echo x; do sleep 0.01; done", 129),
        ("trap '' HUP; echo x; exec sleep 1000", 255),
    ],
)
def test_a_terminal_without_keys_never_hangs(
    script: str, status: int, tmp_path: Path
) -> None:
    """The end of input is Ctrl-D, which these programs do not read."""
    with serve.server(tmp_path, ["sh", "-c", script], "--pty") as service:
        done = connect("--linger=2", server_url(service))
    assert done.returncode == status
    *_, hung_up = done.stderr.decode().splitlines()
    text = "goes on after its input" if status == 255 else "hung up: quiet since"
    assert text in hung_up
    assert (NOTE in done.stderr.decode()) is (b"x" in done.stdout)


def test_a_terminal_that_is_not_joined_by_wish(tmp_path: Path) -> None:
    command = ["sh", "-c", "tty >/dev/null && echo terminal; exit 3"]
    with serve.server(tmp_path, command, "--pty") as service:
        done = connect("--no-pty", server_url(service))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"terminal\r\n", b"")


def test_several_urls(tmp_path: Path) -> None:
    """The first server that is available counts, and --verbose shows the others."""
    none = f"ws+unix:{tmp_path}/none"
    with serve.server(tmp_path, ["cat"]) as service:
        done = connect("-v", none, server_url(service), none, stdin=b"x")
    assert (done.returncode, done.stdout) == (0, b"x")
    first, second, *_ = done.stderr.decode().splitlines()
    assert first.startswith(f"chimirror-connect: {none}: cannot connect to ")
    assert second.startswith("chimirror-connect: connected to 127.0.0.1 port ")
    failed = connect(none, none)
    assert failed.returncode == 255
    assert error_text(failed).startswith("none of 2 servers is available: ")


def test_many_at_once(tmp_path: Path) -> None:
    with serve.server(tmp_path, ["cat"]) as service:
        running = [
            subprocess.Popen(
                [*ARGV, server_url(service)], env=ENV, stdin=-1, stdout=-1, stderr=-1
            )
            for _ in range(5)
        ]
        for number, process in enumerate(running):
            out, err = process.communicate(b"%d" % number, LONG)
            assert (process.returncode, out, err) == (0, b"%d" % number, b"")
