"""Window of a terminal: how much output the server may send ahead of the reader.

A key such as Ctrl-C has an effect on the screen only after all output that is on its
way. So the client permits a bounded number of bytes beyond those that were taken. Pure:
knows the messages, and neither buffers nor readers. chimirror-protocol(7), TERMINALS.
"""

from __future__ import annotations

from chimirror.client import stdio_messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class MessageSender(Protocol):
        """Sends messages to the server, such as a WebSocketProtocol."""

        def send(self, message: bytes, *, urgent: bool = False) -> None: ...


AHEAD = 128 * 1024  # bytes beyond the output that was taken


class OutputWindow:
    """Counts the output of a session, and permits more as it is taken.

    Counts alone until `start`, and after `stop`.
    """

    __slots__ = ("_is_used", "_permitted", "_received", "_sender", "_taken")

    def __init__(self, sender: MessageSender) -> None:
        self._sender = sender
        self._is_used = False
        self._permitted = self._received = self._taken = 0

    @property
    def is_full(self) -> bool:
        """Whether no output can arrive before some is taken."""
        return self._is_used and self._received >= self._permitted

    def start(self) -> None:
        """Limit the output of the server from now on."""
        if not self._is_used:
            self._is_used = True
            self._permit(self._taken)

    def widen(self) -> None:
        """Permit more without a reader. The buffers alone limit the output then."""
        self._permit(self._received)

    def stop(self) -> None:
        """Permit nothing more: the process has ended, and the rest arrives anyway."""
        self._is_used = False

    def on_received(self, size: int) -> None:
        """Called with output, before it is taken or dropped."""
        self._received += size

    def on_taken(self, size: int) -> None:
        """Called when output was taken or dropped."""
        self._taken += size
        if self._is_used and self._permitted - self._taken <= AHEAD // 2:
            self._permit(self._taken)

    def _permit(self, size: int) -> None:
        self._permitted = size + AHEAD
        self._sender.send(stdio_messages.window(self._permitted), urgent=True)
