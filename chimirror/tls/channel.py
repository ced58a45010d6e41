"""One encrypted connection without its descriptors: bytes of TLS in, data out.

The caller moves the bytes. After each call it sends what `take_output` returns.
"""

from __future__ import annotations

import ssl

from chimirror.tls import peer_variables
from chimirror.tls.certificates import reason
from chimirror.tls.errors import TlsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Bytes = bytes | bytearray | memoryview

HANDSHAKE_RECORD = 0x16  # first byte of a client (RFC 8446, section 5.1)
MAX_RECORDS = 64 * 1024  # bytes of data that become records in one call
READ_SIZE = 16 * 1024  # bytes: the data of the largest record


class TlsChannel:
    """The server's end of one connection.

    Args:
        context: has the certificate.

    Attributes:
        is_established: the handshake is complete.
        is_peer_closed: the peer sends no more data.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "is_established", "is_peer_closed")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_established = False
        self.is_peer_closed = False

    def receive(self, data: bytes) -> bytes:
        """Process bytes of TLS. Returns all data that they complete.

        Nothing is left in OpenSSL, where no poll would find it.

        Raises:
            TlsError: The handshake has failed, or the bytes are not those of TLS.
        """
        self._incoming.write(data)
        try:
            if not self.is_established:
                self._tls.do_handshake()
                self.is_established = True
            return self._read_all()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise TlsError(reason(error)) from None

    def _read_all(self) -> bytes:
        chunks = []
        try:
            while chunk := self._tls.read(READ_SIZE):
                chunks.append(chunk)
            self.is_peer_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_peer_closed = True
        return b"".join(chunks)

    def send(self, buffers: Iterable[Bytes]) -> int:
        """Encrypt the first bytes of these buffers. Returns their number.

        Raises:
            OSError: The connection has failed.
        """
        data = bytearray()
        for buffer in buffers:
            data += buffer[: MAX_RECORDS - len(data)]
            if len(data) == MAX_RECORDS:
                break
        return self._tls.write(data) if data else 0

    def take_output(self) -> bytes:
        """Return the bytes of TLS to be sent, and forget them."""
        return self._outgoing.read()

    def close(self) -> None:
        """Tell the peer that no more data follows (RFC 8446, section 6.1)."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the peer has not closed yet, or the connection has failed

    def variables(self) -> dict[str, str]:
        """Return the variables that describe the connection."""
        return peer_variables.of_connection(self._tls)
