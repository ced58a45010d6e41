"""Converts values of a service to messages and back. Pure, on top of msgspec.

A message is a line of JSON, or a value for shared memory if it is large. msgspec checks
the type of each value that arrives. What a handler or a caller sends is checked at the
other side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from chimirror.services.errors import InvalidMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.services.line_parser import Kind

# Sizes from which shared memory is faster than a line (tests/bench/bench_services.py).
# It saves the base64 of bytes, and only the way through the FIFO of other values.
BYTES_THRESHOLD = 64 << 10
JSON_THRESHOLD = 1 << 20
BINARY = (bytes, bytearray, memoryview)


class Message(NamedTuple):
    """An encoded value.

    Attributes:
        kind: "bytes" if `content` is the value itself, "json" if it is JSON text.
        content: Without line breaks if it is JSON.
    """

    kind: Kind
    content: bytes | bytearray | memoryview


class Encoder:
    """Encodes the values of one direction.

    Args:
        enc_hook: called with a value that msgspec does not know, returns one it knows.
    """

    __slots__ = ("_encoder",)

    def __init__(self, enc_hook: Callable[[Any], Any] | None) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=enc_hook)

    def encode(self, value: object, *, memory: bool) -> Message:
        """Return the message for a value.

        Args:
            value: a value of the type of the service.
            memory: whether the receiver takes shared memory.

        Raises:
            TypeError: msgspec cannot encode a part of it.
        """
        if memory and isinstance(value, BINARY):
            content = memoryview(value)
            if content.nbytes >= BYTES_THRESHOLD and content.contiguous:
                return Message("bytes", content.cast("B"))
        text = self._encoder.encode(value)
        # Line breaks come only from msgspec.Raw, between the tokens of its JSON text.
        return Message("json", text.replace(b"\n", b" ") if b"\n" in text else text)


class Decoder:
    """Decodes the messages of one direction.

    Args:
        service: name for errors.
        kind: the type of the values.
        dec_hook: called with a type that msgspec does not know and a value.
    """

    __slots__ = ("_decoder", "_kind", "_service")

    def __init__(
        self,
        service: str,
        kind: Any,
        dec_hook: Callable[[type, Any], Any] | None,
    ) -> None:
        self._service = service
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind, dec_hook=dec_hook)

    def decode_json(self, text: bytes | memoryview) -> Any:
        """Return the value of a JSON text.

        Raises:
            InvalidMessage: It is no value of the service.
        """
        try:
            if isinstance(text, memoryview) or not text.isascii():
                str(text, "utf-8")  # msgspec does not check members that it ignores
            return self._decoder.decode(text)
        except UnicodeDecodeError as error:
            reason = f"it is not UTF-8: {error.reason} at byte {error.start}"
        except msgspec.ValidationError as error:
            reason = f"it has the wrong type: {error}"
        except msgspec.DecodeError as error:
            reason = f"it is not JSON: {error}"
        except RecursionError:
            reason = "it is nested too deeply"
        raise InvalidMessage(self._service, reason, bytes(text[:400])) from None

    def decode_bytes(self, memory: memoryview) -> Any:
        """Return the value that is these bytes. A memoryview is not copied.

        Raises:
            InvalidMessage: It is no value of the service.
        """
        if self._kind is memoryview:
            return memory
        if self._kind in BINARY:
            return self._kind(memory)
        # A union, a constraint or another type: the same value as from a line.
        return self.decode_json(msgspec.json.encode(memory))
