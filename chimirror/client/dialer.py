"""Connects a socket to the host of a URL, with TLS where the URL asks for it.

Knows one address at a time, and gives each failure its own text. Ignores proxies of
the environment: the client connects to the host that the caller named. Never blocks:
`resolve` and `connect_socket` are flows (`flow`) with non-blocking sockets.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from chimirror.client.errors import Error, NotConnected, Untrusted
from chimirror.client.flow import Flow, ResolveHost, WaitForSocket
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from chimirror.client.handshake import Address, ConnectionParams
    from chimirror.client.url import Target


class Deadline:
    """Deadline for a handshake."""

    __slots__ = ("_clock", "_end")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self, share: int = 1) -> float:
        return max((self._end - self._clock()) / share, 0.0)


def connect_socket(
    params: ConnectionParams, address: Address, deadline: Deadline
) -> Flow[socket.socket]:
    """Connect to an address of the target, with TLS if the URL is secure.

    Raises:
        NotConnected: The connection failed.
    """
    context = _context(params) if params.target.uri.secure else None
    family, kind, number, to = address
    try:
        sock = socket.socket(family, kind, number)
        yield from _connect_to(sock, to, deadline.left())
    except OSError as error:
        raise _connect_error(params, error) from None
    if params.trace is not None:
        params.trace(f"connected to {_peer_text(sock)}")
    if context is None:
        return sock
    return (yield from _start_tls(sock, context, params, deadline))


# TCP and Unix sockets.


def resolve(target: Target) -> Flow[list[Address]]:
    """Return the addresses of the target.

    Raises:
        NotConnected: There is none.
    """
    if target.socket_path is not None:
        path = os.fsencode(target.socket_path)
        return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, path)]
    host = target.uri.host
    try:
        found = yield ResolveHost(host, target.uri.port)
    except (socket.gaierror, UnicodeError) as error:
        text = error.strerror if isinstance(error, socket.gaierror) else "not a name"
        raise NotConnected(
            f"cannot find the host {escape_line(host)}: {_lower_first(text)}; "
            "check the name",
            retry=True,
        ) from None
    return [(family, kind, number, to) for family, kind, number, _, to in found]


def _connect_to(sock: socket.socket, address: Any, seconds: float) -> Flow[None]:
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            if not (yield WaitForSocket(sock, True, seconds)):
                raise TimeoutError
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    except BaseException:
        sock.close()
        raise


def _peer_text(sock: socket.socket) -> str:
    """Describe the address of the peer, which a name does not tell."""
    if sock.family == socket.AF_UNIX:
        return escape_line(os.fsdecode(sock.getpeername()))
    host, port, *_ = sock.getpeername()
    return f"{host} port {port}"


def _connect_error(params: ConnectionParams, error: OSError) -> NotConnected:
    target, hint = params.target, ""
    if isinstance(error, TimeoutError) and error.errno is None:
        return params.timeout_error("no connection")
    if isinstance(error, ConnectionRefusedError):
        hint = "; nothing listens there: is the server running, and is this its "
        hint += (
            "port (chimirror-server's is 30747)?"
            if not target.socket_path
            else "socket?"
        )
    elif isinstance(error, FileNotFoundError):
        hint = "; is the server running, and is this its socket?"
    elif isinstance(error, PermissionError):
        hint = "; connecting needs write permission on the socket"
    text = f"cannot connect to {target}: {error_text(error)}{hint}"
    return NotConnected(text, retry=True)


# TLS.


def _context(params: ConnectionParams) -> ssl.SSLContext:
    import ssl

    if params.ssl_context is not None:
        return params.ssl_context
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _start_tls(
    plain: socket.socket,
    context: ssl.SSLContext,
    params: ConnectionParams,
    deadline: Deadline,
) -> Flow[socket.socket]:
    import ssl

    target = params.target
    sock = plain
    try:
        sock = context.wrap_socket(
            plain, server_hostname=target.server_name, do_handshake_on_connect=False
        )
        yield from _do_tls_handshake(sock, params, deadline)
        if params.trace is not None:
            params.trace(_tls_text(sock))
    except BaseException as error:
        sock.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            text = escape_line(error.verify_message.rstrip("."))
            raise Untrusted(
                f"TLS failure: the certificate of {target} is not trusted: {text}"
            ) from None
        if isinstance(error, ssl.SSLError):
            raise NotConnected(_tls_error_text(target, error), retry=True) from None
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, Error):
            text = f"TLS failure with {target}: {error_text(error)}"
            raise NotConnected(text, retry=True) from None
        raise
    return sock


def _do_tls_handshake(
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


def _tls_text(sock: ssl.SSLSocket) -> str:
    """Describe the TLS connection: version, cipher and the name in the certificate."""
    cipher = (sock.cipher() or ("no cipher",))[0]
    text = f"{(sock.version() or 'TLS').replace('v', ' ')}, {cipher}"
    certificate: Any = sock.getpeercert() or {}
    names = [value for _, value in certificate.get("subjectAltName", ())]
    if not names:
        fields = [pair for pairs in certificate.get("subject", ()) for pair in pairs]
        names = [value for kind, value in fields if kind == "commonName"]
    shown = ", ".join(map(str, names)) or "no name"
    return f"{text}; certificate for {escape_line(shown, 256)}"


def _tls_error_text(target: Target, error: ssl.SSLError) -> str:
    if error.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "UNEXPECTED_MESSAGE",
    ):
        return f"TLS failure: {target} does not speak TLS; use ws:// for it"
    text = (error.reason or str(error)).replace("_", " ").lower()
    return f"TLS failure with {target}: {escape_line(text)}"


def error_text(error: Exception) -> str:
    """Describe an error in words that fit into a sentence."""
    text = error.strerror if isinstance(error, OSError) else None
    return _lower_first(escape_line(text or str(error) or type(error).__name__))


def _lower_first(text: str | None) -> str:
    return text[:1].lower() + text[1:] if text else "unknown error"
