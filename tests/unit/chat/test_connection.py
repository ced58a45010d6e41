"""Tests the connections of `chat server` with a fake loop: timers, pauses, limits."""

from __future__ import annotations

import logging

import pytest

import chat_pb2 as pb
from chat.connection import BATCH, LINGER
from chat.framing import encode_frame
from chat.limits import MAX_FRAME, MAX_NAME, MAX_SEALED
from chat.served_connections import MAX_GUESTS, ServerSettings
from chat.server_log import logger
from chat_peer import NONCE, frame_of
from fake_chat import SETTINGS, FakeChat, FakeClient

INTERVAL = SETTINGS.interval
LISTING = frame_of(list_users=pb.ListUsers())
KEEP_ALIVE = frame_of(keep_alive=pb.KeepAlive())


def login(name: str) -> bytes:
    return frame_of(login=pb.Login(name=name, public_key=bytes(32)))


def log_in(chat: FakeChat, name: str) -> FakeClient:
    client = chat.connect()
    client.send(login(name))
    assert client.kinds() == ["logged_in"]
    return client


def pair(chat: FakeChat) -> tuple[FakeClient, FakeClient]:
    """Return two users in a chat."""
    ada, bob = log_in(chat, "ada"), log_in(chat, "bob")
    ada.send(frame_of(start_chat=pb.StartChat(name="bob", nonce=NONCE)))
    answer = pb.AnswerChat(chat=1, accepted=True, nonce=NONCE)
    bob.send(frame_of(answer_chat=answer))
    assert ada.kinds()[-1] == bob.kinds()[-1] == "chat_started"
    return ada, bob


def content(size: int = MAX_SEALED) -> bytes:
    return frame_of(content=pb.SealedContent(chat=1, sealed=bytes(size)))


def failure_of(client: FakeClient) -> str:
    """Return the name of the failure that a client has received last."""
    failure = client.received[-1].failure
    return pb.Failure.Code.Name(failure.code)


def test_login_timeout() -> None:
    chat = FakeChat()
    client = chat.connect()
    client.send(login("ada")[:-1])
    chat.loop.advance(SETTINGS.login_timeout - 0.1)
    assert client.kinds() == []
    chat.loop.advance(0.2)
    assert failure_of(client) == "TIMED_OUT"
    chat.loop.advance(LINGER)
    assert client.is_lost
    chat.end()


def test_each_side_sends_something_in_each_interval() -> None:
    chat = FakeChat()
    client = log_in(chat, "ada")
    for number in range(1, 6):
        chat.loop.advance(INTERVAL)
        client.send(KEEP_ALIVE)
        assert client.kinds().count("keep_alive") in {2 * number - 1, 2 * number - 2}
    chat.loop.advance(INTERVAL * 2.9)
    assert "failure" not in client.kinds()
    client.send(KEEP_ALIVE[:-1])  # not a message yet
    chat.loop.advance(INTERVAL)
    assert failure_of(client) == "TIMED_OUT"
    chat.end()


def test_no_keep_alive_beside_other_messages() -> None:
    chat = FakeChat()
    client = log_in(chat, "ada")
    for _ in range(10):
        chat.loop.advance(INTERVAL / 3)
        client.send(LISTING)
    assert "keep_alive" not in client.kinds()
    chat.end()


def test_a_sender_waits_for_its_partner() -> None:
    """It is not taken for silent meanwhile, and nothing is lost."""
    chat = FakeChat()
    ada, bob = pair(chat)
    bob.stop_taking()
    for _ in range(10):
        ada.send(content())
    assert ada.must_wait()
    assert bob.must_wait()
    chat.loop.advance(INTERVAL - 1)
    bob.take()
    chat.loop.run_ready()
    bob.take()
    chat.loop.run_ready()
    assert bob.kinds().count("content") == 10
    assert not ada.must_wait()
    chat.loop.advance(INTERVAL)
    assert "failure" not in ada.kinds() + bob.kinds()
    chat.end()


def test_a_user_who_does_not_read_is_disconnected() -> None:
    chat = FakeChat()
    ada, bob = pair(chat)
    carol = log_in(chat, "carol")
    bob.stop_taking()
    for _ in range(10):
        ada.send(content())
    ada.send(LISTING)
    chat.loop.advance(INTERVAL - 1)
    assert ada.kinds()[-1] != "users"
    chat.loop.advance(1.1)
    assert ada.kinds()[-2:] == ["chat_ended", "users"]
    chat.loop.advance(LINGER)
    assert bob.is_lost
    carol.send(LISTING)
    assert [user.name for user in carol.received[-1].users.users] == ["ada", "carol"]
    chat.end()


def test_nobody_can_ask_a_user_who_does_not_read() -> None:
    chat = FakeChat()
    bob, carol = log_in(chat, "bob"), log_in(chat, "carol")
    bob.stop_taking()
    while not bob.must_wait():
        bob.send(LISTING * 500)
        chat.loop.run_ready()
    carol.send(frame_of(start_chat=pb.StartChat(name="bob", nonce=NONCE)))
    assert carol.received[-1].chat_not_started.reason == pb.ChatNotStarted.NOT_AVAILABLE
    bob.take()
    chat.end()


def test_other_clients_have_their_turn() -> None:
    """A client that sends much is not read until its batch has been handled."""
    chat = FakeChat()
    busy, other = log_in(chat, "busy"), log_in(chat, "other")
    busy.send(LISTING * (BATCH + 5))
    assert busy.kinds().count("users") == BATCH
    assert busy.must_wait()
    other.send(LISTING)
    assert other.kinds()[-1] == "users"
    chat.loop.run_ready()
    assert busy.kinds().count("users") == BATCH + 5
    assert not busy.must_wait()
    chat.end()


def test_limit_of_clients() -> None:
    """A user with another connection is no further client."""
    chat = FakeChat(ServerSettings(max_users=2))
    ada = log_in(chat, "ada")
    log_in(chat, "bob")
    late = chat.connect()
    late.send(login("late"))
    assert failure_of(late) == "SERVER_FULL"
    again = chat.connect()
    key, token = bytes(32), ada.received[0].logged_in.resume_token
    request = pb.Login(name="ada", public_key=key, resume_token=token)
    again.send(frame_of(login=request))
    assert again.kinds() == ["logged_in"]
    assert failure_of(ada) == "REPLACED"
    chat.end()


def test_connections_that_do_not_log_in_give_way() -> None:
    chat = FakeChat()
    ada = log_in(chat, "ada")
    ended = log_in(chat, "bob")
    ended.send(b"\0\0\0\0")  # lingers, as the oldest
    silent = [chat.connect() for _ in range(MAX_GUESTS)]
    chat.loop.run_ready()
    assert ended.is_lost
    assert not any(client.is_lost for client in [ada, *silent])
    log_in(chat, "carol")
    chat.loop.run_ready()
    assert [client.is_lost for client in silent] == [True] + [False] * (MAX_GUESTS - 1)
    assert silent[0].received == []
    chat.end()


def test_a_client_that_connects_while_the_server_ends() -> None:
    chat = FakeChat()
    chat.served.is_stopping = True
    assert failure_of(chat.connect()) == "STOPPING"
    chat.end()


def test_a_client_that_has_reset_the_connection() -> None:
    """The server notices when it sends its last message."""
    chat = FakeChat()
    client = log_in(chat, "ada")
    client.lose()
    client.send(b"\0\0\0\0")
    chat.loop.run_ready()
    assert client.is_lost
    chat.end()


def test_all_names_fit_into_one_frame() -> None:
    names = [f"{number:03}" + "\U00010400" * (MAX_NAME - 3) for number in range(400)]
    users = pb.Users(users=[pb.User(name=name, available=True) for name in names])
    assert len(names) == ServerSettings().max_users
    assert len(encode_frame(pb.FromServer(users=users))) <= MAX_FRAME


def test_an_internal_error_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chat = FakeChat()
    ada, bob = pair(chat)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(chat.served.directory, "list_users", lambda user: 1 / 0)
    with caplog.at_level(logging.ERROR, logger.name):
        bob.send(LISTING * 20)
        chat.loop.run_ready()
    assert "192.0.2.1 1: internal error" in caplog.text
    assert bob.is_lost
    assert ada.kinds()[-1] == "chat_ended"
    chat.end()
