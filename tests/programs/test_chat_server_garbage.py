"""Sends garbage to a real `chat server`, while two users of it chat.

Hypothesis makes the input: valid messages in any order, edited, cut and mixed with any
bytes. Each input has a connection of its own. Whatever it is, the server answers with
valid messages, closes the connection, forgets the user, and the chat goes on.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chat_pb2 as pb
from chat_peer import NONCE, ChatPeer, ChatServer, chat_server, frame_of
from fuzz_input import pieces

NAMES = st.sampled_from(["ada", "bob", "eve", "", "a b", "x" * 40])
CHATS = st.integers(0, 3)
BYTES = st.binary(max_size=40)
LOGIN = frame_of(login=pb.Login(name="eve", public_key=bytes(32)))
FRAMES = st.one_of(
    st.just(LOGIN),
    st.builds(
        lambda name, key: frame_of(login=pb.Login(name=name, public_key=key)),
        NAMES,
        st.sampled_from([bytes(32), b"", bytes(33)]),
    ),
    st.just(frame_of(list_users=pb.ListUsers())),
    st.just(frame_of(keep_alive=pb.KeepAlive())),
    st.builds(
        lambda name: frame_of(start_chat=pb.StartChat(name=name, nonce=NONCE)), NAMES
    ),
    st.builds(
        lambda chat, yes: frame_of(
            answer_chat=pb.AnswerChat(chat=chat, accepted=yes, nonce=NONCE)
        ),
        CHATS,
        st.booleans(),
    ),
    st.builds(
        lambda chat, data: frame_of(content=pb.SealedContent(chat=chat, sealed=data)),
        CHATS,
        BYTES,
    ),
    st.builds(lambda chat: frame_of(exit_chat=pb.ExitChat(chat=chat)), CHATS),
    st.builds(lambda data: len(data).to_bytes(4, "big") + data, BYTES),
    BYTES,
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Input of one connection, in the pieces in which it is sent."""
    frames = draw(st.lists(FRAMES, max_size=12))
    stream = bytearray(b"".join([LOGIN, *frames] if draw(st.booleans()) else frames))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(stream)))
        stream[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    return pieces(bytes(stream), cuts)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    with chat_server(tmp_path_factory.mktemp("chat")) as server:
        yield server


def talk_to(server: ChatServer, sent: list[bytes]) -> None:
    """Send the pieces, then read to the end: valid messages, a Failure at most last."""
    with server.connect() as eve:
        eve.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in sent:
                eve.send_raw(piece)
            eve.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed the connection before
        kinds = []
        while message := eve.receive():
            kinds.append(message.WhichOneof("kind"))
    assert None not in kinds
    assert "failure" not in kinds[:-1]
    assert kinds[:1] in ([], ["logged_in"], ["failure"])


def check(ada: ChatPeer, bob: ChatPeer, number: int) -> None:
    """Check that two users notice nothing."""
    ada.say(number, b"still here")
    assert bob.expect("content").content.sealed == b"still here"
    bob.say(number, b"so am I")
    assert ada.expect("content").content.sealed == b"so am I"
    assert ada.users() == {"ada": False, "bob": False}


@settings(max_examples=150)
@given(sent=streams())
def test_garbage(served: ChatServer, sent: list[bytes]) -> None:
    with served.connect() as ada, served.connect() as bob:
        ada.log_in("ada")
        bob.log_in("bob")
        number = ada.chat_with(bob)
        talk_to(served, sent)
        check(ada, bob, number)
