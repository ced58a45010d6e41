"""Tests `chat server` of the examples against clients that vanish, lie or do not read.

In each test others chat meanwhile, and notice nothing.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import chat_pb2 as pb
from chat_peer import (
    NONCE,
    ChatPeer,
    ChatServer,
    ada,
    bob,
    chat_server,
    frame_of,
    reason_of,
    running_chat,
    server,
)
from processes import until

__all__ = ["ada", "bob", "server"]  # fixtures

QUIET = 0.05  # seconds
Reason = pb.ChatNotStarted


def close(peer: ChatPeer) -> None:
    peer.socket.close()


def reset(peer: ChatPeer) -> None:
    """Close the connection so that the other side gets an error."""
    option = struct.pack("ii", 1, 0)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
    peer.socket.close()


def close_within_a_frame(peer: ChatPeer) -> None:
    peer.send_raw(frame_of(list_users=pb.ListUsers())[:-1])
    peer.socket.close()


def close_one_direction(peer: ChatPeer) -> None:
    peer.socket.shutdown(socket.SHUT_WR)
    while peer.receive():
        pass


def send_garbage(peer: ChatPeer) -> None:
    peer.send_raw(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")


ENDS = [close, reset, close_within_a_frame, close_one_direction, send_garbage]


@pytest.mark.parametrize("leave", ENDS)
def test_a_user_who_vanishes_is_forgotten(
    server: ChatServer, ada: ChatPeer, leave: Callable[[ChatPeer], None]
) -> None:
    """In a chat, while asking, and while asked."""
    before = server.sockets()
    with server.connect() as bob:
        bob.log_in("bob")
        number = ada.chat_with(bob)
        leave(bob)
        ended = ada.expect("chat_ended").chat_ended
        assert (ended.chat, ended.reason) == (number, pb.ChatEnded.DISCONNECTED)
    with server.connect() as bob:
        bob.log_in("bob")
        assert ada.ask("bob").WhichOneof("kind") == "chat_asked"
        bob.expect("chat_requested")
        leave(bob)
        assert reason_of(ada.expect("chat_not_started")) == ("bob", Reason.DISCONNECTED)
    with server.connect() as bob:
        bob.log_in("bob")
        assert bob.ask("ada").WhichOneof("kind") == "chat_asked"
        assert ada.expect("chat_requested").chat_requested.name == "bob"
        leave(bob)
        assert reason_of(ada.expect("chat_not_started")) == ("bob", Reason.DISCONNECTED)
    assert ada.users() == {"ada": True}
    until(lambda: server.sockets() == before, "the sockets of bob are closed")


BEFORE_LOGIN: dict[str, bytes] = {
    "no length": b"\0\0\0\0",
    "a large length": b"\0\1\0\1",
    "the largest length": b"\xff\xff\xff\xff",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "no message": b"\0\0\0\4\x0a\x09ab",
    "a name that is not UTF-8": b"\0\0\0\6\x0a\x04\x0a\x02\xff\xfe",
    "no login": frame_of(list_users=pb.ListUsers()),
    "an unknown message": b"\0\0\0\3\xfa\x7f\0",
    "a short key": frame_of(login=pb.Login(name="eve", public_key=b"short")),
    "no key": frame_of(login=pb.Login(name="eve")),
}
AFTER_LOGIN = {
    "a large length": b"\0\1\0\1",
    "no message": b"\0\0\0\4\x0a\x09ab",
    "an unknown message": b"\0\0\0\3\xfa\x7f\0",
    "a second login": frame_of(login=pb.Login(name="eve2", public_key=bytes(32))),
    "a request without nonce": frame_of(start_chat=pb.StartChat(name="ada")),
    "a chat that has never been": frame_of(exit_chat=pb.ExitChat(chat=1 << 40)),
    "a chat 0": frame_of(answer_chat=pb.AnswerChat(accepted=True)),
    "no content": frame_of(content=pb.SealedContent(chat=1)),
    "large content": frame_of(content=pb.SealedContent(chat=1, sealed=bytes(32_769))),
}


@pytest.mark.parametrize("name", BEFORE_LOGIN)
def test_a_wrong_message_before_login(
    server: ChatServer, ada: ChatPeer, bob: ChatPeer, name: str
) -> None:
    number = ada.chat_with(bob)
    with server.connect() as eve:
        eve.send_raw(BEFORE_LOGIN[name] + b"and more" * 100)
        eve.expect_failure(pb.Failure.INVALID_MESSAGE)
    ada.say(number, b"nothing has happened")
    assert bob.expect("content").content.sealed == b"nothing has happened"
    assert ada.users() == {"ada": False, "bob": False}


@pytest.mark.parametrize("name", AFTER_LOGIN)
def test_a_wrong_message_after_login(
    server: ChatServer, ada: ChatPeer, bob: ChatPeer, name: str
) -> None:
    number = ada.chat_with(bob)
    with server.connect() as eve:
        eve.log_in("eve")
        eve.send_raw(AFTER_LOGIN[name] + b"and more" * 100)
        eve.expect_failure(pb.Failure.INVALID_MESSAGE)
    ada.say(number, b"nothing has happened")
    assert bob.expect("content").content.sealed == b"nothing has happened"
    assert ada.users() == {"ada": False, "bob": False}


def test_what_the_asking_user_must_not_do(ada: ChatPeer, bob: ChatPeer) -> None:
    number = ada.ask("bob").chat_asked.chat
    ada.send(answer_chat=pb.AnswerChat(chat=number, accepted=True, nonce=NONCE))
    ada.expect_failure(pb.Failure.INVALID_MESSAGE, "an answer to the own request")
    bob.expect("chat_requested")
    assert reason_of(bob.expect("chat_not_started")) == ("ada", Reason.DISCONNECTED)


def test_content_before_the_start(ada: ChatPeer, bob: ChatPeer) -> None:
    number = ada.ask("bob").chat_asked.chat
    ada.say(number, b"early")
    ada.expect_failure(pb.Failure.INVALID_MESSAGE, "before the chat has started")


def test_each_byte_by_itself(server: ChatServer) -> None:
    with server.connect() as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        login = frame_of(login=pb.Login(name="slow", public_key=bytes(32)))
        for byte in login + frame_of(list_users=pb.ListUsers()):
            peer.send_raw(bytes([byte]))
        assert peer.expect("logged_in").logged_in.name == "slow"
        assert [user.name for user in peer.expect("users").users.users] == ["slow"]


def test_many_messages_at_once_keep_their_order(ada: ChatPeer, bob: ChatPeer) -> None:
    number = ada.chat_with(bob)
    said = [b"%d" % each for each in range(1000)]
    contents = [pb.SealedContent(chat=number, sealed=each) for each in said]
    ada.send_raw(b"".join(frame_of(content=content) for content in contents))
    assert [bob.expect("content").content.sealed for _ in said] == said


def test_no_login_in_time(tmp_path: Path) -> None:
    with (
        chat_server(tmp_path, "--login-timeout", "0.05") as server,
        server.connect() as silent,
        server.connect() as half,
    ):
        half.send_raw(frame_of(login=pb.Login(name="half", public_key=bytes(32)))[:-1])
        silent.expect_failure(pb.Failure.TIMED_OUT, "no login within 0.05 s")
        half.expect_failure(pb.Failure.TIMED_OUT, "no login within 0.05 s")


def test_silence(tmp_path: Path) -> None:
    """The server ends the connection of a silent client."""
    with (
        chat_server(tmp_path, "--interval", "0.05") as server,
        server.connect() as peer,
    ):
        assert peer.log_in("ada").interval == 50
        peer.expect_failure(pb.Failure.TIMED_OUT, "no message for 0.15 s")
        server.await_line("ada: TIMED_OUT")


def flood(peer: ChatPeer, frame: bytes, watcher: ChatPeer, server: ChatServer) -> None:
    """Send a frame until the server gives a client up. Others are served meanwhile."""
    data = frame * (1 + 65_536 // len(frame))
    sent = 0
    while not server.lines("TOO_SLOW"):
        if select.select([], [peer.socket], [], QUIET)[1]:
            try:
                sent += peer.socket.send(data[sent % len(frame) :], socket.MSG_DONTWAIT)
            except ConnectionError:
                break
        assert set(watcher.users()) >= {"carol"}
    server.await_line("TOO_SLOW")


@contextmanager
def beating(peer: ChatPeer) -> Iterator[None]:
    """Let a client send a sign of life now and then, however long the test takes."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(1):
            peer.send(keep_alive=pb.KeepAlive())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("kind", ["content", "users"])
def test_a_client_that_does_not_read(tmp_path: Path, kind: str) -> None:
    """Its partner waits, then it is disconnected. The server stores little."""
    with (
        chat_server(tmp_path, "--interval", "3") as server,
        server.connect() as ada,
        server.connect() as deaf,
        server.connect() as carol,
    ):
        ada.log_in("ada")
        deaf.log_in("deaf")
        carol.log_in("carol")
        number = ada.chat_with(deaf)
        before = server.peak_memory()
        content = pb.SealedContent(chat=number, sealed=bytes(30_000))
        if kind == "content":
            flood(ada, frame_of(content=content), carol, server)
        else:
            with beating(ada):
                flood(deaf, frame_of(list_users=pb.ListUsers()), carol, server)
        assert server.peak_memory() - before < 8 << 20
        assert server.lines("deaf: TOO_SLOW")
        ended = ada.expect("chat_ended").chat_ended
        assert (ended.chat, ended.reason) == (number, pb.ChatEnded.DISCONNECTED)
        assert "deaf" not in carol.users()


def test_standard_error_that_nobody_reads(tmp_path: Path) -> None:
    """The server serves on, loses lines of its log, and ends as usual."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with (
        open(reading, "rb") as log,
        open(writing, "wb") as stderr,
        running_chat(stderr, "0") as process,
    ):
        server = ChatServer(process, tmp_path)
        server.port = int(log.readline().split()[-1])
        for number in range(700):
            with server.connect() as peer:
                peer.log_in(f"user{number}")
        with server.connect() as ada, server.connect() as bob:
            ada.log_in("ada")
            bob.log_in("bob")
            ada.chat_with(bob)
