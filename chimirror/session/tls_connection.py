"""A connection over TLS: the same steps, with encrypted bytes on the descriptors.

Queued output stays in the clear until the peer takes it, so that it can be discarded
and pongs can pass it. At most 64 KiB wait as bytes of TLS. A PROXY header comes before
TLS. A client without TLS gets one response in the clear, and no session.

TCP's end without a close_notify is the end of the input, as it is without TLS. The
close frame of WebSocket says whether a message was cut.
"""

from __future__ import annotations

from chimirror.builtin_modules import os
from chimirror.io.write_buffer import WriteBuffer
from chimirror.protocol.http import HTTPError
from chimirror.session.connection import CLOSING, CONNECTING, Connection
from chimirror.tls.channel import HANDSHAKE_RECORD, MAX_DATA, TlsChannel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from chimirror.config import Config
    from chimirror.io.loop import EventLoop
    from chimirror.io.write_buffer import Bytes
    from chimirror.session.connection import ConnectionHandler
    from chimirror.tls.certificates import Certificates

    class TlsConnectionHandler(ConnectionHandler, Protocol):
        """Callbacks of a TlsConnection."""

        def on_tls_failed(self, error: HTTPError) -> None:
            """Called when there is no TLS. Nothing but the response may be sent."""


# Bytes: a client that asks for new keys (RFC 8446, section 4.6.3) and reads none of the
# answers would fill the memory.
MAX_SEALED = 2 * MAX_DATA


class TlsConnection(Connection):
    """One client's connection over TLS.

    Args:
        handler, loop, config, read_fd, write_fd: as in Connection.
        certificates: of the endpoint.
    """

    __slots__ = (
        "_channel",
        "_has_failed",
        "_is_first",
        "_is_plain",
        "_proxy_header",
        "_sealed",
    )

    def __init__(
        self,
        handler: TlsConnectionHandler,
        loop: EventLoop,
        config: Config,
        read_fd: int,
        write_fd: int,
        certificates: Certificates,
    ) -> None:
        super().__init__(handler, loop, config, read_fd, write_fd)
        self._handler: TlsConnectionHandler
        self._channel = TlsChannel(certificates.context())
        self._sealed = b""  # bytes of TLS that the kernel has not taken
        self._is_first = True  # no byte of TLS has arrived
        self._is_plain = False  # there is no TLS: one response is sent
        self._has_failed = False  # what arrives is read and dropped
        # None once it has been passed on
        self._proxy_header: bytes | None = b"" if config.proxy_protocol else None

    def peer_variables(self) -> dict[str, str]:
        """Return the variables of the client and of its encryption."""
        return self._channel.variables()

    def peer_certificate(self) -> Mapping[str, Any] | None:
        """Return the verified certificate of the client, as the ssl module does."""
        return self._channel.peer_certificate()

    # Input

    def _read(self) -> None:
        try:
            data = os.read(self.read_fd, self.read_size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.on_eof()
        elif not (self._is_plain or self._has_failed):
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Decrypt received bytes, and pass on the data in them."""
        if self._keepalive is not None:  # a part of a record is a sign of life too
            self._keepalive.on_data_received(self._loop.now)
        if self._proxy_header is not None:
            data = self._take_proxy_header(data)
        if not data:
            return
        if self._is_first and data[0] != HANDSHAKE_RECORD:
            self._fail("this port speaks TLS; write https:// or wss://", in_clear=True)
            return
        self._is_first = False
        content = self._channel.receive(data)
        self._send_sealed()  # an alert among it
        if content:
            self.on_data(content)
        if self._channel.failure:
            self._fail(f"TLS has failed: {self._channel.failure}")
        elif self._channel.is_peer_closed:
            self._watch()

    def _take_proxy_header(self, data: bytes) -> bytes:
        """Pass on bytes of the PROXY header. Returns what follows it."""
        from chimirror.protocol import proxy_protocol

        before = self._proxy_header or b""
        self._proxy_header = header = before + data
        try:
            parsed = proxy_protocol.parse(header)
        except HTTPError:
            parsed = None  # the handler refuses it likewise
        if parsed is None:
            self.on_data(data)
            return b""
        self._proxy_header, length = None, parsed[1] - len(before)
        self.on_data(data[:length])
        return data[length:]

    def _fail(self, text: str, *, in_clear: bool = False) -> None:
        """End a connection that has no TLS, or has it no more."""
        self._is_plain, self._has_failed = in_clear, not in_clear
        if self.state == CONNECTING and not self.paused:
            self._handler.on_tls_failed(HTTPError(400, text, cause="tls"))
        else:
            self._lose("client gone")

    def on_eof(self) -> None:
        """Called at the end of input, which may come within the handshake of TLS."""
        if (
            self.state == CONNECTING
            and not (self._is_first or self._has_failed)
            and not self._channel.is_established
        ):
            self._fail("the client has closed within the handshake of TLS")
        super().on_eof()

    def _watch(self) -> None:
        """Poll. The peer's close_notify is the end of its input, without an event."""
        super()._watch()
        if self._channel.is_peer_closed and not (self._paused or self._eof_received):
            self._loop.call_after_turn(self._end_input)

    def _end_input(self) -> None:
        if self.read_fd >= 0 and not (self._paused or self._eof_received):
            self.on_eof()

    # Output

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait, encrypted or not."""
        return super().queued_bytes + len(self._sealed)

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Send one unit, or queue the part that the kernel does not take now."""
        if self._is_plain:
            super().write(buffers)
        elif self.write_fd >= 0 and self.write_buffer is not None:
            self.write_buffer.append(buffers)
        elif self.write_fd >= 0:
            write_buffer = WriteBuffer(b"".join(buffers))
            try:
                is_sent = self._flush_buffer(write_buffer)
            except OSError:
                self._on_write_failed()
                return
            if not is_sent:
                self.write_buffer = write_buffer
                self._watch()

    def send_response(self, response: bytes) -> None:
        """Send a final HTTP response and close. Without TLS only in the clear.

        A PROXY header is answered in the clear too. Where TLS has failed, the close
        does not overtake the alert that says why.
        """
        self._is_plain |= self._proxy_header is not None
        has_tls = self._channel.is_established and not self._has_failed
        super().send_response(response if has_tls or self._is_plain else b"")

    def _flush_buffer(self, write_buffer: WriteBuffer) -> bool:
        if self._is_plain:
            return super()._flush_buffer(write_buffer)
        self._push()
        if self._sealed:
            return False
        return write_buffer.flush(self.write_fd, self._seal) and not self._sealed

    def _seal(self, fd: int, buffers: Sequence[Bytes]) -> int:
        """Encrypt and send a part of these buffers, as os.writev(fd, buffers) does."""
        if self._sealed:
            raise BlockingIOError
        size = self._channel.send(buffers)
        self._push()
        return size

    def _push(self) -> None:
        """Write bytes of TLS, as far as the kernel takes them.

        Raises:
            OSError: The descriptor is broken.
        """
        sealed = self._sealed + self._channel.take_output()
        self._sealed = sealed
        if sealed and self.write_fd >= 0:
            try:
                self._sealed = sealed[os.write(self.write_fd, sealed) :]
            except BlockingIOError:
                pass

    def _send_sealed(self) -> None:
        """Send bytes that TLS itself has to say."""
        try:
            self._push()
        except OSError:
            self._on_write_failed()
            return
        if self._sealed and self.write_buffer is None:
            self.write_buffer = WriteBuffer(b"")
            self._watch()
        if len(self._sealed) > MAX_SEALED:
            self._fail("the client does not read the answers of TLS")

    def _on_write_failed(self) -> None:
        self._sealed = b""
        super()._on_write_failed()

    def on_write_buffer_empty(self) -> None:
        """Called when all output is written. That of a closing connection ends here."""
        if self.state == CLOSING and self.write_fd >= 0 and not self._is_plain:
            self._channel.close()
            self._send_sealed()
            if self.write_buffer is not None:
                return  # called again once the kernel has taken the rest
        super().on_write_buffer_empty()
