"""Executes the lines of the user. Pure: the results are messages and shown lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat import commands
from chat.client_state import AskedChat, exit_message
from chat.encryption import ContentError, new_nonce
from chat.names import InvalidName, normalize_name
from chat_pb2 import (
    AnswerChat,
    FromClient,
    ListUsers,
    SealedContent,
    StartChat,
)

if TYPE_CHECKING:
    from chat.client_state import ClientOutput, ClientState, OfferedChat

MAX_NAME = 64  # characters of an unknown command in its error
NO_CHAT = "error: you are in no chat; begin one with start_chat"
NO_OFFER = "error: no user asks you for a chat"


class CommandHandler:
    """The part of a client that changes its state for lines of the user."""

    def __init__(self, state: ClientState, output: ClientOutput) -> None:
        self._state = state
        self._output = output
        self._commands = {
            "users": self._list_users,
            "start_chat": self._start_chat,
            "message": self._send_message,
            "exit_chat": self._exit_chat,
            "yes": self._accept,
            "no": self._refuse,
            "update_messages": self._explain_update,
            "disconnect": self._disconnect,
            "help": self._show_help,
        }

    def accepts(self, line: str) -> bool:
        """Return False if the line has to wait for a message of the server."""
        state = self._state
        if not state.name:
            return True
        if not state.token or state.listing:
            return False
        waits = state.asked or (state.offer and state.offer.nonce)
        return not waits or commands.parse(line).name not in commands.WAITING

    def on_line(self, line: str) -> None:
        """Called for a line that is accepted."""
        state = self._state
        if not state.name:
            self._choose_name(line)
        elif state.question and not self._is_answer(line):
            name, state.question = state.question, ""
            if line.strip():
                self._commands[name](line)
            else:
                self._output.show(f"{name} is cancelled.")
        elif line.strip():
            self._execute(*commands.parse(line))

    def _choose_name(self, line: str) -> None:
        try:
            self._state.name = normalize_name(line)
        except InvalidName as error:
            self._output.show(f"error: {error}")
        else:
            self._output.log_in()

    def _is_answer(self, line: str) -> bool:
        """Return True if the line answers another user, not the open question."""
        return self._state.offer is not None and line.strip() in ("yes", "no")

    def _execute(self, name: str, argument: str) -> None:
        """Execute a command, or ask for its argument."""
        if name not in self._commands:
            hint = f"{name[:MAX_NAME]!r} is no command; help lists the commands"
            self._output.show(f"error: {hint}")
        elif not self._state.online and name not in commands.LOCAL:
            self._output.show(f"error: not connected: {name} was not executed")
        elif name in commands.QUESTIONS and not argument.strip():
            self._ask_argument(name)
        else:
            self._commands[name](argument)

    def _ask_argument(self, name: str) -> None:
        if name == "message" and not self._state.chat:
            self._output.show(NO_CHAT)
        else:
            self._state.question = name
            self._output.show(commands.QUESTIONS[name])

    def _list_users(self, _: str) -> None:
        self._state.listing = True
        self._output.send(FromClient(list_users=ListUsers()))

    def _start_chat(self, argument: str) -> None:
        if self._state.chat:
            partner = self._state.chat.name
            self._output.show(f"error: you are in a chat with {partner}")
            return
        try:
            asked = AskedChat(normalize_name(argument), new_nonce())
        except InvalidName as error:
            self._output.show(f"error: {error}")
            return
        self._state.asked = asked
        request = StartChat(name=asked.name, nonce=asked.nonce)
        self._output.send(FromClient(start_chat=request))

    def _send_message(self, text: str) -> None:
        chat = self._state.chat
        if chat is None:
            self._output.show(NO_CHAT)
            return
        try:
            sealed = chat.encryption.seal(text)
        except ContentError as error:
            self._output.show(f"error: {error}")
            return
        content = SealedContent(chat=chat.number, sealed=sealed)
        self._output.send(FromClient(content=content))

    def _exit_chat(self, _: str) -> None:
        state = self._state
        if state.chat:
            self._output.send(exit_message(state.chat.number))
            self._output.show(f"You have left the chat with {state.chat.name}.")
            state.chat = None
        elif state.asked:
            # A request without a number is withdrawn when it gets one.
            state.asked.withdrawn = True
            if state.asked.number:
                state.withdraw(self._output)
        else:
            self._output.show(NO_CHAT)

    def _accept(self, _: str) -> None:
        if offer := self._open_offer():
            offer.nonce = new_nonce()
            self._answer(offer)

    def _refuse(self, _: str) -> None:
        if offer := self._open_offer():
            self._answer(offer)
            self._output.show(f"You have refused to chat with {offer.name}.")
            self._state.offer = None

    def _open_offer(self) -> OfferedChat | None:
        """Return the request that has to be answered."""
        offer = self._state.offer
        if offer and not offer.nonce:
            return offer
        self._output.show(NO_OFFER)
        return None

    def _answer(self, offer: OfferedChat) -> None:
        answer = AnswerChat(
            chat=offer.number, accepted=bool(offer.nonce), nonce=offer.nonce
        )
        self._output.send(FromClient(answer_chat=answer))

    def _explain_update(self, _: str) -> None:
        self._output.show("update_messages is no longer needed:")
        self._output.show("messages are shown when they arrive.")

    def _disconnect(self, _: str) -> None:
        self._output.disconnect()

    def _show_help(self, _: str) -> None:
        for line in commands.help_lines():
            self._output.show(line)
