"""Fuzz targets for the chat client of the examples: its state, and its terminal."""

from __future__ import annotations

import chat_pb2 as pb
from chat.client_state import ConnectionEnded
from chat.display_text import escaped, width
from chat.encryption import ChatMember, EncryptedChat, KeyPair
from chat.framing import encode_frame
from chat.keys import CursorColumn, Key, KeyDecoder
from chat.limits import NONCE_SIZE
from chat.line_editor import MAX_LINE, LineEditor
from fuzz_input import FuzzInput, pieces
from recorded_client import RecordedClient, logged_in

BOB = KeyPair()
NONCE = b"b" * NONCE_SIZE
LINES = (
    *("users", "start_chat bob", "start_chat", "message hello", "message", "exit_chat"),
    *(
        "yes",
        "no",
        "update_messages",
        "help",
        "disconnect",
        "",
        "bob",
        "start_chat eve",
    ),
)
NAMES = ("bob", "eve", "ada", "Bob", "", "two words", "\x1b[31m")
MAX_STEPS = 200


def fuzz_chat_client(data: bytes) -> None:
    """For all lines and messages, the state fits together and each error is known."""
    source = FuzzInput(data)
    pair = ClientAndServer()
    for _ in range(MAX_STEPS):
        if source.position >= len(data):
            break
        kind = source.byte() % 16
        if kind < 6:
            pair.type(LINES[source.byte() % len(LINES)])
        else:
            pair.receive(pair.message_of(kind, source))


class ClientAndServer:
    """A client, and the knowledge of its server: the nonces, and the keys of bob."""

    def __init__(self) -> None:
        self.client = RecordedClient()
        self.client.type("alice")
        self._nonce = b""
        self._bob: EncryptedChat | None = None

    def type(self, line: str) -> None:
        if self.client.accepts(line):
            self.client.type(line)
        self.check()

    def receive(self, message: pb.FromServer) -> None:
        try:
            shown = self.client.receive(message)
        except ConnectionEnded as end:
            assert escaped(str(end)).isprintable()
            self.client.state.on_disconnected()
        else:
            if any(line.startswith("You are in a chat") for line in shown):
                self._begin(message.chat_started.partner)
        self.check()

    def _begin(self, partner: pb.Partner) -> None:
        """Take the other end of the chat, if its key is that of bob."""
        state = self.client.state
        own = ChatMember(state.name, state.keys.public_key, self._nonce)
        bob = ChatMember(partner.name, BOB.public_key, NONCE)
        known = partner.public_key == BOB.public_key
        self._bob = EncryptedChat(BOB, bob, own) if known else None

    def check(self) -> None:
        """Check the invariants of the state, and that messages fit into frames."""
        state = self.client.state
        assert state.prompt().isprintable()
        if not state.online:
            assert (state.chat, state.asked, state.offer) == (None, None, None)
            assert (state.question, state.listing) == ("", False)
        for message in self.client.sent:
            encode_frame(message)
            nonce = message.start_chat.nonce or message.answer_chat.nonce
            self._nonce = nonce or self._nonce
        self.client.sent.clear()
        encode_frame(state.login())

    def message_of(self, kind: int, source: FuzzInput) -> pb.FromServer:
        """Return a message of the server, which may fit the state of the client."""
        chat, name = source.byte() % 4, NAMES[source.byte() % len(NAMES)]
        message = pb.FromServer()
        match kind:
            case 6:
                message.logged_in.CopyFrom(logged_in())
            case 7:
                message.users.users.add(name=name, available=True)
            case 8:
                message.chat_asked.CopyFrom(pb.ChatAsked(chat=chat, name=name))
            case 9:
                message.chat_requested.CopyFrom(pb.ChatRequested(chat=chat, name=name))
            case 10 | 11:
                key = BOB.public_key if kind == 10 else source.take(32)
                partner = pb.Partner(name=name, public_key=key, nonce=NONCE)
                started = pb.ChatStarted(chat=chat, partner=partner)
                message.chat_started.CopyFrom(started)
            case 12:
                # The third field is the reason, which may be an unknown one.
                reason = bytes([3 << 3, source.byte() & 0x7F])
                message.chat_not_started.ParseFromString(reason)
                message.chat_not_started.chat = chat
            case 13:
                message.chat_ended.CopyFrom(pb.ChatEnded(chat=chat, name=name))
            case 14:
                message.content.chat = chat
                genuine = self._bob and source.byte() % 4
                message.content.sealed = (
                    self._bob.seal("hi") if self._bob and genuine else source.take(60)
                )
            case _:
                message.failure.text = name
        return message


def fuzz_chat_terminal(data: bytes) -> None:
    """Keys, cut anywhere, are the same keys. The picture of the line fits its row."""
    source = FuzzInput(data)
    columns, cuts, stream = source.byte(), source.cuts(), source.rest()
    keys = decoded([stream])
    assert keys == decoded(pieces(stream, cuts))
    editor = LineEditor()
    editor.prompt = "ada to bob> "
    for key in keys:
        if isinstance(key, str):
            assert escaped(key) == key
            editor.insert(key)
        elif key is Key.ENTER:
            assert editor.submit().count("\n") == 0
        elif isinstance(key, Key):
            editor.press(key)
        assert 0 <= editor.cursor <= len(editor.text) <= MAX_LINE
    before, after = editor.picture(columns)
    assert width(before + after) <= max(columns - 1, 2)


def decoded(chunks: list[bytes]) -> list[Key | CursorColumn | str]:
    decoder = KeyDecoder()
    return [key for chunk in chunks for key in decoder.decode(chunk)]
