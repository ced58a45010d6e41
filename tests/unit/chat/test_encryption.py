"""Tests the encryption of examples/chat, with a server that does what it likes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey

import chat_pb2 as pb
from chat.encryption import (
    ChatMember,
    ContentError,
    EncryptedChat,
    KeyPair,
    fingerprint,
    new_nonce,
)
from chat.limits import KEY_SIZE, MAX_SEALED, MAX_TEXT, NONCE_SIZE

ADA, BOB = KeyPair(), KeyPair()
ONE, TWO = b"1" * NONCE_SIZE, b"2" * NONCE_SIZE
OTHER_CHAT = r"^a message of another chat$"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)


class Ends(NamedTuple):
    """Both ends of one chat."""

    ada: EncryptedChat
    bob: EncryptedChat


def chat(ada: bytes = ONE, bob: bytes = TWO) -> Ends:
    first = ChatMember("ada", ADA.public_key, ada)
    second = ChatMember("bob", BOB.public_key, bob)
    return Ends(EncryptedChat(ADA, first, second), EncryptedChat(BOB, second, first))


@given(st.lists(st.tuples(st.booleans(), TEXTS), max_size=8))
def test_texts_arrive_in_both_directions(said: list[tuple[bool, str]]) -> None:
    ends = chat()
    for by_ada, text in said:
        sender, receiver = ends if by_ada else ends[::-1]
        sealed = sender.seal(text)
        assert receiver.open(sealed) == (text, 0)


def test_the_longest_text_fits() -> None:
    ends = chat()
    text = "\N{PILE OF POO}" * (MAX_TEXT // 4)
    sealed = ends.ada.seal(text)
    assert len(sealed) <= MAX_SEALED
    assert ends.bob.open(sealed).text == text
    with pytest.raises(ContentError, match=r"^a text of 16385 bytes"):
        ends.ada.seal(text + "x")
    with pytest.raises(ContentError, match="UTF-8"):
        ends.ada.seal("\ud800")
    assert ends.bob.open(ends.ada.seal("next")) == ("next", 0)


@given(TEXTS, st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_is_noticed_and_changes_nothing(
    text: str, place: int, change: int
) -> None:
    ends = chat()
    sealed = bytearray(ends.ada.seal(text))
    intact = bytes(sealed)
    sealed[place % len(sealed)] ^= change
    with pytest.raises(ContentError, match="cannot be decrypted"):
        ends.bob.open(bytes(sealed))
    assert ends.bob.open(intact) == (text, 0)


@given(st.binary(max_size=200))
def test_what_is_no_message(sealed: bytes) -> None:
    with pytest.raises(ContentError, match="cannot be decrypted"):
        chat().bob.open(sealed)


def test_a_repeated_message_is_noticed() -> None:
    ends = chat()
    first, second = ends.ada.seal("one"), ends.ada.seal("two")
    ends.bob.open(first)
    ends.bob.open(second)
    for sealed in (first, second):
        with pytest.raises(ContentError, match="already arrived"):
            ends.bob.open(sealed)


def test_missing_messages_are_counted() -> None:
    ends = chat()
    sealed = [ends.ada.seal(str(number)) for number in range(5)]
    assert ends.bob.open(sealed[1]) == ("1", 1)
    with pytest.raises(ContentError, match="already arrived"):
        ends.bob.open(sealed[0])
    assert ends.bob.open(sealed[4]) == ("4", 2)


def test_a_message_is_not_given_back_to_its_sender() -> None:
    """Both directions have the same key, so only the context tells them apart."""
    ends = chat()
    with pytest.raises(ContentError, match=OTHER_CHAT):
        ends.ada.open(ends.ada.seal("mine"))


@pytest.mark.parametrize("nonces", [(ONE, ONE), (TWO, TWO), (TWO, ONE)])
def test_a_message_of_an_earlier_chat_is_noticed(nonces: tuple[bytes, bytes]) -> None:
    sealed = chat().ada.seal("yes")
    with pytest.raises(ContentError, match=OTHER_CHAT):
        chat(*nonces).bob.open(sealed)


@pytest.mark.parametrize("names", [("ada", "carol"), ("adabo", "b"), ("bob", "ada")])
def test_other_names_are_noticed(names: tuple[str, str]) -> None:
    """The server calls the users something else at one end."""
    first = ChatMember(names[0], ADA.public_key, ONE)
    second = ChatMember(names[1], BOB.public_key, TWO)
    deceived = EncryptedChat(BOB, second, first)
    with pytest.raises(ContentError, match=OTHER_CHAT):
        deceived.open(chat().ada.seal("hello"))


def test_another_key_decrypts_nothing_and_has_another_fingerprint() -> None:
    mallory = KeyPair()
    first = ChatMember("ada", ADA.public_key, ONE)
    second = ChatMember("bob", mallory.public_key, TWO)
    with pytest.raises(ContentError, match="cannot be decrypted"):
        EncryptedChat(mallory, second, first).open(chat().ada.seal("hello"))
    assert fingerprint(mallory.public_key) != fingerprint(BOB.public_key)


def test_fingerprint() -> None:
    assert fingerprint(bytes(KEY_SIZE)) == "9a43 2dc3 c4a6 0140 c783 ca16 16c9 c8c1"


@pytest.mark.parametrize(
    "key", [b"", b"x" * 31, b"x" * 33, bytes(KEY_SIZE), b"\1" + bytes(KEY_SIZE - 1)]
)
def test_an_invalid_key_is_an_error(key: bytes) -> None:
    """The last two make the shared secret known to everybody."""
    own, partner = (ChatMember(name, key, ONE) for name in ("ada", "bob"))
    with pytest.raises(ContentError, match="key is invalid"):
        EncryptedChat(ADA, own, partner)


@pytest.mark.parametrize("nonce", [b"", b"x" * 31, b"x" * 33])
def test_an_invalid_nonce_is_an_error(nonce: bytes) -> None:
    with pytest.raises(ContentError, match="nonce is invalid"):
        chat(bob=nonce)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"",
        pb.Content(context=b"x" * 32, number=1, text="no").SerializeToString(),
    ],
)
def test_a_partner_that_encrypts_something_else(content: bytes) -> None:
    partner = PrivateKey.generate()
    own = ChatMember("ada", ADA.public_key, ONE)
    other = ChatMember("bob", bytes(partner.public_key), TWO)
    box = Box(partner, PublicKey(ADA.public_key))
    with pytest.raises(ContentError, match=r"^a message "):
        EncryptedChat(ADA, own, other).open(bytes(box.encrypt(content)))


def test_nonces_are_new() -> None:
    made = {new_nonce() for _ in range(100)}
    assert len(made) == 100
    assert {len(nonce) for nonce in made} == {NONCE_SIZE}
