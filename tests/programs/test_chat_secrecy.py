"""Tests what the server of a chat can see and do, with real clients and a real server.

Between them is a relay with the powers of a hostile server.
"""

from __future__ import annotations

from nacl.public import Box, PrivateKey, PublicKey

import chat_pb2 as pb
from chat.encryption import fingerprint
from chat_peer import ChatServer, server
from chat_process import ChatProcess, chat_client, start_chat
from chat_relay import chat_relay

__all__ = ["server"]  # fixtures

SECRET = "the tulips are under the stairs"


def key_lines(one: ChatProcess, other: ChatProcess) -> list[str]:
    """Start a chat of ada and bob. Returns the key of bob as both see it."""
    one.type("start_chat bob")
    other.expect("asks to chat")
    other.type("yes")
    seen = one.expect("Key of bob: "), other.expect("Your key: ")
    for client in (one, other):
        client.expect("can read this chat")
    return [line.partition(": ")[2] for line in seen]


def test_the_server_sees_no_content(server: ChatServer) -> None:
    with (
        chat_relay(server.port) as (relay, port),
        chat_client(port, "ada") as ada,
        chat_client(port, "bob") as bob,
    ):
        start_chat(ada, bob, "bob")
        for text in (SECRET, SECRET):
            ada.type(f"message {text}")
            assert bob.expect("^<ada> ") == f"<ada> {text}"
        bob.type(f"message {SECRET.upper()}")
        assert ada.expect("^<bob> ") == f"<bob> {SECRET.upper()}"
        seen = bytes(relay.seen)
    assert {"login", "content", "chat_started"} <= relay.kinds
    assert b"ada" in seen  # it does see names
    for word in SECRET.split():
        assert len(word) < 4 or word.encode() not in seen.lower()
    assert SECRET not in server.log.read_text()


def test_a_server_that_passes_on_its_own_key(server: ChatServer) -> None:
    """It can read what ada writes. Both users see different keys of bob."""
    secret = PrivateKey.generate()
    stolen: list[bytes] = []
    keys: dict[str, bytes] = {}

    def edit(message: pb.FromServer) -> None:
        partner = message.chat_started.partner
        if partner.name:
            keys[partner.name] = partner.public_key
        if partner.name == "bob":
            partner.public_key = bytes(secret.public_key)
        if message.WhichOneof("kind") == "content":
            stolen.append(message.content.sealed)

    with (
        chat_relay(server.port, edit) as (_, port),
        chat_client(port, "ada") as ada,
        chat_client(port, "bob") as bob,
    ):
        seen, own = key_lines(ada, bob)
        ada.type(f"message {SECRET}")
        assert "cannot be decrypted" in bob.expect("warning: ")
    assert seen == fingerprint(bytes(secret.public_key)) != own
    assert own == fingerprint(keys["bob"])
    opened = Box(secret, PublicKey(keys["ada"])).decrypt(stolen[0])
    assert pb.Content.FromString(opened).text == SECRET
