"""End-to-end encryption of a chat: X25519, XSalsa20 and Poly1305 by PyNaCl's Box.

Each client has a key pair for its lifetime. The server passes the public keys on, so it
could pass on keys of its own: two users notice that when they compare fingerprints.

Each Content holds a context: a hash of names, keys and nonces, the sender's first. The
nonces are new for each chat. So the server cannot give a message back to its sender,
repeat it in a later chat, or tell two users different names. Each Content also holds
its number in one direction: a repeated message is an error, a missing one is counted.

The server sees who sends to whom, when, and how long a message is. A stolen secret key
opens all messages of that client's lifetime. Knows neither sockets nor terminals.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from google.protobuf.message import DecodeError
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from nacl.utils import random

import chat_pb2 as pb
from chat.limits import MAX_TEXT, NONCE_SIZE

FINGERPRINT_SIZE = 16  # 128 bits: no second key with the same can be found
GROUP = 4  # hexadecimal digits


class ContentError(Exception):
    """A text that cannot be sent, or content that the partner has not sent.

    The text is fit for a terminal.
    """


class OpenedContent(NamedTuple):
    """A decrypted message. The text is what the partner has sent: escape it."""

    text: str
    missing: int  # messages before this one that have not arrived


class ChatMember(NamedTuple):
    """What identifies one of the two clients of one chat."""

    name: str  # as the server gives it, in LoggedIn or Partner
    public_key: bytes
    nonce: bytes


class KeyPair:
    """The keys of one client. The secret one never leaves the process."""

    def __init__(self) -> None:
        self._secret = PrivateKey.generate()
        self.public_key = bytes(self._secret.public_key)

    def share_with(self, public_key: bytes) -> Box:
        """Return the box of this client and another.

        Raises:
            ContentError: for a key of the wrong size, or a key that would make the
                shared secret predictable (a point of low order).
        """
        try:
            return Box(self._secret, PublicKey(public_key))
        except CryptoError as error:
            raise ContentError("the other's key is invalid") from error


class EncryptedChat:
    """Both directions of one chat. It lives as long as the chat."""

    def __init__(self, keys: KeyPair, own: ChatMember, partner: ChatMember) -> None:
        """Derive the shared key.

        Raises:
            ContentError: for a partner with an invalid key or nonce.
        """
        if len(partner.nonce) != NONCE_SIZE:
            raise ContentError("the other's nonce is invalid")
        self._box = keys.share_with(partner.public_key)
        self._sent = self._received = 0
        self._own_context = context_of(own, partner)
        self._partner_context = context_of(partner, own)

    def seal(self, text: str) -> bytes:
        """Encrypt the next message.

        Raises:
            ContentError: for a text over MAX_TEXT, or with half a surrogate pair.
        """
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ContentError("a text that is not UTF-8") from None
        if size > MAX_TEXT:
            raise ContentError(f"a text of {size} bytes (at most {MAX_TEXT})")
        self._sent += 1
        content = pb.Content(context=self._own_context, number=self._sent, text=text)
        return bytes(self._box.encrypt(content.SerializeToString()))

    def open(self, sealed: bytes) -> OpenedContent:
        """Decrypt a message of the partner. An error changes nothing.

        Raises:
            ContentError: if the partner has not sent this, in this chat, for the first
                time.
        """
        content = pb.Content()
        try:
            content.ParseFromString(self._box.decrypt(sealed))
        except (CryptoError, DecodeError):
            raise ContentError("a message that cannot be decrypted") from None
        if content.context != self._partner_context:
            raise ContentError("a message of another chat")
        missing = content.number - self._received - 1
        if missing < 0:
            raise ContentError("a message that has already arrived")
        self._received = content.number
        return OpenedContent(content.text, missing)


def new_nonce() -> bytes:
    """Return the nonce of a client for one chat."""
    return random(NONCE_SIZE)


def fingerprint(public_key: bytes) -> str:
    """Return a short form of a key for people: eight groups of hexadecimal digits."""
    digest = blake2b(
        public_key, digest_size=FINGERPRINT_SIZE, person=b"chat key"
    ).hexdigest()
    return " ".join(digest[at : at + GROUP] for at in range(0, len(digest), GROUP))


def context_of(sender: ChatMember, receiver: ChatMember) -> bytes:
    """Hash all that both clients must agree about, with its lengths."""
    digest = blake2b(digest_size=32, person=b"chat context")
    for member in (sender, receiver):
        for part in (member.name.encode(), member.public_key, member.nonce):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
    return digest.digest()
