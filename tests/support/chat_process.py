"""Runs `chat client` of the examples on pipes, as a server of chimirror does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chat_peer import CHAT, ChatServer
from processes import PATIENCE


def client_argv(port: int) -> list[str]:
    return [sys.executable, str(CHAT), "client", str(port)]


class ChatProcess:
    """A running client on two pipes. Its standard error is a third."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            client_argv(port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def type(self, *lines: str) -> None:
        for line in lines:
            self.stdin.write(line.encode() + b"\n")
        self.stdin.flush()

    def read_line(self) -> str:
        line = self.stdout.readline()
        assert line, "the client has ended"
        return line.decode().removesuffix("\n")

    def expect(self, pattern: str) -> str:
        """Read lines up to one that matches. Returns it."""
        seen = []
        while True:
            line = self.stdout.readline().decode()
            seen.append(line)
            assert line, f"{pattern!r} is not in {''.join(seen)}"
            if re.search(pattern, line):
                return line.removesuffix("\n")

    def log_in(self, name: str) -> None:
        self.type(name)
        self.expect(f"^You are logged in as {name}")
        self.expect("^help ")

    def finish(self) -> tuple[int, str, str]:
        """End the input. Returns exit status, remaining output and standard error."""
        said, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode(), errors.decode()


@contextmanager
def chat_client(port: int, name: str = "") -> Iterator[ChatProcess]:
    """Run a client, which is logged in if it has a name. Kills it at the end."""
    client = ChatProcess(port)
    try:
        if name:
            client.log_in(name)
        yield client
    finally:
        client.process.kill()
        client.process.communicate()


def run_client(port: int, given: bytes) -> tuple[int, str, str]:
    """Run a client with this input to its end."""
    done = subprocess.run(
        client_argv(port), input=given, capture_output=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@contextmanager
def server_to_kill(directory: Path, port: int) -> Iterator[ChatServer]:
    """Run a server that the test may kill."""
    log = directory / "killed-server.log"
    argv = [sys.executable, str(CHAT), "server", str(port)]
    with log.open("wb") as stderr, subprocess.Popen(argv, stderr=stderr) as process:
        server = ChatServer(process, log)
        try:
            server.await_line("^listening on ")
            yield server
        finally:
            process.kill()


def start_chat(one: ChatProcess, other: ChatProcess, name: str) -> None:
    """Start a chat with the other client, which has this name."""
    one.type(f"start_chat {name}")
    one.expect(f"^{name} is asked")
    other.expect("asks to chat with you")
    other.type("yes")
    for each in (one, other):
        each.expect("^You are in a chat with ")
        each.expect("can read this chat")


def closed_pipe() -> int:
    """Return the write end of a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer
