"""The state of a client: its name, its requests, its chat and its prompt. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from chat.encryption import KeyPair
from chat_pb2 import ExitChat, Failure, FromClient, Login

if TYPE_CHECKING:
    from chat.encryption import EncryptedChat


class ConnectionEnded(Exception):
    """The connection has ended, or cannot be used. The text says why.

    Attributes:
        code: The reason that the server gave.
    """

    def __init__(self, text: str, code: Failure.Code = Failure.Code.UNKNOWN) -> None:
        super().__init__(text)
        self.code = code


class ClientOutput(Protocol):
    """Receives the output of the handlers of a client."""

    def show(self, line: str) -> None: ...

    def send(self, message: FromClient) -> None: ...

    def log_in(self) -> None:
        """Called when the user has given a name."""

    def disconnect(self) -> None:
        """Called when the user ends the client."""


@dataclass
class AskedChat:
    """A request of this user. Its number is 0 until the server has passed it on."""

    name: str
    nonce: bytes
    number: int = 0
    withdrawn: bool = False


@dataclass
class OfferedChat:
    """A request of another user. The nonce is empty until this user accepts."""

    number: int
    name: str
    nonce: bytes = b""


@dataclass
class RunningChat:
    """A chat that has started."""

    number: int
    name: str
    encryption: EncryptedChat


@dataclass
class ClientState:
    """One user. The key pair lasts as long as the process.

    Attributes:
        token: Proves to the server that a new connection is of the same user. Empty
            until the first login.
        question: The command that the next line is the argument of.
        listing: The server has been asked for the users.
        withdrawn: The number of the last request that was withdrawn. The beginning of
            that chat can still arrive.
    """

    name: str = ""
    online: bool = False
    token: bytes = b""
    answer_timeout: float = 0.0  # seconds
    question: str = ""
    listing: bool = False
    asked: AskedChat | None = None
    offer: OfferedChat | None = None
    withdrawn: int = 0
    chat: RunningChat | None = None
    keys: KeyPair = field(default_factory=KeyPair)

    def login(self) -> FromClient:
        """Return the first message of a connection."""
        login = Login(
            name=self.name, public_key=self.keys.public_key, resume_token=self.token
        )
        return FromClient(login=login)

    def on_disconnected(self) -> str:
        """Forget what needed the connection. Returns the name of the partner."""
        partner = self.chat.name if self.chat else ""
        self.online = self.listing = False
        self.asked = self.offer = self.chat = None
        self.withdrawn = 0
        self.question = ""
        return partner

    def withdraw(self, output: ClientOutput) -> None:
        """Withdraw the request for a chat, which has a number by now."""
        if self.asked:
            output.send(exit_message(self.asked.number))
            output.show(f"The request to {self.asked.name} is withdrawn.")
            self.withdrawn, self.asked = self.asked.number, None

    def prompt(self) -> str:
        if not self.name:
            return "name: "
        if self.question:
            return f"{self.question}: "
        if not self.online:
            return f"{self.name} (not connected)> "
        if self.offer and not self.offer.nonce:
            return f"chat with {self.offer.name}? yes/no> "
        return f"{self.name} to {self.chat.name}> " if self.chat else f"{self.name}> "


def exit_message(number: int) -> FromClient:
    """Return the message that ends a chat, or withdraws the request for it."""
    return FromClient(exit_chat=ExitChat(chat=number))
