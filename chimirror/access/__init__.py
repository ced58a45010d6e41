"""Layer 4: who a client is, and what it may use.

Modules:
    access_control: AccessControl, asks the sources in their order and decides.
    failure_limiter: FailureLimiter, limits failed attempts of one address.
    local_sources: sources that answer at once: proxy, certificate, local user.
    authorizer: Authorizer, asks another process, with a time limit and a cache.
    authorizer_factory: makes an Authorizer with the transport that it needs.
    answer_cache: answers that hold for some time.
    endpoint: finds an authorizer when a program starts.
    exec_transport: questions to a helper process, and its restarts.
    helper_process, exec_messages: one run of a helper, and the lines it is sent.
    http_transport: questions to an HTTP server, and connections that are kept.
    http_connection, http_messages, connector: one connection, its content, its start.
    answer_fields, authorization: checks of names, and Basic credentials.

This file holds the types that they share. May import apps, process, host, tls, io,
config and protocol. Knows no session.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Fields = Sequence[tuple[bytes, bytes]]

_ENCODING = sys.getfilesystemencoding()  # of variables
MAX_NAME = 256  # characters of the name of a user or a group
MAX_GROUPS = 1024

ALLOWED, UNKNOWN, FORBIDDEN, FAILED = 200, 401, 403, 503  # statuses of an Answer


class Identity:
    """A client that a source knows.

    Attributes:
        user: the name, "" if the source gave none.
        auth_type: AUTH_TYPE of RFC 3875: Proxy, Certificate, Local, Basic, Bearer or
            Authorizer.
        groups: names of its groups.
        applications: names of the only applications that it may use. None: of all.
    """

    __slots__ = ("applications", "auth_type", "groups", "user")

    def __init__(
        self,
        user: str,
        auth_type: str,
        groups: tuple[str, ...] = (),
        applications: tuple[str, ...] | None = None,
    ) -> None:
        self.user = user
        self.auth_type = auth_type
        self.groups = groups
        self.applications = applications

    def variables(self) -> dict[str, str]:
        """Return the variables of an application that tell who its client is.

        os.fsencode() gives UTF-8, whatever the locale is.
        """
        found = {"AUTH_TYPE": self.auth_type}
        if self.user:
            found["REMOTE_USER"] = _text(self.user)
        if self.groups:
            found["REMOTE_GROUPS"] = _text(",".join(self.groups))
        return found


class Question:
    """A request whose client has to be known, for an authorizer.

    Attributes:
        application: the name of the requested one, "" for one without a name.
        method, target: of the request. The target has the path and the query.
        scheme: "http" or "https", on the client's side.
        host: the requested host and port, "" without one.
        address, port: of the client. "" and 0 on a Unix socket.
        fields: header fields that an authorizer may see, names in lower case. A token
            of the subprotocol is an Authorization field.
    """

    __slots__ = (
        "address",
        "application",
        "fields",
        "host",
        "method",
        "port",
        "scheme",
        "target",
    )

    def __init__(
        self,
        *,
        application: str,
        method: str,
        target: str,
        scheme: str,
        host: str,
        address: str,
        port: int,
        fields: Fields,
    ) -> None:
        self.application = application
        self.method = method
        self.target = target
        self.scheme = scheme
        self.host = host
        self.address = address
        self.port = port
        self.fields = fields


class Answer:
    """The answer of a source.

    Attributes:
        status: ALLOWED, UNKNOWN, FORBIDDEN or FAILED.
        identity: the client, with ALLOWED.
        challenges: values for WWW-Authenticate, with UNKNOWN and FORBIDDEN.
        text: the reason, one line for the client. With FAILED it is for the log.
        max_age: seconds for which the same question has this answer.
    """

    __slots__ = ("challenges", "identity", "max_age", "status", "text")

    def __init__(
        self,
        status: int,
        identity: Identity | None = None,
        *,
        challenges: tuple[str, ...] = (),
        text: str = "",
        max_age: float = 0.0,
    ) -> None:
        self.status = status
        self.identity = identity
        self.challenges = challenges
        self.text = text
        self.max_age = max_age


def _text(name: str) -> str:
    return name.encode().decode(_ENCODING, "surrogateescape")


def is_valid_name(name: object) -> bool:
    """Return True if a user or a group can have this name.

    It has 1 to MAX_NAME printable characters, no comma, and no space at its ends.
    """
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME
        and name.isprintable()
        and "," not in name
        and name == name.strip()
    )
