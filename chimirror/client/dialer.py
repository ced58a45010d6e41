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

from chimirror.client.errors import Error, NotConnected
from chimirror.client.flow import Flow, ResolveHost, WaitForSocket
from chimirror.client.tls_errors import is_wrong_name, reason_of, untrusted
from chimirror.client.tls_handshake import certificate_names, describe, start_tls
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.client.deadline import Deadline
    from chimirror.client.handshake import Address, ConnectionParams
    from chimirror.client.url import Target

NAMES_TIMEOUT = 2.0  # seconds to read the names in a certificate


def connect_socket(
    params: ConnectionParams, address: Address, deadline: Deadline
) -> Flow[socket.socket]:
    """Connect to an address of the target, with TLS if the URL is secure.

    Raises:
        NotConnected: The connection failed.
    """
    if params.tls is not None and params.target.uri.secure:
        _ = params.tls.context  # takes its time, which is not that of the server
    family, kind, number, to = address
    try:
        sock = socket.socket(family, kind, number)
        yield from _connect_to(sock, to, deadline.left())
    except OSError as error:
        raise _connect_error(params, error) from None
    if params.trace is not None:
        params.trace(f"connected to {_peer_text(sock)}")
    if not params.target.uri.secure:
        return sock
    return (yield from _secure(sock, params, address, deadline))


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


def _secure(
    plain: socket.socket, params: ConnectionParams, address: Address, deadline: Deadline
) -> Flow[socket.socket]:
    """Return the socket with TLS. Failures get the words of `tls_errors`."""
    import ssl

    assert params.tls is not None
    try:
        sock = yield from start_tls(plain, params.tls.context, params, deadline)
    except Error:
        raise
    except ssl.SSLCertVerificationError as error:
        names: Sequence[str] = ()
        if is_wrong_name(error):
            names = yield from _names_of(params, address, deadline)
        raise untrusted(params.target, error, params.tls.options, names) from None
    except (ssl.SSLError, ConnectionResetError) as error:
        raise params.tls_failure(reason_of(error)) from None
    except (OSError, ValueError) as error:
        text = f"TLS failure with {params.target}: {error_text(error)}"
        raise NotConnected(text, retry=True) from None
    if params.trace is not None:
        params.trace(describe(sock))
    return sock


def _names_of(
    params: ConnectionParams, address: Address, deadline: Deadline
) -> Flow[Sequence[str]]:
    """Return the names in a certificate that is not for this host.

    A failed handshake hides the certificate. So another connection accepts any name,
    and ends after its handshake. It only takes a certificate that is trusted otherwise.
    """
    assert params.tls is not None
    context = params.tls.create_nameless_context()
    if context is None:
        return ()
    share = deadline.at_most(NAMES_TIMEOUT)
    family, kind, number, to = address
    try:
        plain = socket.socket(family, kind, number)
        yield from _connect_to(plain, to, share.left())
        sock = yield from start_tls(plain, context, params, share)
    except (OSError, ValueError, NotConnected):
        return ()
    with sock:
        return certificate_names(sock)


def error_text(error: Exception) -> str:
    """Describe an error in words that fit into a sentence."""
    text = error.strerror if isinstance(error, OSError) else None
    return _lower_first(escape_line(text or str(error) or type(error).__name__))


def _lower_first(text: str | None) -> str:
    return text[:1].lower() + text[1:] if text else "unknown error"
