"""Exceptions of the client library.

Pure. The text of each exception is one line that is safe for terminals: text of the
server is escaped and cut. Data for decisions of a program are in the attributes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Error(Exception):
    """Base class of all exceptions here. Wrong arguments raise ValueError."""


class InvalidURL(Error, ValueError):
    """The URL is not one of a session. The text shows a correct one."""


class InvalidCertificate(Error, ValueError):
    """A file of certificates or keys cannot be used. The text names the cure."""


# Before the session.


class NotConnected(Error):
    """There is no session.

    Attributes:
        retry: Whether the same may succeed at another time or at another server.
        failures: The failure of each URL, if there were several.
    """

    def __init__(
        self,
        message: str,
        *,
        retry: bool = False,
        failures: Sequence[NotConnected] = (),
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.failures = tuple(failures)


class ConnectTimeout(NotConnected, TimeoutError):
    """There is no session, because the timeout expired."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry=True)


class TLSFailure(NotConnected):
    """There is no session, because of TLS.

    Attributes:
        fault: What is wrong, as in chimirror-client(3), such as "no TLS".
    """

    def __init__(self, message: str, *, fault: str, retry: bool) -> None:
        super().__init__(message, retry=retry)
        self.fault = fault


class Untrusted(TLSFailure):
    """There is no session, because the server's certificate is not trusted.

    Attributes:
        names: For the fault "wrong name", the names in the certificate, if the client
            has found them. Untrusted text.
    """

    def __init__(
        self, message: str, *, fault: str = "other", names: Sequence[str] = ()
    ) -> None:
        super().__init__(message, fault=fault, retry=False)
        self.names = tuple(names)


class Refused(NotConnected):
    """There is no session, because the server sent an HTTP response instead.

    Attributes:
        status: The HTTP status.
        text: The text of the response, escaped, or "".
        headers: The header fields by lower-case name. Of repeated fields, the first.
        retry_after: Seconds of its Retry-After, None without such a number.
    """

    def __init__(
        self, message: str, status: int, text: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(message, retry=status in (408, 429) or status >= 500)
        self.status = status
        self.text = text
        self.headers = headers
        seconds = headers.get("retry-after", "").strip()
        is_number = seconds.isascii() and seconds.isdigit()
        self.retry_after = int(seconds[:9]) if is_number else None


class Unauthorized(Refused):
    """The server does not know the client, status 401.

    Attributes:
        schemes: What the server asks for, such as "Bearer" and "Basic". Untrusted text.
    """

    def __init__(
        self,
        message: str,
        status: int,
        text: str,
        headers: Mapping[str, str],
        schemes: Sequence[str] = (),
    ) -> None:
        super().__init__(message, status, text, headers)
        self.schemes = tuple(schemes)


class Forbidden(Refused):
    """The server knows the client or its page, and does not serve it, status 403."""


# During the session.


class SessionLost(Error):
    """The session ended before its exit status came.

    Attributes:
        session: The session id, "" if it is unknown.
        close_code: Code of the server's close frame, 1006 without a close frame.
        reason: Reason of the server's close frame, or the cause of the loss. Escaped.
        retry: Whether another session may succeed, as after a drain or a loss.
    """

    def __init__(
        self,
        message: str,
        session: str,
        close_code: int,
        reason: str,
        *,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.session = session
        self.close_code = close_code
        self.reason = reason


class ProtocolViolation(SessionLost):
    """The client closed the session, because the server violated the protocol."""


class SessionOver(Error):
    """The session has ended, so that data cannot be sent."""


class NotDelivered(Error):
    """The server did not deliver a message. The session continues."""


class Unread(Error):
    """Unread output of another stream blocks the session.

    The session continues: read the other stream as well, or `discard()` it.
    """


class LineTooLong(Error):
    """A line of output exceeds the limit. It can still be read in chunks."""


class CallFailed(Error):
    """The response to a control call is an error.

    Attributes:
        code: Error code of JSON-RPC, as in chimirror-protocol(7).
        data: The `data` member of the error, as a JSON value.
    """

    def __init__(self, message: str, code: int, data: object) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class ControlLost(Error):
    """The control connection has ended. The session may continue.

    Attributes:
        close_code: Code of the server's close frame, 1006 without a close frame.
        reason: Reason of that frame, or the cause of the loss. Escaped.
    """

    def __init__(self, message: str, close_code: int, reason: str) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.reason = reason
