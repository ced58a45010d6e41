"""Tests the chats of a client of examples/chat, without console and connection.

Messages cross on their way, come twice, are changed, or come at a wrong time.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from chat.client_state import ConnectionEnded
from chat.encryption import fingerprint
from chat.limits import MAX_TEXT
from chat.message_handler import FaultyMessage
from chat_pb2 import (
    ChatAsked,
    ChatEnded,
    ChatNotStarted,
    ChatRequested,
    ChatStarted,
    Failure,
    FromServer,
    KeepAlive,
    Partner,
    SealedContent,
    Users,
)
from recorded_client import RecordedClient, client, logged_in, refused

__all__ = ["client"]  # fixtures

REASONS = (
    ChatNotStarted.UNKNOWN,
    ChatNotStarted.REFUSED,
    ChatNotStarted.TIMED_OUT,
    ChatNotStarted.WITHDRAWN,
    ChatNotStarted.NOT_AVAILABLE,
    ChatNotStarted.NO_SUCH_USER,
    ChatNotStarted.YOURSELF,
    ChatNotStarted.OCCUPIED,
    ChatNotStarted.DISCONNECTED,
)


# Asking for a chat.


def test_a_chat(client: RecordedClient) -> None:
    other = client.start()
    assert client.state.prompt() == "alice to bob> "
    keys = [line for line in client.shown if "ey" in line]
    assert fingerprint(client.state.keys.public_key) in keys[-2]
    client.type("message  two  spaces")
    assert other.open(client.take().content.sealed).text == " two  spaces"
    sealed = other.seal("hello, alice")
    content = SealedContent(chat=1, sealed=sealed)
    assert client.get(content=content) == ["<bob> hello, alice"]
    assert client.type("start_chat eve") == ["error: you are in a chat with bob"]
    assert client.type("exit_chat") == ["You have left the chat with bob."]
    assert client.take().exit_chat.chat == 1
    assert client.state.prompt() == "alice> "
    # Messages that were on their way are ignored.
    late = SealedContent(chat=1, sealed=other.seal("late"))
    assert client.get(content=late) == []
    assert client.get(chat_ended=ChatEnded(chat=1, name="bob")) == []


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (ChatEnded.EXITED, "bob has left the chat."),
        (ChatEnded.DISCONNECTED, "bob has disconnected: the chat has ended."),
        (ChatEnded.UNKNOWN, "The chat with bob has ended."),
    ],
)
def test_the_partner_ends_the_chat(
    client: RecordedClient, reason: ChatEnded.Reason, text: str
) -> None:
    client.start()
    client.type("message")
    ended = ChatEnded(chat=1, name="bob", reason=reason)
    assert client.get(chat_ended=ended) == [text]
    assert client.state.prompt() == "alice> "


@pytest.mark.parametrize("reason", REASONS)
def test_no_chat(client: RecordedClient, reason: ChatNotStarted.Reason) -> None:
    client.type("start_chat bob")
    assert not client.accepts("message hello")
    assert client.accepts("help")
    (said,) = client.get(chat_not_started=refused(0, reason))
    assert "bob" in said or reason == ChatNotStarted.OCCUPIED
    assert client.accepts("message hello")


def test_a_request_is_withdrawn(client: RecordedClient) -> None:
    client.type("start_chat bob")
    client.take()
    client.type("exit_chat")
    assert client.sent == []  # the request has no number yet
    said = client.get(chat_asked=ChatAsked(chat=7, name="bob"))
    assert said == ["The request to bob is withdrawn."]
    assert client.take().exit_chat.chat == 7
    assert client.type("exit_chat")[0].startswith("error: you are in no chat")
    client.type("start_chat bob")
    assert client.take().start_chat.name == "bob"
    client.get(chat_asked=ChatAsked(chat=8, name="bob"))
    assert client.type("exit_chat") == said
    assert client.take().exit_chat.chat == 8


def test_a_withdrawn_request_is_accepted(client: RecordedClient) -> None:
    """The acceptance was on its way, and is none of the next request."""
    client.type("start_chat bob")
    nonce = client.take().start_chat.nonce
    client.get(chat_asked=ChatAsked(chat=7, name="bob"))
    client.type("exit_chat")
    client.type("start_chat bob")
    client.begin(7, nonce)
    assert client.state.chat is None
    client.get(chat_not_started=refused(7, ChatNotStarted.DISCONNECTED))
    assert client.state.asked
    client.begin(8, client.state.asked.nonce)
    assert client.state.chat


def test_a_withdrawn_request_meets_that_of_the_other(client: RecordedClient) -> None:
    client.type("start_chat bob")
    nonce = client.take().start_chat.nonce
    client.type("exit_chat")
    client.begin(7, nonce)
    assert client.take().exit_chat.chat == 7
    assert client.shown[-1] == "The request to bob is withdrawn."
    assert client.state.chat is None


# Being asked.


def test_an_offer_is_accepted(client: RecordedClient) -> None:
    (said,) = client.get(chat_requested=ChatRequested(chat=3, name="bob"))
    assert said == "bob asks to chat with you: answer yes or no within 30 s."
    assert client.state.prompt() == "chat with bob? yes/no> "
    client.type("yes")
    answer = client.take().answer_chat
    assert (answer.chat, answer.accepted) == (3, True)
    assert not client.accepts("message hello")
    assert client.type("yes") == ["error: no user asks you for a chat"]
    client.begin(3, answer.nonce)
    assert client.state.prompt() == "alice to bob> "


def test_an_offer_is_refused(client: RecordedClient) -> None:
    client.get(chat_requested=ChatRequested(chat=3, name="bob"))
    assert client.type("no") == ["You have refused to chat with bob."]
    answer = client.take().answer_chat
    assert (answer.chat, answer.accepted, answer.nonce) == (3, False, b"")
    client.begin(3, bytes(32))
    assert client.state.chat is None


def test_an_offer_ends(client: RecordedClient) -> None:
    for reason in REASONS:
        client.get(chat_requested=ChatRequested(chat=3, name="bob"))
        (said,) = client.get(chat_not_started=refused(3, reason))
        assert "bob" in said
        assert client.state.prompt() == "alice> "


def test_an_offer_during_a_question(client: RecordedClient) -> None:
    client.type("start_chat")
    client.get(chat_requested=ChatRequested(chat=3, name="bob"))
    client.type("yes")
    assert client.take().answer_chat.accepted
    assert client.state.prompt() == "start_chat: "


def test_both_ask(client: RecordedClient) -> None:
    """The requests cross. The chat begins with the nonce of this user's request."""
    client.type("start_chat bob")
    nonce = client.take().start_chat.nonce
    client.get(chat_requested=ChatRequested(chat=5, name="bob"))
    other = client.begin(5, nonce)
    client.type("message hello")
    assert other.open(client.take().content.sealed).text == "hello"


def test_an_offer_crosses_a_request_to_another(client: RecordedClient) -> None:
    client.type("start_chat eve")
    client.take()
    client.get(chat_requested=ChatRequested(chat=5, name="bob"))
    client.type("yes")
    answer = client.take().answer_chat
    occupied = ChatNotStarted(name="eve", reason=ChatNotStarted.OCCUPIED)
    (said,) = client.get(chat_not_started=occupied)
    assert "answer yes or no" in said
    client.begin(5, answer.nonce)
    assert client.state.chat
    assert client.state.chat.name == "bob"


# A faulty or hostile server.


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"logged_in": logged_in()},
        {"users": Users()},
        {"chat_requested": ChatRequested(chat=1, name="\x1b[2J")},
        {"chat_requested": ChatRequested(chat=1)},
        {"failure": Failure(text="no")},
    ],
)
def test_a_wrong_message(client: RecordedClient, message: dict[str, object]) -> None:
    with pytest.raises(ConnectionEnded):
        client.get(**message)


@pytest.mark.parametrize(
    "message",
    [
        {"keep_alive": KeepAlive()},
        {"logged_in": logged_in(name="two words")},
        {"logged_in": logged_in(resume_token=b"")},
        {"logged_in": logged_in(resume_token=b"x" * 5000)},
    ],
)
def test_a_wrong_first_message(message: dict[str, object]) -> None:
    client = RecordedClient()
    client.type("alice")
    with pytest.raises(FaultyMessage):
        client.get(**message)


@pytest.mark.parametrize(
    "partner",
    [
        Partner(name="bob", public_key=b"x" * 31, nonce=bytes(32)),
        Partner(name="bob", public_key=bytes(32), nonce=bytes(32)),
        Partner(name="bob", public_key=b"x" * 32, nonce=b"short"),
        Partner(name="b\nb", public_key=b"x" * 32, nonce=bytes(32)),
    ],
)
def test_a_wrong_partner(client: RecordedClient, partner: Partner) -> None:
    client.type("start_chat bob")
    with pytest.raises(FaultyMessage):
        client.get(chat_started=ChatStarted(chat=1, partner=partner))


def test_a_chat_that_nobody_wants(client: RecordedClient) -> None:
    client.begin(9, bytes(32))
    assert client.state.chat is None
    client.get(chat_asked=ChatAsked(chat=9, name="bob"))
    client.get(chat_not_started=refused(9, ChatNotStarted.REFUSED))
    assert client.shown[3:] == []


def test_changed_and_repeated_contents(client: RecordedClient) -> None:
    other = client.start()
    first, lost, third = map(other.seal, ("first", "lost", "third"))
    shown = [
        client.get(content=SealedContent(chat=1, sealed=sealed))
        for sealed in (first, first, third[:-1] + bytes([third[-1] ^ 1]), third, b"")
    ]
    assert lost not in (first, third)
    assert shown == [
        ["<bob> first"],
        ["warning: dropped a message that has already arrived"],
        ["warning: dropped a message that cannot be decrypted"],
        ["warning: 1 message is missing here.", "<bob> third"],
        ["warning: dropped a message that cannot be decrypted"],
    ]
    # The server returns a message to its sender.
    client.type("message mine")
    own = client.take().content
    assert client.get(content=own)[0].startswith("warning: dropped")


def test_a_text_over_the_limit(client: RecordedClient) -> None:
    client.start()
    (said,) = client.type("message " + "ä" * MAX_TEXT)
    assert str(MAX_TEXT) in said
    assert client.sent == []
    client.type("message " + "ä" * (MAX_TEXT // 2))
    assert client.take().content.sealed


@given(st.lists(st.binary(max_size=60)))
def test_any_message(frames: list[bytes]) -> None:
    """A message is executed, or ends the connection; nothing else happens."""
    client = RecordedClient()
    client.type("alice")
    client.get(logged_in=logged_in())
    for frame in frames:
        message = FromServer()
        with suppress(DecodeError):
            message.ParseFromString(frame)
        try:
            client.receive(message)
        except ConnectionEnded:
            return
