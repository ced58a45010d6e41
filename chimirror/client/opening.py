"""The opening handshake of RFC 6455, section 4.1, and every way in which it fails.

Pure: the request is made and the answer judged by the `websockets` library; this file
puts the caller's fields into the one and words to the other. Redirects are told, not
followed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, SecurityError
from websockets.typing import Origin, Subprotocol

from .errors import ConnectTimeout, NotConnected, Refused
from .texts import printable, safe
from .wire import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from ssl import SSLContext
    from typing import TypedDict

    from .url import Target

    Headers = Mapping[str, str] | Iterable[tuple[str, str]]

    class Options(TypedDict, total=False):
        """What both faces' `connect` takes beside URL and framing."""

        headers: Headers
        origin: str | None
        ssl: SSLContext | None
        timeout: float
        ping_interval: float | None
        ping_timeout: float
        max_message: int


# What a server sends is small: ours 88 KB at most, others may be less careful.
MAX_MESSAGE = 4 * 1024 * 1024

AGENT = "chimirror.client"

# These make the request a handshake, or have a parameter of their own.
RESERVED = {
    "connection": "it belongs to the handshake",
    "content-length": "a handshake has no body",
    "origin": "it has an option of its own",
    "transfer-encoding": "a handshake has no body",
    "upgrade": "it belongs to the handshake",
}
SINGLE = ("host", "authorization", "user-agent")  # the caller's replaces ours
TOKEN = frozenset("!#$%&'*+-.^_`|~")  # RFC 9110, 5.6.2, beside letters and digits

# The library logs a broken peer with its traceback; our texts say it in one line.
_SILENT = logging.Logger("chimirror.client")
_SILENT.addHandler(logging.NullHandler())


class Plan:
    """How to get to a server, once or several times.

    Attributes:
        target: where it is.
        context: for TLS; None is the system's authorities.
        timeout: seconds, for everything from the search for the address to the
            first message.
    """

    __slots__ = ("target", "context", "timeout", "_fields", "_origin", "_wire")

    def __init__(
        self,
        target: Target,
        *,
        headers: Headers = (),
        origin: str | None = None,
        ssl: SSLContext | None = None,
        timeout: float = 10,
        ping_interval: float | None = 20,
        ping_timeout: float = 20,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        """The options of `connect`.

        Raises:
            ValueError: of some of it no request can be made.
        """
        if ssl is not None and not target.uri.secure:
            raise ValueError("ssl: only a wss:// URL has certificates to judge")
        if origin is not None and not _visible(origin):
            raise ValueError("origin: a value holds no control characters")
        self.target = target
        self.context = ssl
        self.timeout = timeout
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self._fields = [(name, field(name, value)) for name, value in pairs]
        self._origin = Origin(origin) if origin is not None else None
        self._wire = max_message, ping_interval, ping_timeout

    def wire(self, subprotocol: str, clock: Callable[[], float]) -> Wire:
        """A WebSocket whose request waits to be sent."""
        max_message, ping_interval, ping_timeout = self._wire
        protocol = ClientProtocol(
            self.target.uri,
            origin=self._origin,
            subprotocols=[Subprotocol(subprotocol)],
            max_size=max_message,
            logger=_SILENT,
        )
        request = protocol.connect()
        request.headers["User-Agent"] = AGENT
        for name, value in self._fields:
            if name in request.headers and name.lower() in SINGLE:
                del request.headers[name]
            request.headers[name] = value
        protocol.send_request(request)
        return Wire(protocol, clock, ping_interval, ping_timeout)

    def late(self, what: str) -> ConnectTimeout:
        """The time is over, and `what` has not come."""
        return ConnectTimeout(
            f"timeout: {what} from {self.target} within {self.timeout:g} s; "
            "is this the right place?"
        )

    def judge(self, wire: Wire, subprotocol: str) -> None:
        """Judge an answer that is complete.

        Raises:
            NotConnected: it is not the one that we wanted.
        """
        error = wire.protocol.handshake_exc
        if error is not None and wire.lost and not isinstance(error, InvalidStatus):
            raise NotConnected(
                f"{self.target} broke the connection before it answered: {wire.lost}"
            )
        if error is not None:
            raise _refused(self.target, error)
        if wire.protocol.subprotocol != subprotocol:
            raise NotConnected(
                f"{self.target} does not speak {subprotocol}: it accepted the "
                "connection without choosing a subprotocol"
            )


# The request.


def field(name: str, value: str) -> str:
    """The value of a field as the request will hold it: its bytes, as latin-1.

    Raises:
        ValueError: a handshake cannot have this field.
    """
    if not is_token(name):
        raise ValueError(f"header {name!r}: this is no name of a field")
    if not _visible(value):
        raise ValueError(f"header {name}: a value holds no control characters")
    reserved = RESERVED.get(name.lower())
    if name.lower().startswith("sec-websocket-"):
        reserved = "it belongs to the handshake"
    if reserved:
        raise ValueError(f"header {name}: cannot be set; {reserved}")
    return value.strip(" \t").encode("utf-8", "surrogateescape").decode("latin-1")


def is_token(name: str) -> bool:
    """Whether it can be the name of a field."""
    return bool(name) and all(c.isascii() and (c.isalnum() or c in TOKEN) for c in name)


def _visible(value: str) -> bool:
    return not any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in value)


# The answer.


def _refused(target: Target, error: Exception) -> NotConnected:
    if isinstance(error, InvalidStatus):
        return _refusal(error)
    cause = error.__cause__
    if isinstance(error, InvalidMessage) and isinstance(cause, EOFError):
        return NotConnected(
            f"{target} closed the connection without an answer; is it a WebSocket "
            "server, and should it be wss://?"
        )
    if isinstance(error, (InvalidMessage, SecurityError)):
        return NotConnected(
            f"{target} is not a WebSocket server: its answer is not valid HTTP"
        )
    return NotConnected(
        f"{target} is not a WebSocket server of this kind: {safe(str(error))}"
    )


def _refusal(error: InvalidStatus) -> Refused:
    """`403 Forbidden: Host "x" is not served here`: the server's own words."""
    response = error.response
    text = f"{response.status_code} {safe(response.reason_phrase, 80)}".rstrip()
    headers: dict[str, str] = {}
    for name, value in response.headers.raw_items():
        headers.setdefault(name.lower(), value)
    words = ""
    # The page of a proxy is no help on a terminal; one line of plain text is.
    if headers.get("content-type", "text/plain").lower().startswith("text/plain"):
        words = printable(b" ".join(response.body.split()))
    text += f": {words}" if words else ""
    for name, hint in _HINTS.items():
        if name in headers:
            text += f" ({hint} {safe(headers[name], 256)})"
    if response.status_code < 400 and "location" not in headers:
        text += " (no WebSocket at this URL)"
    return Refused(text, response.status_code, words, headers)


_HINTS = {
    "location": "not followed: it points to",
    "retry-after": "try again after",
    "www-authenticate": "it asks for Authorization:",
}
