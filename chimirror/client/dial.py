"""From a URL to a connected socket, TLS included; every way to fail has its text.

Each address of the host is tried in turn. Proxies of the environment are not used:
the place that the caller named is the place that is dialled. Nothing here blocks: it
is a flow (see `steps`), and its sockets are non-blocking.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any

from .errors import Error, NotConnected, Untrusted
from .steps import Flow, Lookup, Ready
from .texts import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from .opening import Plan
    from .url import Target


class Deadline:
    """Seconds left for all of the opening."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, share: int = 1) -> float:
        return max((self._end - time.monotonic()) / share, 0.0)


def dial(plan: Plan, deadline: Deadline) -> Flow[socket.socket]:
    """Connect, and encrypt what is to be encrypted.

    Raises:
        NotConnected: it did not come about.
    """
    context = _context(plan) if plan.target.uri.secure else None
    sock = yield from _connect(plan, deadline)
    if context is None:
        return sock
    return (yield from _encrypt(sock, context, plan, deadline))


# The connection.


def _connect(plan: Plan, deadline: Deadline) -> Flow[socket.socket]:
    places = yield from _places(plan.target)
    problem = OSError("no address")
    for tried, (family, kind, number, address) in enumerate(places):
        try:
            sock = socket.socket(family, kind, number)
            yield from _attempt(sock, address, deadline.left(len(places) - tried))
        except OSError as error:
            problem = error
        else:
            return sock
    raise _unreachable(plan, problem)


Place = tuple[int, int, int, object]


def _places(target: Target) -> Flow[list[Place]]:
    if target.unix is not None:
        path = os.fsencode(target.unix)
        return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, path)]
    host = target.uri.host
    try:
        found = yield Lookup(host, target.uri.port)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a name"
        raise NotConnected(
            f"cannot find the host {safe(host)}: {_lower(why)}; check the name"
        ) from None
    return [(family, kind, number, to) for family, kind, number, _, to in found]


def _attempt(sock: socket.socket, address: Any, seconds: float) -> Flow[None]:
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            if not (yield Ready(sock, True, seconds)):
                raise TimeoutError
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    except BaseException:
        sock.close()
        raise


def _unreachable(plan: Plan, error: OSError) -> NotConnected:
    target, hint = plan.target, ""
    if isinstance(error, TimeoutError) and error.errno is None:
        return plan.late("no connection")
    if isinstance(error, ConnectionRefusedError):
        hint = "; nothing listens there: is the server running, and is this its "
        hint += "port (chimirror-server's is 30747)?" if not target.unix else "socket?"
    elif isinstance(error, FileNotFoundError):
        hint = "; is the server running, and is this its socket?"
    elif isinstance(error, PermissionError):
        hint = "; only those who may write to the socket may connect"
    return NotConnected(f"cannot connect to {target}: {reason(error)}{hint}")


# TLS.


def _context(plan: Plan) -> ssl.SSLContext:
    import ssl

    if plan.context is not None:
        return plan.context
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _encrypt(
    plain: socket.socket, context: ssl.SSLContext, plan: Plan, deadline: Deadline
) -> Flow[socket.socket]:
    import ssl

    target = plan.target
    sock = plain
    try:
        sock = context.wrap_socket(
            plain, server_hostname=target.uri.host, do_handshake_on_connect=False
        )
        yield from _shake_hands(sock, plan, deadline)
    except BaseException as error:
        sock.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            why = safe(error.verify_message.rstrip("."))
            raise Untrusted(
                f"TLS failure: the certificate of {target} is not trusted: {why}"
            ) from None
        if isinstance(error, ssl.SSLError):
            raise NotConnected(_tls(target, error)) from None
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, Error):
            raise NotConnected(f"TLS failure with {target}: {reason(error)}") from None
        raise
    return sock


def _shake_hands(sock: ssl.SSLSocket, plan: Plan, deadline: Deadline) -> Flow[None]:
    import ssl

    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            ready = yield Ready(sock, False, deadline.left())
        except ssl.SSLWantWriteError:
            ready = yield Ready(sock, True, deadline.left())
        else:
            return
        if not ready:
            raise plan.late("no TLS handshake")


def _tls(target: Target, error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"):
        return f"TLS failure: {target} does not speak TLS; use ws:// for it"
    why = (error.reason or str(error)).replace("_", " ").lower()
    return f"TLS failure with {target}: {safe(why)}"


def reason(error: Exception) -> str:
    """An error in words that can stand within a sentence."""
    words = error.strerror if isinstance(error, OSError) else None
    return _lower(safe(words or str(error) or type(error).__name__))


def _lower(words: str | None) -> str:
    return words[:1].lower() + words[1:] if words else "unknown error"
