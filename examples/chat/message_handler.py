"""Executes the messages of the server. Pure: the results are shown lines and messages.

Messages cross on their way. An answer is for the request with its number, and all other
messages about an unknown chat are ignored, as chat.proto demands. Text of the server is
shown through the console, which escapes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.client_state import (
    ConnectionEnded,
    OfferedChat,
    RunningChat,
)
from chat.encryption import ChatMember, ContentError, EncryptedChat, fingerprint
from chat.names import InvalidName, normalize_name
from chat_pb2 import ChatEnded, ChatNotStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.client_state import ClientOutput, ClientState
    from chat_pb2 import (
        ChatAsked,
        ChatRequested,
        ChatStarted,
        Failure,
        FromServer,
        KeepAlive,
        LoggedIn,
        SealedContent,
        Users,
    )

MAX_TOKEN = 1024  # bytes
REFUSALS = {
    ChatNotStarted.REFUSED: "{} has refused to chat.",
    ChatNotStarted.TIMED_OUT: "{} has not answered in time.",
    ChatNotStarted.WITHDRAWN: "The request to {} is withdrawn.",
    ChatNotStarted.NOT_AVAILABLE: "{} is not available.",
    ChatNotStarted.NO_SUCH_USER: "There is no user {}.",
    ChatNotStarted.YOURSELF: "{} is your own name.",
    ChatNotStarted.OCCUPIED: "You are asked for a chat: answer yes or no before.",
    ChatNotStarted.DISCONNECTED: "{} has disconnected.",
}
OFFER_ENDS = {
    ChatNotStarted.TIMED_OUT: "You have not answered {} in time.",
    ChatNotStarted.DISCONNECTED: "{} has disconnected and no longer asks.",
}
CHAT_ENDS = {
    ChatEnded.EXITED: "{} has left the chat.",
    ChatEnded.DISCONNECTED: "{} has disconnected: the chat has ended.",
}


class FaultyMessage(ConnectionEnded):
    """The server sent a message that a correct one does not send."""


class MessageHandler:
    """The part of a client that changes its state for messages of the server."""

    def __init__(self, state: ClientState, output: ClientOutput) -> None:
        self._state = state
        self._output = output
        self._handlers: dict[str, Callable[[Any], None]] = {
            "logged_in": self._on_logged_in,
            "users": self._on_users,
            "chat_asked": self._on_chat_asked,
            "chat_requested": self._on_chat_requested,
            "chat_started": self._on_chat_started,
            "chat_not_started": self._on_chat_not_started,
            "chat_ended": self._on_chat_ended,
            "content": self._on_content,
            "failure": self._on_failure,
            "keep_alive": self._on_keep_alive,
        }

    def on_message(self, message: FromServer) -> None:
        """Called for each message.

        Raises:
            FaultyMessage: The message is invalid or not allowed now.
            ConnectionEnded: The server ends the connection.
        """
        kind = message.WhichOneof("kind")
        if kind is None:
            raise FaultyMessage("the server sent a message of an unknown kind")
        if (kind == "logged_in") == self._state.online and kind != "failure":
            raise FaultyMessage(f"the server sent {kind} at a wrong time")
        self._handlers[kind](getattr(message, kind))

    def _on_failure(self, failure: Failure) -> None:
        raise ConnectionEnded(failure.text, failure.code)

    def _on_keep_alive(self, _: KeepAlive) -> None:
        pass

    def _on_logged_in(self, message: LoggedIn) -> None:
        if not 0 < len(message.resume_token) <= MAX_TOKEN:
            raise FaultyMessage("the server sent an incomplete logged_in")
        state = self._state
        again, state.token = bool(state.token), message.resume_token
        state.name = checked_name(message.name)
        state.answer_timeout = message.answer_timeout / 1000
        state.online = True
        if again:
            self._output.show(f"You are logged in again as {state.name}.")
            return
        self._output.show(f"You are logged in as {state.name}.")
        self._output.show(f"Your key: {fingerprint(state.keys.public_key)}")
        self._output.show("help lists the commands.")

    def _on_users(self, message: Users) -> None:
        if not self._state.listing:
            raise FaultyMessage("the server sent users at a wrong time")
        self._state.listing = False
        for user in message.users:
            if user.name == self._state.name:
                remark = "you"
            else:
                remark = "available" if user.available else "not available"
            self._output.show(f"  {user.name} ({remark})")

    # A chat begins.

    def _on_chat_asked(self, message: ChatAsked) -> None:
        asked = self._state.asked
        if asked is None or asked.number:
            return
        asked.number = message.chat
        asked.name = checked_name(message.name)
        if asked.withdrawn:
            self._state.withdraw(self._output)
        else:
            timeout = f"{self._state.answer_timeout:g} s to answer"
            self._output.show(f"{asked.name} is asked, and has {timeout}.")

    def _on_chat_requested(self, message: ChatRequested) -> None:
        offer = OfferedChat(message.chat, checked_name(message.name))
        if self._state.chat:
            return
        self._state.offer = offer
        timeout = f"{self._state.answer_timeout:g} s"
        self._output.show(
            f"{offer.name} asks to chat with you: answer yes or no within {timeout}."
        )

    def _on_chat_started(self, message: ChatStarted) -> None:
        nonce = self._expected_nonce(message.chat)
        if not nonce:
            return
        state, partner = self._state, message.partner
        if state.asked and state.asked.withdrawn:
            state.asked.number = message.chat
            state.withdraw(self._output)
            return
        state.asked = state.offer = None
        state.question = ""
        own = ChatMember(state.name, state.keys.public_key, nonce)
        other = ChatMember(
            checked_name(partner.name), partner.public_key, partner.nonce
        )
        try:
            encryption = EncryptedChat(state.keys, own, other)
        except ContentError as error:
            raise FaultyMessage(
                f"the server sent an invalid chat_started: {error}"
            ) from None
        state.chat = RunningChat(message.chat, other.name, encryption)
        self._introduce(other)

    def _expected_nonce(self, number: int) -> bytes:
        """Return the nonce that this client has sent for the chat, if it has."""
        offer, asked = self._state.offer, self._state.asked
        if offer and offer.number == number and offer.nonce:
            return offer.nonce
        # A request without a number starts at once if the other asks for the same.
        if asked and asked.number in (0, number) and number != self._state.withdrawn:
            return asked.nonce
        return b""

    def _introduce(self, partner: ChatMember) -> None:
        own = fingerprint(self._state.keys.public_key)
        for line in (
            f"You are in a chat with {partner.name}.",
            f"  Key of {partner.name}: {fingerprint(partner.public_key)}",
            f"  Your key: {own}",
            "Compare both keys by telephone or in person.",
            "If one of them differs, the server can read this chat.",
        ):
            self._output.show(line)

    def _on_chat_not_started(self, message: ChatNotStarted) -> None:
        state = self._state
        if state.offer and message.chat == state.offer.number:
            text = OFFER_ENDS.get(message.reason, "{} no longer asks.")
            self._output.show(text.format(state.offer.name))
            state.offer = None
        elif state.asked and message.chat in (0, state.asked.number):
            text = REFUSALS.get(message.reason, "There is no chat with {}.")
            self._output.show(text.format(state.asked.name))
            state.asked = None

    # A chat.

    def _on_content(self, message: SealedContent) -> None:
        chat = self._state.chat
        if chat is None or chat.number != message.chat:
            return
        try:
            received = chat.encryption.open(message.sealed)
        except ContentError as error:
            self._output.show(f"warning: dropped {error}")
            return
        if count := received.missing:
            missing = "1 message is" if count == 1 else f"{count} messages are"
            self._output.show(f"warning: {missing} missing here.")
        self._output.show(f"<{chat.name}> {received.text}")

    def _on_chat_ended(self, message: ChatEnded) -> None:
        chat = self._state.chat
        if chat is None or chat.number != message.chat:
            return
        text = CHAT_ENDS.get(message.reason, "The chat with {} has ended.")
        self._output.show(text.format(chat.name))
        self._state.chat = None
        if self._state.question == "message":
            self._state.question = ""


def checked_name(name: str) -> str:
    """Return a name that is fit for a prompt.

    Raises:
        FaultyMessage: The name is none.
    """
    try:
        valid = normalize_name(name) == name
    except InvalidName:
        valid = False
    if not valid:
        raise FaultyMessage("the server sent an invalid name")
    return name
