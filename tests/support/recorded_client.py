"""The handlers of the chat client of the examples, without console and connection.

Records their output. The test is the user and the server.
"""

from __future__ import annotations

import pytest

from chat.client_state import ClientState
from chat.command_handler import CommandHandler
from chat.encryption import ChatMember, EncryptedChat, KeyPair, new_nonce
from chat.message_handler import MessageHandler
from chat_pb2 import (
    ChatAsked,
    ChatNotStarted,
    ChatStarted,
    FromClient,
    FromServer,
    LoggedIn,
    Partner,
)


class RecordedClient:
    """A client without a console and without a connection."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.sent: list[FromClient] = []
        self.events: list[str] = []
        self.state = ClientState()
        self._commands = CommandHandler(self.state, self)
        self._messages = MessageHandler(self.state, self)

    def show(self, line: str) -> None:
        self.shown.append(line)

    def send(self, message: FromClient) -> None:
        self.sent.append(message)

    def log_in(self) -> None:
        self.events.append("log in")

    def disconnect(self) -> None:
        self.events.append("disconnect")

    def type(self, line: str) -> list[str]:
        """Execute a line. Returns the lines that it shows."""
        assert self.accepts(line)
        before = len(self.shown)
        self._commands.on_line(line)
        return self.shown[before:]

    def accepts(self, line: str) -> bool:
        return self._commands.accepts(line)

    def get(self, **message: object) -> list[str]:
        """Receive a message. Returns the lines that it shows."""
        return self.receive(FromServer(**message))  # type: ignore[arg-type]

    def receive(self, message: FromServer) -> list[str]:
        before = len(self.shown)
        self._messages.on_message(message)
        return self.shown[before:]

    def take(self) -> FromClient:
        """Return the only message that was sent since the last call."""
        (message,) = self.sent
        self.sent.clear()
        return message

    def start(self, number: int = 1) -> EncryptedChat:
        """Begin a chat with bob. Returns its other end."""
        self.type("start_chat bob")
        nonce = self.take().start_chat.nonce
        self.get(chat_asked=ChatAsked(chat=number, name="bob"))
        return self.begin(number, nonce)

    def begin(self, number: int, nonce: bytes) -> EncryptedChat:
        """Receive the beginning of a chat with bob and a new key of his."""
        keys = KeyPair()
        bob = ChatMember("bob", keys.public_key, new_nonce())
        self.get(
            chat_started=ChatStarted(chat=number, partner=Partner(**bob._asdict()))
        )
        own = ChatMember("alice", self.state.keys.public_key, nonce)
        return EncryptedChat(keys, bob, own)


@pytest.fixture
def client() -> RecordedClient:
    made = RecordedClient()
    assert made.type("alice") == []
    made.get(logged_in=logged_in())
    return made


def logged_in(**other: object) -> LoggedIn:
    fields: dict[str, object] = {"resume_token": b"x", "answer_timeout": 30_000}
    return LoggedIn(**({"name": "alice"} | fields | other))  # type: ignore[arg-type]


def refused(chat: int, reason: ChatNotStarted.Reason) -> ChatNotStarted:
    return ChatNotStarted(chat=chat, name="bob", reason=reason)
