"""The load client over TLS. It checks no certificates, to spend no time on them."""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from load_client import TIMEOUT, WORD, Address, Codec, ShortSession


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecureSession(ShortSession):
    """One short session over TLS. Its handshake advances in `arrived`.

    Nothing of the response is read before that, so there is an event for it.
    """

    __slots__ = ("_request", "_tls")

    def __init__(
        self, address: Address, request: bytes, context: ssl.SSLContext
    ) -> None:
        super().__init__(address, b"")
        self.socket.setblocking(False)
        self._tls = context.wrap_socket(self.socket, do_handshake_on_connect=False)
        self.socket = self._tls
        self._request = request
        with suppress(ssl.SSLWantReadError):
            self._shake_hands()

    def _shake_hands(self) -> None:
        if self._request:
            self._tls.do_handshake()
            self.socket.sendall(self._request)
            self._request = b""

    def arrived(self) -> bool:
        """Read all that is there. Returns whether the first byte is among it."""
        try:
            self._shake_hands()
            while not super().arrived():
                pass
        except ssl.SSLWantReadError:
            return False
        return True


@contextmanager
def held(
    open_session: Callable[[], ShortSession], count: int
) -> Iterator[list[ShortSession]]:
    """Open sessions, one after the other, and keep them."""
    with ExitStack() as stack:
        sessions = []
        for _ in range(count):
            session = open_session()
            stack.enter_context(session.socket)
            while WORD not in session.data:
                if not select.select([session.socket], [], [], TIMEOUT)[0]:
                    raise TimeoutError("no session has come to its first byte")
                session.arrived()
            sessions.append(session)
        yield sessions


def echo(session: ShortSession, codec: Codec, line: bytes) -> None:
    """Send a line and wait for its echo."""
    session.socket.settimeout(TIMEOUT)
    session.socket.sendall(codec.wrap(line))
    missing = codec.replies(len(line), 1)
    while missing > 0:
        data = session.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("it ended within an echo")
        missing -= len(data)
