"""Tests attach of chimirror-ctl, with real bridges and servers.

The copy of the output is tested in tests/unit/control/test_output_watcher.py, and
terminals in tests/unit/ctl/test_attach.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from processes import until
from steered_session import Steered, of_a_bridge, of_a_server
from websocket_peer import Closed, Sender, stdin, text

GAP = re.compile(r"chimirror-ctl: \.\.\. (\d+) bytes skipped\n")
PIECE, PIECES = b"x" * 32768, 128


@pytest.fixture(params=[of_a_server, of_a_bridge])
def steered(
    request: pytest.FixtureRequest, tmp_path: Path, sessions_directory: Path
) -> Iterator[Steered]:
    with request.param(tmp_path, sessions_directory) as found:
        yield found


@contextmanager
def attached(steered: Steered, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run attach. The output is followed from the start of the block."""
    with steered.start("attach", *options) as watcher:
        assert watcher.stderr is not None
        line = f"chimirror-ctl: attached to session {steered.id[:8]}; Ctrl-C detaches\n"
        try:
            assert watcher.stderr.readline().decode() == line
            yield watcher
        finally:
            watcher.kill()


class Reader:
    """Reads both pipes of a watcher to their ends, in threads."""

    def __init__(self, watcher: subprocess.Popen[bytes], pool: Executor) -> None:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        self.size = 0  # bytes of standard output
        self.lines: list[str] = []
        self.done = [
            pool.submit(self._count, watcher.stdout.fileno()),
            pool.submit(self._collect, watcher.stderr),
        ]

    def _count(self, fd: int) -> None:
        while data := os.read(fd, 1 << 16):
            self.size += len(data)

    def _collect(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self.lines.append(line.decode())

    def skipped(self) -> int:
        """Return the number of bytes that all lines of standard error report."""
        pattern = re.compile(r"chimirror-ctl: \.\.\. (\d+) bytes skipped\n")
        return sum(
            int(found[1]) for found in map(pattern.fullmatch, self.lines) if found
        )


def test_a_watcher_that_does_not_read_is_told_what_it_missed(steered: Steered) -> None:
    """Nothing reads the pipe of the watcher until the client has all of the output."""
    size = len(PIECE) * PIECES
    with ThreadPoolExecutor(2) as pool, attached(steered) as watcher:
        with Sender(steered.peer, [text(stdin(PIECE))] * PIECES):
            assert steered.peer.output(size) == PIECE * PIECES
        reader = Reader(watcher, pool)
        until(lambda: reader.size + reader.skipped() == size, "all output or gaps")
        assert reader.skipped() > 0
        steered.peer.send({"type": "eof"})
        assert steered.peer.transcript(wait=False).closed == Closed(1000, "exit 0")
        steered.peer.close()
        assert watcher.wait() == os.EX_OK
        for each in reader.done:
            each.result()
    ended = f"chimirror-ctl: session {steered.id[:8]} ended: exit 0\n"
    assert reader.lines[-1] == ended


def test_ctrl_c_detaches_from_a_session_that_goes_on(steered: Steered) -> None:
    for options, expected in (
        ((), b"x" * 9),
        (("--json",), b'{"type":"stdout","payload":"eHh4eHh4eHh4"}\n'),
    ):
        with attached(steered, *options) as watcher:
            steered.peer.send(stdin(b"x" * 9))
            assert steered.peer.output(9) == b"x" * 9
            assert watcher.stdout is not None
            assert watcher.stdout.read(len(expected)) == expected
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait() == -signal.SIGINT
    assert json.loads(steered.ask("call", "status"))["state"] == "open"
