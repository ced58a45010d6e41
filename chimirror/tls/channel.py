"""One encrypted connection without its descriptors: bytes of TLS in, data out.

The caller moves the bytes. After each call it sends what `take_output` returns.
"""

from __future__ import annotations

import ssl
import sys

from chimirror.tls import peer_variables
from chimirror.tls.certificates import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Bytes = bytes | bytearray | memoryview

HANDSHAKE_RECORD = 0x16  # first byte of a client (RFC 8446, section 5.1)
MAX_DATA = 64 * 1024  # bytes of data that become records in one call
RECORD = 16 * 1024  # bytes of data in the largest record
# Bytes that pass through a MemoryBIO at once. It keeps a third more than the largest
# piece for as long as its connection lives. Smaller pieces cost time.
PIECE = 4 * 1024
BULK_PIECE = 8 * 1024  # of MAX_DATA and more


class TlsChannel:
    """The server's end of one connection.

    Args:
        context: has the certificate.

    Attributes:
        is_established: the handshake is complete.
        is_peer_closed: the peer sends no more data.
        failure: why there is no TLS, or no more, in words. Empty until then.
    """

    __slots__ = (
        "_incoming",
        "_is_closed",
        "_outgoing",
        "_output",
        "_tls",
        "failure",
        "is_established",
        "is_peer_closed",
    )

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._output = b""  # taken from OpenSSL before all that is still there
        self._is_closed = False
        self.is_established = False
        self.is_peer_closed = False
        self.failure = ""

    def receive(self, data: bytes) -> bytes:
        """Process bytes of TLS. Returns all data that they complete.

        Nothing is left in OpenSSL, where no poll would find it. Data before a failure
        is returned too.
        """
        chunks: list[bytes] = []
        pieces = memoryview(data)
        try:
            for at, end in _pieces_of(data):
                self._incoming.write(pieces[at:end])
                self._process(chunks)
        except ssl.SSLError as error:
            self.failure = _describe(error)
        return b"".join(chunks)

    def _process(self, chunks: list[bytes]) -> None:
        """Advance the handshake, then read until OpenSSL needs more bytes."""
        try:
            if not self.is_established:
                _do_handshake(self._tls)
                self.is_established = True
            while chunk := self._tls.read(RECORD):
                chunks.append(chunk)
            self.is_peer_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_peer_closed = True

    def send(self, buffers: Iterable[Bytes]) -> int:
        """Encrypt the first bytes of these buffers. Returns their number.

        Raises:
            OSError: The connection has failed.
        """
        data = bytearray()
        for buffer in buffers:
            data += buffer[: MAX_DATA - len(data)]
            if len(data) == MAX_DATA:
                break
        pieces, output = memoryview(data), [self._output]
        for at, end in _pieces_of(data):
            self._tls.write(pieces[at:end])
            output.append(self._outgoing.read())
        self._output = b"".join(output)
        return len(data)

    def take_output(self) -> bytes:
        """Return the bytes of TLS to be sent, and forget them."""
        output, self._output = self._output, b""
        return output + self._outgoing.read()

    def close(self) -> None:
        """Tell the peer once that no more data follows (RFC 8446, section 6.1)."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the peer has not closed yet, or the connection has failed

    def peer_certificate(self) -> Mapping[str, Any] | None:
        """Return the verified certificate of the client, None without one."""
        return self._tls.getpeercert()

    def variables(self) -> dict[str, str]:
        """Return the variables that describe the connection."""
        return peer_variables.of_connection(self._tls)


def _pieces_of(data: Bytes) -> list[tuple[int, int]]:
    """Return the places of pieces: their beginnings and ends."""
    size = PIECE if len(data) < MAX_DATA else BULK_PIECE
    return [(at, at + size) for at in range(0, len(data), size)]


def _do_handshake(tls: ssl.SSLObject) -> None:
    """Advance the handshake.

    The ssl module would print a traceback for a name in the ClientHello that it cannot
    decode. The failure of the handshake says it.
    """
    before, sys.unraisablehook = sys.unraisablehook, _print_except_names
    try:
        tls.do_handshake()
    finally:
        sys.unraisablehook = before


def _print_except_names(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(unraisable)


def _describe(error: ssl.SSLError) -> str:
    if error.reason == "CALLBACK_FAILED":
        return "the name that the client asks for is not ASCII"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{reason(error)} ({error.verify_message})"
    return reason(error)
