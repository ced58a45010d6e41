"""The commands of the user: names, arguments and the text of `help`. Pure."""

from __future__ import annotations

from typing import NamedTuple


class TypedCommand(NamedTuple):
    """A line of the user: the name of a command, and the text after it."""

    name: str
    argument: str


# The question for an argument that is not in the line of its command.
QUESTIONS = {
    "start_chat": "Write the name of the user. An empty line cancels.",
    "message": "Write the text. An empty line cancels.",
}
PURPOSES = {
    "users": "lists the users, and which are available",
    "start_chat": "asks a user for a chat; with the name, or asks for it",
    "message": "sends a text to the partner; with the text, or asks for it",
    "exit_chat": "ends the chat, or withdraws the request for one",
    "yes": "accepts the chat that another user asks for",
    "no": "refuses it",
    "update_messages": "is no longer needed: messages are shown when they arrive",
    "disconnect": "ends this program",
    "help": "shows this list",
}
# Commands that need no connection.
LOCAL = {"update_messages", "disconnect", "help"}
# Commands that wait for the answer to a request, so that a script can send them ahead.
WAITING = {"start_chat", "message"}


def parse(line: str) -> TypedCommand:
    """Split a line. All spaces after the first belong to the argument."""
    name, _, argument = line.lstrip().partition(" ")
    return TypedCommand(name.rstrip(), argument)


def help_lines() -> list[str]:
    return [f"  {name:<15}  {purpose}" for name, purpose in PURPOSES.items()]
