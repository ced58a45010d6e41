"""Tests `chat server` of the examples with real sockets: logins, requests and chats."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import chat_pb2 as pb
from chat.served_connections import MAX_GUESTS
from chat_peer import (
    CHAT,
    NONCE,
    ChatPeer,
    ChatServer,
    ada,
    bob,
    chat_server,
    reason_of,
    server,
)
from processes import PATIENCE, until

__all__ = ["ada", "bob", "server"]  # fixtures

Reason = pb.ChatNotStarted


def test_a_chat(ada: ChatPeer, bob: ChatPeer) -> None:
    assert ada.users() == {"ada": True, "bob": True}
    number = ada.chat_with(bob)
    assert ada.users() == {"ada": False, "bob": False}
    for sealed in (b"one", b"two", bytes(32_768)):
        ada.say(number, sealed)
        assert bob.expect("content").content.sealed == sealed
        bob.say(number, sealed)
        assert ada.expect("content").content.sealed == sealed
    ada.send(exit_chat=pb.ExitChat(chat=number))
    ended = bob.expect("chat_ended").chat_ended
    assert ended == pb.ChatEnded(chat=number, name="ada", reason=pb.ChatEnded.EXITED)
    bob.say(number, b"too late")
    assert bob.users() == ada.users() == {"ada": True, "bob": True}
    assert bob.chat_with(ada) == number + 1


def test_a_name_that_is_taken(server: ChatServer, ada: ChatPeer) -> None:
    with server.connect() as peer:
        peer.send(login=pb.Login(name="ADA", public_key=bytes(32)))
        peer.expect_failure(pb.Failure.NAME_TAKEN, "ADA is logged in")
    assert ada.users() == {"ada": True}
    ada.socket.close()
    server.await_line(" ada: disconnected")
    with server.connect() as peer:
        assert peer.log_in("ADA").name == "ADA"


def test_the_name_is_given_back_in_its_normal_form(server: ChatServer) -> None:
    with server.connect() as peer:
        assert peer.log_in("ﬁona ").name == "fiona"
        assert peer.users() == {"fiona": True}


@pytest.mark.parametrize("name", ["", "two words", "a\x1b[31m", "x" * 33, "x" * 60_000])
def test_what_is_no_name(server: ChatServer, name: str) -> None:
    with server.connect() as peer:
        peer.send(login=pb.Login(name=name, public_key=bytes(32)))
        peer.expect_failure(pb.Failure.INVALID_NAME, "a name ")
    assert "\x1b" not in server.log.read_text()


@pytest.mark.parametrize("by_leaving", [False, True])
def test_a_request_is_refused(ada: ChatPeer, bob: ChatPeer, by_leaving: bool) -> None:
    assert ada.ask("bob").chat_asked.name == "bob"
    requested = bob.expect("chat_requested").chat_requested
    assert requested.name == "ada"
    if by_leaving:
        bob.send(exit_chat=pb.ExitChat(chat=requested.chat))
    else:
        bob.send(answer_chat=pb.AnswerChat(chat=requested.chat))
    assert reason_of(ada.expect("chat_not_started")) == ("bob", Reason.REFUSED)
    assert bob.users() == {"ada": True, "bob": True}


def test_a_request_is_withdrawn(ada: ChatPeer, bob: ChatPeer) -> None:
    """An acceptance on its way is ignored."""
    number = ada.ask("bob").chat_asked.chat
    assert bob.expect("chat_requested").chat_requested.chat == number
    ada.send(exit_chat=pb.ExitChat(chat=number))
    assert reason_of(bob.expect("chat_not_started")) == ("ada", Reason.WITHDRAWN)
    bob.send(answer_chat=pb.AnswerChat(chat=number, accepted=True, nonce=NONCE))
    assert bob.users() == ada.users() == {"ada": True, "bob": True}


def test_both_ask_each_other(ada: ChatPeer, bob: ChatPeer) -> None:
    number = ada.ask("bob").chat_asked.chat
    bob.send(start_chat=pb.StartChat(name="Ada", nonce=NONCE))
    assert bob.expect("chat_requested").chat_requested.chat == number
    for peer, partner in ((ada, "bob"), (bob, "ada")):
        started = peer.expect("chat_started").chat_started
        assert (started.chat, started.partner.name) == (number, partner)
    bob.send(answer_chat=pb.AnswerChat(chat=number, accepted=True, nonce=NONCE))
    bob.say(number, b"once is enough")
    assert ada.expect("content").content.sealed == b"once is enough"


def test_who_cannot_be_asked(server: ChatServer, ada: ChatPeer, bob: ChatPeer) -> None:
    assert reason_of(ada.ask("carol")) == ("carol", Reason.NO_SUCH_USER)
    assert reason_of(ada.ask("no name")) == ("no name", Reason.NO_SUCH_USER)
    assert reason_of(ada.ask("x" * 60_000)) == ("x" * 32, Reason.NO_SUCH_USER)
    assert reason_of(ada.ask("ada")) == ("ada", Reason.YOURSELF)
    with server.connect() as carol, server.connect() as dora:
        carol.log_in("carol")
        dora.log_in("dora")
        assert ada.ask("bob").WhichOneof("kind") == "chat_asked"
        assert reason_of(ada.ask("ada")) == ("ada", Reason.OCCUPIED)
        for busy in ("ada", "bob"):  # one is asking, the other is asked
            assert reason_of(carol.ask(busy)) == (busy, Reason.NOT_AVAILABLE)
        bob.accept()
        for busy in ("ada", "bob"):  # both are in a chat
            assert reason_of(carol.ask(busy)) == (busy, Reason.NOT_AVAILABLE)
        ada.expect("chat_started")
        for user, target in ((ada, "bob"), (bob, "ada"), (ada, "carol")):
            assert reason_of(user.ask(target)) == (target, Reason.OCCUPIED)
        carol.chat_with(dora)


def test_a_request_without_an_answer(tmp_path: Path) -> None:
    with (
        chat_server(tmp_path, "--answer-timeout", "0.05") as server,
        server.connect() as ada,
        server.connect() as bob,
    ):
        assert ada.log_in("ada").answer_timeout == 50
        bob.log_in("bob")
        assert ada.ask("bob").WhichOneof("kind") == "chat_asked"
        bob.expect("chat_requested")
        assert reason_of(ada.expect("chat_not_started")) == ("bob", Reason.TIMED_OUT)
        assert reason_of(bob.expect("chat_not_started")) == ("ada", Reason.TIMED_OUT)
        assert ada.users() == {"ada": True, "bob": True}


def test_another_connection_of_the_same_user(
    server: ChatServer, ada: ChatPeer, bob: ChatPeer
) -> None:
    """The resume token replaces a connection that the server still holds for alive."""
    number = ada.chat_with(bob)
    with server.connect() as wrong:
        wrong.send(
            login=pb.Login(name="bob", public_key=bytes(32), resume_token=bytes(16))
        )
        wrong.expect_failure(pb.Failure.NAME_TAKEN)
    with server.connect() as first:
        token = first.log_in("carol").resume_token
        ada_users = ada.users()
        assert ada_users == {"ada": False, "bob": False, "carol": True}
        with server.connect() as second:
            assert second.log_in("carol", token).resume_token != token
            first.expect_failure(pb.Failure.REPLACED)
            assert second.users() == ada_users
    bob.say(number, b"the chat of the others goes on")
    assert ada.expect("content").content.chat == number


def test_too_many_clients(tmp_path: Path) -> None:
    with (
        chat_server(tmp_path, "--max-users", "2") as server,
        server.connect() as ada,
        server.connect() as bob,
    ):
        ada.log_in("ada")
        bob.log_in("bob")
        with server.connect() as third:
            third.send(login=pb.Login(name="third", public_key=bytes(32)))
            third.expect_failure(pb.Failure.SERVER_FULL, "2 users are logged in")
        bob.socket.close()
        server.await_line("bob: disconnected$")
        with server.connect() as third:
            third.log_in("third")
            assert ada.users() == {"ada": True, "third": True}


def test_a_flood_of_idle_connections(server: ChatServer) -> None:
    """Other clients can log in."""
    with ExitStack() as stack:
        for _ in range(MAX_GUESTS + 20):
            stack.enter_context(server.connect())
        ada = stack.enter_context(server.connect())
        ada.log_in("ada")
        assert ada.users() == {"ada": True}
        server.await_line("aborted: too many connections without a user")


def test_two_hundred_clients(tmp_path: Path) -> None:
    """They log in at the same time, chat in pairs, and half of them vanish."""
    count = 200
    names = {f"user{number:03}" for number in range(count)}
    with chat_server(tmp_path) as server, ExitStack() as stack:
        idle = server.sockets()
        peers = [stack.enter_context(server.connect()) for _ in range(count)]
        for peer, name in zip(peers, sorted(names), strict=True):
            peer.name = name
            peer.send(login=pb.Login(name=name, public_key=bytes(32)))
        for peer in peers:
            assert peer.expect("logged_in").logged_in.name == peer.name
        assert set(peers[0].users()) == names
        pairs = list(zip(peers[::2], peers[1::2], strict=True))
        for first, second in pairs:
            first.send(start_chat=pb.StartChat(name=second.name, nonce=NONCE))
        numbers = [second.accept() for _, second in pairs]
        assert len({*numbers}) == len(pairs)
        for (first, second), number in zip(pairs, numbers, strict=True):
            second.say(number, second.name.encode())
            first.expect("chat_asked")
            first.expect("chat_started")
            assert first.expect("content").content.sealed == second.name.encode()
        for first, _ in pairs:
            first.socket.close()
        for (_, second), number in zip(pairs, numbers, strict=True):
            assert second.expect("chat_ended").chat_ended.chat == number
        left = {second.name: True for _, second in pairs}
        assert all(second.users() == left for _, second in pairs)
        for _, second in pairs:
            second.socket.close()
        until(lambda: server.sockets() == idle, "all sockets are closed")


def test_stop(server: ChatServer, ada: ChatPeer, bob: ChatPeer) -> None:
    """All are told, also one that reads nothing, and the port is free at once."""
    before = server.sockets()
    with server.connect() as silent:
        until(lambda: server.sockets() > before, "the server has accepted")
        server.process.terminate()
        for peer in (ada, bob, silent):
            peer.expect_failure(pb.Failure.STOPPING)
        assert server.process.wait(PATIENCE) == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ("", 64, "required"),
        ("server", 64, "required"),
        ("server 65536", 64, "no number of 0 to 65535"),
        ("server -1", 64, "-1"),
        ("server --max-users 401 0", 64, "no number of 1 to 400"),
        ("server --interval 0 0", 64, "no number of 0.01"),
        ("server --inter 5 0", 64, "--inter"),
        ("server 0 host.invalid", 69, "cannot listen on host.invalid 0"),
        ("server 0 192.0.2.1", 69, "cannot listen on 192.0.2.1 0"),
    ],
)
def test_what_cannot_be_served(arguments: str, status: int, text: str) -> None:
    argv = [sys.executable, str(CHAT), *arguments.split()]
    result = subprocess.run(argv, capture_output=True, text=True)
    assert result.returncode == status
    assert text in result.stderr
    assert "Traceback" not in result.stderr
