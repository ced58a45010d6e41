"""Sizes that clients and server agree about, in bytes if nothing else is said."""

from __future__ import annotations

MAX_FRAME = 65_536  # of a message, without its length
MAX_NAME = 32  # characters
MAX_TEXT = 16_384  # of one message of a chat, in UTF-8
MAX_SEALED = 32_768  # of the same message, encrypted
KEY_SIZE = 32  # of a public key
NONCE_SIZE = 32
