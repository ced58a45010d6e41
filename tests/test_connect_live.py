"""chimirror-connect and chimirror-server with each other: both are real processes."""

from __future__ import annotations

import hashlib
import signal
import subprocess
from pathlib import Path

import pytest

import launch
from remote import LONG
from test_connect import ARGV, ENV, connect, peak, ready, said, shell, started


def where(service: launch.Service) -> str:
    """The URL of a server."""
    if isinstance(service.address, str):
        return f"ws+unix:{service.address}"
    host, port = service.address
    return f"ws://{host}:{port}/"


@pytest.mark.parametrize("way", ["server", "server-unix"])
def test_a_process_as_if_it_were_local(way: str, tmp_path: Path) -> None:
    command = ["sh", "-c", "tr a-z A-Z; printf oops >&2; exit 3"]
    with launch.WAYS[way](tmp_path, command) as service:
        done = connect(where(service), stdin=b"no newline")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"NO NEWLINE", b"oops")


def test_a_hundred_megabytes_there_and_back(tmp_path: Path) -> None:
    size = 100 << 20
    file = tmp_path / "zeros"
    with file.open("wb") as sparse:
        sparse.truncate(size)
    with (
        launch.server(tmp_path, ["sh", "-c", "printf ready; exec cat"]) as service,
        file.open("rb") as stdin,
        started(where(service), stdin=stdin) as process,
    ):
        ready(process)
        idle = peak(process.pid)
        assert process.stdout is not None
        digest = hashlib.sha256()
        while size > 0:
            chunk = process.stdout.read(1 << 20)
            digest.update(chunk)
            size -= len(chunk)
            if size <= 1 << 20:
                assert peak(process.pid) - idle < 8 << 20
            if not chunk:
                break
        assert process.wait(LONG) == 0
    assert size == 0
    with file.open("rb") as stdin:
        assert digest.digest() == hashlib.file_digest(stdin, "sha256").digest()


def test_ctrl_c(tmp_path: Path) -> None:
    command = ["sh", "-c", "printf ready; exec cat"]
    with launch.server(tmp_path, command) as service, started(where(service)) as client:
        ready(client)
        client.send_signal(signal.SIGINT)
        assert client.wait(LONG) == 128 + signal.SIGINT


def test_a_reader_that_leaves_ends_the_application(tmp_path: Path) -> None:
    with launch.server(tmp_path, ["yes"]) as service:
        done = shell('"$@" | head -n 1; echo ${PIPESTATUS[0]}', where(service))
    assert done.stdout == b"y\n141\n"  # the server's end checks that `yes` has gone


def test_a_refusal_in_the_words_of_the_server(tmp_path: Path) -> None:
    with launch.server(tmp_path, ["cat"]) as service:
        done = connect("--origin", "https://evil.example", where(service))
    assert done.returncode == 255
    assert said(done).startswith("403 Forbidden: ")


def test_many_at_once(tmp_path: Path) -> None:
    with launch.server(tmp_path, ["cat"]) as service:
        running = [
            subprocess.Popen(
                [*ARGV, where(service)], env=ENV, stdin=-1, stdout=-1, stderr=-1
            )
            for _ in range(5)
        ]
        for number, process in enumerate(running):
            out, err = process.communicate(b"%d" % number, LONG)
            assert (process.returncode, out, err) == (0, b"%d" % number, b"")
