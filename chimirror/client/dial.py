"""From a URL to an open channel, within one deadline; every way to fail has its text.

Resolves, connects (each address in turn), TLS (the system's authorities, or one
file of them), and the opening handshake of RFC 6455, section 4.1, made and checked
by the `websockets` library. Knows nothing of what will travel on the channel but
the name of its subprotocol. Redirects are told, not followed, and proxies of the
environment are not used: the place that the user named is the place that is dialled.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, SecurityError
from websockets.protocol import CONNECTING
from websockets.typing import Origin, Subprotocol

from .channel import Channel
from .texts import Failure, printable, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .url import Target

# A server's longest message; ours sends 88 KB at most, others may be less careful.
MAX_MESSAGE = 4 * 1024 * 1024

# The library logs a broken peer with its traceback; our texts say it in one line.
_SILENT = logging.Logger("chimirror.client")
_SILENT.addHandler(logging.NullHandler())


class Deadline:
    """Seconds left for all of the opening."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, share: int = 1) -> float:
        # settimeout(0) would mean "do not block".
        return max((self._end - time.monotonic()) / share, 0.001)


def dial(
    target: Target,
    subprotocol: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    origin: str | None = None,
    ca: str | None = None,
    timeout: float = 10,
) -> Channel:
    """Open a WebSocket.

    Args:
        subprotocol: the one that the server must choose.
        headers: further fields of the request; a Host replaces ours.
        origin: the Origin to send, if any.
        ca: a file of certificate authorities, trusted instead of the system's.
        timeout: seconds, for everything from the connection to the 101.

    Raises:
        Failure: it did not come about.
    """
    deadline = Deadline(timeout)
    context = _context(ca) if target.uri.secure else None
    sock = _connect(target, deadline)
    try:
        if context is not None:
            sock = _encrypt(sock, context, target, deadline)
        protocol = ClientProtocol(
            target.uri,
            origin=Origin(origin) if origin is not None else None,
            subprotocols=[Subprotocol(subprotocol)],
            max_size=MAX_MESSAGE,
            logger=_SILENT,
        )
        _handshake(sock, protocol, target, headers, deadline)
        if protocol.subprotocol != subprotocol:
            raise Failure(
                f"{target} does not speak {subprotocol}: it accepted the connection "
                "without choosing a subprotocol"
            )
    except BaseException:
        sock.close()
        raise
    return Channel(sock, protocol)


# The connection.


def _connect(target: Target, deadline: Deadline) -> socket.socket:
    if target.unix is not None:
        return _connect_unix(target, target.unix, deadline)
    host, port = target.uri.host, target.uri.port
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a name"
        raise Failure(
            f"cannot find the host {safe(host)}: {_lower(why)}; check the name"
        ) from None
    problem: OSError = OSError("no address")
    for tried, (family, kind, number, _, address) in enumerate(places):
        sock = socket.socket(family, kind, number)
        try:
            sock.settimeout(deadline.left(len(places) - tried))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise _unreachable(target, problem, deadline)


def _connect_unix(target: Target, path: str, deadline: Deadline) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(deadline.left())
        sock.connect(os.fsencode(path))
    except OSError as error:
        sock.close()
        raise _unreachable(target, error, deadline) from None
    return sock


def _unreachable(target: Target, error: OSError, deadline: Deadline) -> Failure:
    hint = ""
    if isinstance(error, TimeoutError) and error.errno is None:
        return _late(target, "no connection", deadline)
    if isinstance(error, ConnectionRefusedError):
        hint = "; nothing listens there: is the server running, and is this its "
        hint += "port (chimirror-server's is 30747)?" if not target.unix else "socket?"
    elif isinstance(error, FileNotFoundError):
        hint = "; is the server running, and is this its socket?"
    elif isinstance(error, PermissionError):
        hint = "; only those who may write to the socket may connect"
    return Failure(f"cannot connect to {target}: {_reason(error)}{hint}")


def _late(target: Target, what: str, deadline: Deadline) -> Failure:
    return Failure(
        f"timeout: {what} from {target} within {deadline.seconds:g} s; "
        "is this the right place? (--connect-timeout gives it longer)"
    )


# TLS.


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise Failure(
            f"cannot use --ca {safe(ca or '')}: it holds no PEM certificate"
        ) from None
    except OSError as error:
        raise Failure(f"cannot read --ca {safe(ca or '')}: {_reason(error)}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _encrypt(
    sock: socket.socket, context: ssl.SSLContext, target: Target, deadline: Deadline
) -> socket.socket:
    sock.settimeout(deadline.left())
    try:
        return context.wrap_socket(sock, server_hostname=target.uri.host)
    except ssl.SSLCertVerificationError as error:
        why = safe(error.verify_message.rstrip("."))
        raise Failure(
            f"TLS failure: the certificate of {target} is not trusted: {why}; "
            "if it is your own, name its authority with --ca FILE"
        ) from None
    except ssl.SSLError as error:
        raise Failure(_tls(target, error)) from None
    except TimeoutError:
        raise _late(target, "no TLS handshake", deadline) from None
    except (OSError, ValueError) as error:
        raise Failure(f"TLS failure with {target}: {_reason(error)}") from None


def _tls(target: Target, error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"):
        return f"TLS failure: {target} does not speak TLS; use ws:// for it"
    why = (error.reason or str(error)).replace("_", " ").lower()
    return f"TLS failure with {target}: {safe(why)}"


# The opening handshake.


def _handshake(
    sock: socket.socket,
    protocol: ClientProtocol,
    target: Target,
    headers: Sequence[tuple[str, str]],
    deadline: Deadline,
) -> None:
    request = protocol.connect()
    request.headers["User-Agent"] = _AGENT
    for name, value in headers:
        if name in request.headers and name.lower() in _SINGLE:
            del request.headers[name]
        request.headers[name] = value
    protocol.send_request(request)
    try:
        for data in protocol.data_to_send():
            sock.settimeout(deadline.left())
            sock.sendall(data)
        _answer(sock, protocol, deadline)
    except TimeoutError:
        raise _late(target, "no answer to the handshake", deadline) from None
    except OSError as error:
        raise Failure(
            f"{target} broke the connection before it answered: {_reason(error)}"
        ) from None
    if protocol.handshake_exc is not None:
        raise Failure(_refused(target, protocol.handshake_exc)) from None


def _answer(sock: socket.socket, protocol: ClientProtocol, deadline: Deadline) -> None:
    while protocol.state is CONNECTING and protocol.handshake_exc is None:
        sock.settimeout(deadline.left())
        data = sock.recv(16384)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()


def _refused(target: Target, error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return _refusal(error)
    cause = error.__cause__
    if isinstance(error, InvalidMessage) and isinstance(cause, EOFError):
        return (
            f"{target} closed the connection without an answer; is it a WebSocket "
            "server, and should it be wss://?"
        )
    if isinstance(error, (InvalidMessage, SecurityError)):
        return f"{target} is not a WebSocket server: its answer is not valid HTTP"
    return f"{target} is not a WebSocket server of this kind: {safe(str(error))}"


def _refusal(error: InvalidStatus) -> str:
    """`403 Forbidden: Host "x" is not served here`: the server's own words."""
    response = error.response
    text = f"{response.status_code} {safe(response.reason_phrase, 80)}".rstrip()
    kind = response.headers.get_all("Content-Type")
    # The page of a proxy is no help on a terminal; one line of plain text is.
    if response.body and (not kind or kind[0].lower().startswith("text/plain")):
        text += f": {printable(b' '.join(response.body.split()))}"
    for name, words in _HINTS.items():
        for value in response.headers.get_all(name)[:1]:
            text += f" ({words} {safe(value, 256)})"
    if response.status_code < 400 and "Location" not in response.headers:
        text += " (no WebSocket at this URL)"
    return text


_HINTS = {
    "Location": "not followed: it points to",
    "Retry-After": "try again after",
    "WWW-Authenticate": "log in with --header Authorization:..., it asks for",
}

_AGENT = "chimirror-connect"

_SINGLE = ("host", "authorization", "user-agent")  # the user's replaces ours


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return _lower(safe(words or str(error) or type(error).__name__))


def _lower(words: str | None) -> str:
    return words[:1].lower() + words[1:] if words else "unknown error"
