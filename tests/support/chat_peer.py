"""A real `chat server`, and a client of it that sends what a test wants.

The client is blocking and sends no keep-alive by itself. Knows nothing of encryption:
what it sends as content is any bytes.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

import chat_pb2 as pb
from chat.framing import FrameDecoder, decode_message, encode_frame
from chat.limits import KEY_SIZE, NONCE_SIZE
from processes import PATIENCE, read, until

CHAT = Path(__file__).parents[2] / "examples" / "chat"
NONCE = b"n" * NONCE_SIZE


class ChatServer:
    """A running server, its address and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.port = 0

    def lines(self, pattern: str) -> list[str]:
        """Return the lines of the log that match."""
        return re.findall(rf"^.*{pattern}.*$", self.log.read_text(), re.MULTILINE)

    def await_line(self, pattern: str) -> str:
        """Wait for a line of the log. Returns the first that matches."""

        def ask() -> list[str]:
            assert self.process.poll() is None, self.log.read_text()
            return self.lines(pattern)

        until(ask, f"{pattern} in {self.log}")
        return self.lines(pattern)[0]

    def sockets(self) -> int:
        """Count the sockets of the server."""
        root = f"/proc/{self.process.pid}/fd"
        names = [f"{root}/{name}" for name in os.listdir(root)]
        return sum("socket:" in link_of(name) for name in names)

    def peak_memory(self) -> int:
        """Return the largest resident memory until now, in bytes."""
        found = re.search(rb"VmHWM:\s+(\d+)", read(f"/proc/{self.process.pid}/status"))
        assert found
        return int(found[1]) * 1024

    def connect(self) -> ChatPeer:
        return ChatPeer(socket.create_connection(("127.0.0.1", self.port), PATIENCE))


def link_of(name: str) -> str:
    try:
        return os.readlink(name)
    except FileNotFoundError:
        return ""  # closed in the meantime


class ChatPeer:
    """One client. It is closed at the end of its context."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.name = ""
        self._decoder = FrameDecoder()

    def __enter__(self) -> ChatPeer:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, **kind: object) -> None:
        """Send a message of this kind: `send(exit_chat=pb.ExitChat(chat=1))`."""
        self.send_raw(frame_of(**kind))

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> pb.FromServer | None:
        """Return the next message, or None at the end. Leaves out each KeepAlive."""
        while True:
            frame = self._decoder.next_frame()
            if frame is not None:
                message = decode_message(pb.FromServer, frame)
                if message.WhichOneof("kind") != "keep_alive":
                    return message
            elif data := self.socket.recv(65536):
                self._decoder.feed(data)
            else:
                assert self._decoder.size == 0
                return None

    def expect(self, kind: str) -> pb.FromServer:
        """Return the next message, which has this kind."""
        message = self.receive()
        assert message is not None, f"the end instead of {kind}"
        assert message.WhichOneof("kind") == kind, message
        return message

    def expect_failure(self, code: pb.Failure.Code, text: str = "") -> None:
        """Receive a Failure, and nothing after it."""
        failure = self.expect("failure").failure
        assert failure.code == code, failure
        assert text in failure.text
        assert self.receive() is None

    def log_in(self, name: str, token: bytes = b"") -> pb.LoggedIn:
        self.name = name
        key = name.encode().ljust(KEY_SIZE, b"\0")
        self.send(login=pb.Login(name=name, public_key=key, resume_token=token))
        return self.expect("logged_in").logged_in

    def users(self) -> dict[str, bool]:
        """Return who is there, and whether they are available."""
        self.send(list_users=pb.ListUsers())
        found = self.expect("users").users.users
        return {user.name: user.available for user in found}

    def ask(self, name: str) -> pb.FromServer:
        """Ask for a chat. Returns the answer of the server."""
        self.send(start_chat=pb.StartChat(name=name, nonce=NONCE))
        answer = self.receive()
        assert answer
        return answer

    def accept(self) -> int:
        """Accept the request that arrives next. Returns the number of the chat."""
        number = self.expect("chat_requested").chat_requested.chat
        answer = pb.AnswerChat(chat=number, accepted=True, nonce=NONCE)
        self.send(answer_chat=answer)
        assert self.expect("chat_started").chat_started.chat == number
        return number

    def chat_with(self, other: ChatPeer) -> int:
        """Start a chat. Returns its number."""
        assert self.ask(other.name).WhichOneof("kind") == "chat_asked"
        number = other.accept()
        assert self.expect("chat_started").chat_started.chat == number
        return number

    def say(self, chat: int, sealed: bytes) -> None:
        self.send(content=pb.SealedContent(chat=chat, sealed=sealed))


def frame_of(**kind: object) -> bytes:
    message = pb.FromClient()
    for name, value in kind.items():
        getattr(message, name).CopyFrom(value)
    return encode_frame(message)


@contextmanager
def chat_server(directory: Path, *options: str, port: int = 0) -> Iterator[ChatServer]:
    """Run a server. It has to end at SIGTERM, with status 0."""
    log = directory / "chat-server.log"
    with log.open("wb") as stderr, running_chat(stderr, *options, str(port)) as process:
        server = ChatServer(process, log)
        server.port = int(server.await_line(r"^listening on ").split()[-1])
        yield server
    assert "Traceback" not in log.read_text()


@contextmanager
def running_chat(
    stderr: IO[bytes], *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `chat server`. It has to end at SIGTERM, with status 0."""
    argv = [sys.executable, str(CHAT), "server", *arguments]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        yield process
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def reason_of(message: pb.FromServer) -> tuple[str, pb.ChatNotStarted.Reason]:
    assert message.WhichOneof("kind") == "chat_not_started", message
    refusal = message.chat_not_started
    return refusal.name, refusal.reason


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChatServer]:
    with chat_server(tmp_path) as running:
        yield running


@pytest.fixture
def ada(server: ChatServer) -> Iterator[ChatPeer]:
    with server.connect() as peer:
        peer.log_in("ada")
        yield peer


@pytest.fixture
def bob(server: ChatServer) -> Iterator[ChatPeer]:
    with server.connect() as peer:
        peer.log_in("bob")
        yield peer
