"""Tests `chat client` of the examples with servers that are faulty, silent or hostile.

The client survives each of them: it reports the fault, connects again and logs in
under its name. The server is in the test.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chat.encryption import ChatMember, EncryptedChat, KeyPair, new_nonce
from chat.framing import encode_frame
from chat.limits import MAX_FRAME
from chat_link import INTERVAL, TOKEN, ChatLink, ChatListener, chat_listener
from chat_pb2 import (
    ChatRequested,
    ChatStarted,
    Failure,
    FromServer,
    KeepAlive,
    Partner,
    SealedContent,
    User,
    Users,
)
from chat_process import ChatProcess, chat_client
from processes import Memory

LOST = "^No connection to the server: "


@contextmanager
def logged_in(
    listener: ChatListener, interval: int = INTERVAL
) -> Iterator[tuple[ChatProcess, ChatLink]]:
    """Run a client, and its first connection."""
    with chat_client(listener.port) as client:
        client.type("ada")
        with listener.accept() as link:
            link.log_in(interval=interval)
            client.expect("^help ")
            yield client, link


@pytest.fixture
def listener() -> Iterator[ChatListener]:
    with chat_listener() as found:
        yield found


def begin_chat(client: ChatProcess, link: ChatLink) -> EncryptedChat:
    """Begin a chat with bob. Returns its other end."""
    client.type("start_chat bob")
    request = link.receive().start_chat
    keys = KeyPair()
    bob = ChatMember("bob", keys.public_key, new_nonce())
    link.send(chat_started=ChatStarted(chat=1, partner=Partner(**bob._asdict())))
    client.expect("can read this chat")
    return EncryptedChat(keys, bob, ChatMember("ada", link.public_key, request.nonce))


def frame(**message: object) -> bytes:
    return encode_frame(FromServer(**message))  # type: ignore[arg-type]


# Faulty messages.

USERS = frame(users=Users(users=[User(name="bob", available=True)]))
FAULTS: dict[str, tuple[bytes, str]] = {
    "a length over the limit": (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
    "one byte over the limit": (
        (MAX_FRAME + 1).to_bytes(4, "big"),
        f"a frame of {MAX_FRAME + 1} bytes",
    ),
    "no length": (bytes(4), "a frame of 0 bytes"),
    "no message": (b"\0\0\0\4\xff\xff\xff\xff", "4 bytes that are no FromServer"),
    "text": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of 1213486160 bytes"),
    "an unknown kind": (b"\0\0\0\4\xa2\x06\1x", "a message of an unknown kind"),
    "a list that was not asked for": (USERS, "users at a wrong time"),
    "a second login": (
        frame(logged_in={"name": "eve", "resume_token": b"x"}),
        "logged_in at a wrong time",
    ),
    "no name": (
        frame(chat_requested=ChatRequested(chat=1, name="\x1b[31m")),
        "an invalid name",
    ),
    "a failure": (
        frame(failure=Failure(code=Failure.TOO_SLOW, text="you are \x1b[5mslow")),
        r"you are \\x1b\[5mslow",
    ),
    "half a message": (USERS[:-1], "the server has closed it"),
    "half a length": (b"\0\0", "the server has closed it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_message(listener: ChatListener, fault: str) -> None:
    sent, reason = FAULTS[fault]
    with logged_in(listener) as (client, link):
        begin_chat(client, link)
        link.send_raw(sent)
        if fault.startswith("half"):
            link.end_output()
        link.await_end()
        assert client.read_line() == "The chat with bob has ended."
        client.expect(f"{LOST}.*{reason}")
        with listener.accept() as again:
            login = again.log_in().login
            assert (login.name, login.resume_token) == ("ada", TOKEN)
            assert login.public_key == link.public_key
            client.expect("^You are logged in again as ada.$")
            client.type("users")
            again.receive()
            again.send_raw(USERS)
            client.expect(r"^  bob \(available\)$")


def test_a_message_in_pieces(listener: ChatListener) -> None:
    with logged_in(listener) as (client, link):
        client.type("users")
        link.receive()
        for at in range(len(USERS)):
            link.send_raw(USERS[at : at + 1])
        client.expect(r"^  bob \(available\)$")


def test_a_reset(listener: ChatListener) -> None:
    with logged_in(listener) as (client, link):
        link.reset()
        client.expect(f"{LOST}Connection reset by peer")


def test_a_changed_message(listener: ChatListener) -> None:
    with logged_in(listener) as (client, link):
        bob = begin_chat(client, link)
        first, changed, last = map(bob.seal, ("first", "changed", "last"))
        changed = bytes([changed[0] ^ 1]) + changed[1:]
        for sealed in (first, changed, first, last):
            link.send(content=SealedContent(chat=1, sealed=sealed))
        assert [client.read_line() for _ in range(5)] == [
            "<bob> first",
            "warning: dropped a message that cannot be decrypted",
            "warning: dropped a message that has already arrived",
            "warning: 1 message is missing here.",
            "<bob> last",
        ]


# Names.


def test_the_name_is_taken_after_a_lost_connection(listener: ChatListener) -> None:
    """The user chooses another, and a new login begins."""
    with logged_in(listener) as (client, link):
        link.reset()
        client.expect(LOST)
        with listener.accept() as again:
            again.receive()
            taken = Failure(code=Failure.NAME_TAKEN, text="ada is logged in")
            again.send(failure=taken)
            client.expect("^error: ada is logged in$")
            client.expect("^Write the name")
        client.type("eve")
        with listener.accept() as other:
            login = other.log_in(b"other").login
            assert (login.name, login.resume_token) == ("eve", b"")
            client.expect("^You are logged in as eve.$")


def test_a_name_that_is_taken_from_the_user(listener: ChatListener) -> None:
    """A faulty server says so during a chat."""
    with logged_in(listener) as (client, link):
        begin_chat(client, link)
        link.send(failure=Failure(code=Failure.NAME_TAKEN, text="it is mine"))
        link.await_end()
        assert client.read_line() == "The chat with bob has ended."
        client.expect("^error: it is mine$")
        client.type("eve")
        with listener.accept() as other:
            assert other.log_in().login.name == "eve"
            client.expect("^You are logged in as eve.$")


def test_a_full_server(listener: ChatListener) -> None:
    with chat_client(listener.port) as client:
        client.type("ada")
        with listener.accept() as link:
            link.receive()
            full = Failure(code=Failure.SERVER_FULL, text="no \x1b[5mroom")
            link.send(failure=full)
            status, _, errors = client.finish()
    assert status == os.EX_UNAVAILABLE
    where = f"127.0.0.1:{listener.port}"
    assert errors == f"chat: cannot connect to {where}: no \\x1b[5mroom\n"


# Silence, and slow ends.


def test_a_silent_server(listener: ChatListener) -> None:
    with logged_in(listener, interval=100) as (client, _):
        client.expect(f"{LOST}silence for 0.3 s")
        with listener.accept() as again:
            again.log_in()
            client.expect("^You are logged in again")


def test_the_client_is_never_silent(listener: ChatListener) -> None:
    with logged_in(listener, interval=2000) as (_, link):
        for _ in range(2):
            assert link.receive_any().HasField("keep_alive")


def test_the_server_ends_before_the_client(listener: ChatListener) -> None:
    """The client waits until the server has read everything."""
    with logged_in(listener) as (client, link):
        begin_chat(client, link)
        client.type("message last words", "disconnect")
        link.send(keep_alive=KeepAlive())  # unread input would reset the connection
        assert link.receive().HasField("content")
        link.await_end()


def test_a_slow_reader_of_the_output(listener: ChatListener) -> None:
    """Output that is not read stops the server; nothing is lost, memory is bounded."""
    with logged_in(listener) as (client, link):
        bob = begin_chat(client, link)
        memory = Memory([client.process.pid])
        text = "x" * 10_000
        sent = 0
        # The client has stopped reading when the sockets of both sides stay full.
        while link.writable(1.0):
            sealed = bob.seal(f"{sent} {text}")
            link.send(content=SealedContent(chat=1, sealed=sealed))
            sent += 1
        assert sent > 10
        assert memory.growth() < 16 << 20
        for number in range(sent):
            assert client.read_line() == f"<bob> {number} {text}"


def test_input_that_waits_for_answers(listener: ChatListener) -> None:
    """Lines that cannot be executed yet stay in the pipe, and all are executed."""
    with logged_in(listener) as (client, link):
        os.set_blocking(client.stdin.fileno(), False)
        given = 0
        while select.select([], [client.stdin], [], 1.0)[1]:
            given += os.write(client.stdin.fileno(), b"users\n" * 64) // 6
        assert given > 1000
        os.set_blocking(client.stdin.fileno(), True)
        for _ in range(200):
            assert link.receive().HasField("list_users")
            link.send_raw(USERS)
            assert client.read_line() == "  bob (available)"


def test_output_without_a_reader_during_a_chat(listener: ChatListener) -> None:
    with logged_in(listener) as (client, link):
        bob = begin_chat(client, link)
        client.stdout.close()
        link.send(content=SealedContent(chat=1, sealed=bob.seal("hello")))
        link.await_end()
        assert client.process.wait() == os.EX_OK
