"""Handshake of TLS over a connected socket, as a flow, and what it has agreed on.

Raises the exceptions of the module `ssl`, which is imported late: it takes 20 ms.
"""

from __future__ import annotations

from typing import Any

from chimirror.client.flow import Flow, WaitForSocket
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl

    from chimirror.client.deadline import Deadline
    from chimirror.client.handshake import ConnectionParams


def start_tls(
    plain: socket.socket,
    context: ssl.SSLContext,
    params: ConnectionParams,
    deadline: Deadline,
) -> Flow[ssl.SSLSocket]:
    """Return the socket with TLS. A failure closes it.

    Raises:
        ConnectTimeout: The handshake took too long.
        OSError, ValueError: The handshake failed.
    """
    sock: socket.socket = plain
    try:
        sock = secure = context.wrap_socket(
            plain,
            server_hostname=params.target.server_name,
            do_handshake_on_connect=False,
        )
        yield from _shake_hands(secure, params, deadline)
    except BaseException:
        sock.close()
        raise
    return secure


def _shake_hands(
    sock: ssl.SSLSocket, params: ConnectionParams, deadline: Deadline
) -> Flow[None]:
    import ssl

    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            ready = yield WaitForSocket(sock, False, deadline.left())
        except ssl.SSLWantWriteError:
            ready = yield WaitForSocket(sock, True, deadline.left())
        else:
            return
        if not ready:
            raise params.timeout_error("no TLS handshake")


def certificate_names(sock: ssl.SSLSocket) -> list[str]:
    """Return the names in the certificate of the server, untrusted text."""
    certificate: Any = sock.getpeercert() or {}
    names = [value for _, value in certificate.get("subjectAltName", ())]
    if not names:
        fields = [pair for pairs in certificate.get("subject", ()) for pair in pairs]
        names = [value for kind, value in fields if kind == "commonName"]
    return list(map(str, names))


def describe(sock: ssl.SSLSocket) -> str:
    """Describe the TLS connection: version, cipher and the name in the certificate."""
    cipher = (sock.cipher() or ("no cipher",))[0]
    text = f"{(sock.version() or 'TLS').replace('v', ' ')}, {cipher}"
    shown = ", ".join(certificate_names(sock)) or "no name"
    return f"{text}; certificate for {escape_line(shown, 256)}"
