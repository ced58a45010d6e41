"""Opening handshake (RFC 6455, section 4.1) and the texts of its failures.

Pure. The `websockets` library builds the request and checks the response. This module
adds the caller's header fields and describes failures. Redirects are reported, not
followed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import copy
from dataclasses import replace

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, SecurityError
from websockets.headers import build_host
from websockets.typing import Origin, Subprotocol

from chimirror.client import credentials
from chimirror.client.buffers import MAX_LINE
from chimirror.client.errors import (
    ConnectTimeout,
    Forbidden,
    NotConnected,
    Refused,
    Unauthorized,
)
from chimirror.client.tls_errors import OptionNames, failure, failure_in_response
from chimirror.client.url import Target
from chimirror.client.websocket import WebSocketProtocol
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from chimirror.client.credentials import Token
    from chimirror.client.errors import TLSFailure
    from chimirror.client.tls_settings import TLSSettings

    Headers = Mapping[str, str] | Iterable[tuple[str, str]]
    Address = tuple[int, int, int, object]  # family, type, protocol, address

# A line or body of --max-line by default, and what a framing may add to it.
MAX_MESSAGE_SIZE = MAX_LINE + 4096

USER_AGENT = "chimirror.client"

MAX_SIZE = 65535  # columns or rows of a terminal

# Fields that belong to the handshake or have a parameter of their own.
RESERVED_FIELDS = {
    "connection": "it belongs to the handshake",
    "content-length": "a handshake has no body",
    "origin": "it has an option of its own",
    "transfer-encoding": "a handshake has no body",
    "upgrade": "it belongs to the handshake",
}
_HANDSHAKE_FIELDS = (
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
)
# The caller's field replaces the library's.
REPLACEABLE_FIELDS = ("host", "authorization", "user-agent")
# RFC 9110, section 5.6.2: allowed in tokens beside letters and digits.
TOKEN_SYMBOLS = frozenset("!#$%&'*+-.^_`|~")

# The library logs protocol errors with a traceback. The client reports them in one line
# instead.
_SILENT_LOGGER = logging.Logger("chimirror.client")
_SILENT_LOGGER.addHandler(logging.NullHandler())


class ConnectionParams:
    """Parameters for one or several connections to a server.

    Attributes:
        address: The address of the server, None for any that the host has.
        target: The parsed URL.
        tls: Settings for a wss:// URL.
        token: The token as given: a str, or a function that is called for each URL.
        timeout: Seconds from name resolution to the first message.
        is_upgrade: The request asks for a WebSocket, otherwise for a resource.
        trace: Called with a line about each step of the handshake, None for none.
    """

    __slots__ = (
        "address",
        "target",
        "tls",
        "timeout",
        "token",
        "is_upgrade",
        "trace",
        "_authorization",
        "_fields",
        "_offered_size",
        "_origin",
        "_websocket_options",
    )

    def __init__(
        self,
        target: Target,
        *,
        headers: Headers = (),
        token: Token | None = None,
        origin: str | None = None,
        tls: TLSSettings | None = None,
        timeout: float = 10,
        ping_interval: float | None = 20,
        ping_timeout: float = 20,
        max_message: int = MAX_MESSAGE_SIZE,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Check the options of `connect`.

        Raises:
            ValueError: An option cannot be part of a request.
        """
        if origin is not None and not _has_no_controls(origin):
            raise ValueError("origin: a value must not contain control characters")
        self.address: Address | None = None
        self.target = target
        self.tls = tls
        self.timeout = timeout
        self.trace: Callable[[str], None] | None = None
        self.is_upgrade = True
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self._fields = [(name, field_value(name, value)) for name, value in pairs]
        self.token = token
        self._authorization = None if token is None else self._check_token(token)
        self._origin = Origin(origin) if origin is not None else None
        self._offered_size = [] if size is None else [_size_subprotocol(*size)]
        self._websocket_options = max_message, ping_interval, ping_timeout

    @property
    def is_authorized(self) -> bool:
        """Whether the request has an Authorization field."""
        return (
            self.token is not None
            or self.target.uri.username is not None
            or any(name.lower() == "authorization" for name, _ in self._fields)
        )

    def _check_token(self, token: Token) -> str | None:
        """Return the Authorization field of a token that is known already."""
        names = [name.lower() for name, _ in self._fields]
        if "authorization" in names or self.target.uri.username is not None:
            place = "headers" if "authorization" in names else "the URL"
            raise ValueError(f"token: {place} authorizes too; give one of them")
        return None if callable(token) else credentials.authorization(token)

    def at(self, address: Address) -> ConnectionParams:
        """Return these parameters for one address of the host."""
        other = copy(self)
        other.address = address
        return other

    def with_token(self, token: object) -> ConnectionParams:
        """Return these parameters with the result of the function `token`.

        Raises:
            TypeError, ValueError: It is not a token.
        """
        other = copy(self)
        other._authorization = credentials.authorization(token)  # noqa: SLF001
        return other

    def create_websocket(
        self, subprotocols: Iterable[str], clock: Callable[[], float]
    ) -> WebSocketProtocol:
        """Create a WebSocket with a queued handshake request.

        Args:
            subprotocols: The names to offer, the preferred one first. "" is not sent.
            clock: Returns monotonic time in seconds.
        """
        max_message, ping_interval, ping_timeout = self._websocket_options
        names = [Subprotocol(name) for name in subprotocols if name]
        protocol = ClientProtocol(
            self.target.uri,
            origin=self._origin,
            subprotocols=[*names, *self._offered_size] or None,
            max_size=max_message,
            logger=_SILENT_LOGGER,
        )
        request = protocol.connect()
        if "%" in self.target.uri.host:  # a zone is no part of the Host, RFC 6874
            uri = self.target.uri
            del request.headers["Host"]
            request.headers["Host"] = build_host(
                self.target.server_name, uri.port, uri.secure
            )
        if not self.is_upgrade:
            for name in _HANDSHAKE_FIELDS:
                del request.headers[name]
            request.headers["Connection"] = "close"
        request.headers["User-Agent"] = USER_AGENT
        if self._authorization is not None:
            request.headers["Authorization"] = self._authorization
        for name, value in self._fields:
            if name in request.headers and name.lower() in REPLACEABLE_FIELDS:
                del request.headers[name]
            request.headers[name] = value
        protocol.send_request(request)
        return WebSocketProtocol(protocol, clock, ping_interval, ping_timeout)

    def for_resource(self, path: str) -> ConnectionParams:
        """Return parameters for a plain GET of a path of the same server."""
        params = copy(self)
        uri = replace(self.target.uri, path=path, query="")
        params.target = Target(self.target.url, uri, self.target.socket_path)
        params.is_upgrade = False
        params._offered_size = []  # noqa: SLF001 - of the same class
        return params

    def timeout_error(self, missing: str) -> ConnectTimeout:
        """Make the exception for an expired timeout."""
        return ConnectTimeout(
            f"timeout: {missing} from {self.target} within {self.timeout:g} s; "
            "is this the right address?"
        )

    def tls_failure(self, reason: str) -> TLSFailure:
        """Make the exception for a reason of OpenSSL, "" for the end of the stream."""
        has_certificate = self.tls is not None and self.tls.has_certificate
        return failure(
            self.target, reason, self._tls_names, has_certificate=has_certificate
        )

    @property
    def _tls_names(self) -> OptionNames:
        return OptionNames() if self.tls is None else self.tls.options

    def check_response(
        self, websocket: WebSocketProtocol, subprotocols: Collection[str]
    ) -> str:
        """Check a complete response.

        Args:
            websocket: The WebSocket.
            subprotocols: The acceptable names, with "" for a server that chooses none.

        Returns:
            The chosen subprotocol, "" without one.

        Raises:
            NotConnected: The response does not accept the session.
        """
        error = websocket.protocol.handshake_exc
        if error is not None:
            raise self._response_error(websocket, error)
        chosen = websocket.protocol.subprotocol or ""
        if chosen not in subprotocols:
            raise NotConnected(
                f"{self.target} does not speak {', '.join(subprotocols)}: it accepted "
                "the connection without choosing a subprotocol"
            )
        return chosen

    def _response_error(
        self, websocket: WebSocketProtocol, error: Exception
    ) -> NotConnected:
        first = websocket.first_bytes
        tls_failure = failure_in_response(self.target, first, self._tls_names)
        if tls_failure is not None:
            return tls_failure
        if isinstance(error, InvalidStatus) or not websocket.lost_reason:
            return _response_error(self.target, error)
        if websocket.tls_reason:  # TLS 1.3 checks the client certificate late
            return self.tls_failure(websocket.tls_reason)
        is_plain = not first and not self.target.uri.secure
        return NotConnected(
            f"{self.target} closed the connection before its response: "
            f"{websocket.lost_reason}{'; should it be wss://?' if is_plain else ''}",
            retry=True,
        )


# Request.


def field_value(name: str, value: str) -> str:
    """Return the value of a header field as sent: its bytes, decoded as latin-1.

    Raises:
        ValueError: The request cannot have this field.
    """
    if not is_token(name):
        raise ValueError(f"header {name!r}: not a valid field name")
    if not _has_no_controls(value):
        raise ValueError(f"header {name}: a value must not contain control characters")
    reserved = RESERVED_FIELDS.get(name.lower())
    if name.lower().startswith("sec-websocket-"):
        reserved = "it belongs to the handshake"
    if reserved:
        raise ValueError(f"header {name}: cannot be set; {reserved}")
    return value.strip(" \t").encode("utf-8", "surrogateescape").decode("latin-1")


def _size_subprotocol(columns: int, rows: int) -> Subprotocol:
    """Return the subprotocol that carries the size of a terminal.

    Raises:
        ValueError: No terminal has this size.
    """
    for number in (columns, rows):
        if type(number) is not int or not 0 < number <= MAX_SIZE:
            raise ValueError(
                f"size: {number!r} columns or rows; give each as 1 to {MAX_SIZE}"
            )
    return Subprotocol(f"chimirror.size.{columns}x{rows}")


def is_token(name: str) -> bool:
    """Whether the name is a valid field name."""
    return bool(name) and all(
        c.isascii() and (c.isalnum() or c in TOKEN_SYMBOLS) for c in name
    )


def _has_no_controls(value: str) -> bool:
    return not any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in value)


# Response.


def _response_error(target: Target, error: Exception) -> NotConnected:
    if isinstance(error, InvalidStatus):
        return _status_error(error)
    cause = error.__cause__
    if isinstance(error, InvalidMessage) and isinstance(cause, EOFError):
        return NotConnected(
            f"{target} closed the connection without a response; is it a WebSocket "
            "server, and should it be wss://?",
            retry=True,
        )
    if isinstance(error, (InvalidMessage, SecurityError)):
        return NotConnected(
            f"{target} is not a WebSocket server: its response is not valid HTTP"
        )
    return NotConnected(
        f"{target} is not a WebSocket server of this kind: {escape_line(str(error))}"
    )


def _status_error(error: InvalidStatus) -> Refused:
    """Describe a response: `403 Forbidden: Host "x" is not served here`."""
    response = error.response
    text = f"{response.status_code} {escape_line(response.reason_phrase, 80)}".rstrip()
    headers: dict[str, str] = {}
    for name, value in response.headers.raw_items():
        headers.setdefault(name.lower(), value)
    schemes = credentials.schemes(response.headers.get_all("WWW-Authenticate"))
    response_text = ""
    # Only plain text is shown: the HTML page of a proxy does not help on a terminal.
    if headers.get("content-type", "text/plain").lower().startswith("text/plain"):
        response_text = escape_line(b" ".join(response.body.split()))
        text += f": {response_text}" if response_text else ""
    for name, hint in _HINTS.items():
        if name in headers:
            text += f" ({hint} {escape_line(headers[name], 256)})"
    if response.status_code < 400 and "location" not in headers:
        text += " (no WebSocket at this URL)"
    if schemes:
        text += f" (it asks for {credentials.wanted(schemes)})"
    parts = text, response.status_code, response_text, headers
    if response.status_code == 401:
        return Unauthorized(*parts, schemes)
    return (Forbidden if response.status_code == 403 else Refused)(*parts)


_HINTS = {
    "location": "not followed: it points to",
    "retry-after": "try again after",
}
