"""Everything that can go wrong between a client and a session, as exceptions.

Pure. An error's text is one line, fit for a terminal: what a server supplied has
been escaped and cut. What a program may want to decide by is in the attributes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import Exit


class Error(Exception):
    """What this library raises, but for mistakes in a call: those are ValueErrors."""


class InvalidURL(Error, ValueError):
    """This is no URL of a session; the text says what one looks like."""


# There was no session.


class NotConnected(Error):
    """No session came about."""


class ConnectTimeout(NotConnected, TimeoutError):
    """Nor did anything else, in the time that there was."""


class Untrusted(NotConnected):
    """The certificate of the server is not vouched for."""


class Refused(NotConnected):
    """The server answered with something else than a session.

    Attributes:
        status: the HTTP status.
        text: the server's own words if it gave any, escaped.
        headers: the fields of the answer, by lower-case name; of several of one
            name, the first.
    """

    def __init__(
        self, message: str, status: int, text: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(message)
        self.status = status
        self.text = text
        self.headers = headers


# There was one.


class SessionLost(Error):
    """The session ended before its exit status came.

    Attributes:
        session: its id, "" if none was told.
        close_code: of the server's close frame; 1006 if there was none.
        reason: of the server's close frame, or what happened instead; escaped.
    """

    def __init__(self, message: str, session: str, close_code: int, reason: str):
        super().__init__(message)
        self.session = session
        self.close_code = close_code
        self.reason = reason


class ProtocolViolation(SessionLost):
    """The server broke the rules, and the connection was closed for it."""


class SessionOver(Error):
    """There is nobody any more to send anything to."""


class NotDelivered(Error):
    """The server says that it did not deliver a message; the session goes on."""


class Unread(Error):
    """Nothing can come any more, because output that nobody reads is in the way.

    The session goes on: read the other stream as well, or `discard()` it.
    """


class LineTooLong(Error):
    """A line of output exceeds the limit; it can still be read in chunks."""


class CallFailed(Error):
    """A control call was answered with an error.

    Attributes:
        code: of JSON-RPC, see chimirror-protocol(7).
        data: what else the answer held, as JSON has it.
    """

    def __init__(self, message: str, code: int, data: object) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class ControlLost(Error):
    """The control connection has ended; the session may go on.

    Attributes:
        close_code: of the server's close frame; 1006 if there was none.
        reason: of that frame, or what happened instead; escaped.
    """

    def __init__(self, message: str, close_code: int, reason: str) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.reason = reason


class ExitFailure(Error):
    """The application has failed.

    Attributes:
        exit: how.
    """

    def __init__(self, exit: Exit) -> None:  # noqa: A002 the name of the attribute
        super().__init__(f"the remote process ended with {exit}")
        self.exit = exit
