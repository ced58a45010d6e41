"""Reads where an authorizer is: the value of --authorize, and of --authorize-fields.

Three forms: ``http://HOST:PORT/PATH``, ``http+unix:PATH[:/URI]`` and ``exec:COMMAND ARG
…``. Resolves no name and looks for no program: access.endpoint does, when a program
starts. A ValueError is one line, which quotes the text and says what to write instead.
"""

from __future__ import annotations

from chimirror.config import command_words, listen_syntax, values

HTTP, UNIX, EXEC = "http", "http+unix", "exec"
HTTP_PORT = 80
MAX_SOCKET_PATH = 107  # bytes: unix(7), sun_path without the zero byte
_FORMS = (
    "write http://127.0.0.1:9090/PATH, http+unix:/run/NAME.sock or "
    '"exec:/usr/bin/COMMAND ARG"'
)
# Fields of an answer that have a meaning of their own there.
_TAKEN = frozenset(
    "cache-control chimirror-applications connection content-length content-type date "
    "set-cookie transfer-encoding www-authenticate".split()
)


class AuthorizeTarget:
    """Where an authorizer is.

    Attributes:
        kind: HTTP, UNIX or EXEC.
        host, port: of HTTP. The host has no brackets.
        path: the socket of UNIX.
        uri: path and query of the requests of HTTP and UNIX.
        argv: the command of EXEC.
    """

    __slots__ = ("argv", "host", "kind", "path", "port", "uri")

    def __init__(
        self,
        kind: str,
        *,
        host: str = "",
        port: int = 0,
        path: str = "",
        uri: str = "/",
        argv: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.path = path
        self.uri = uri
        self.argv = argv

    def __eq__(self, other: object) -> bool:
        """Compare two targets, so that a Config compares by value."""
        return isinstance(other, AuthorizeTarget) and self._values == other._values

    def __hash__(self) -> int:
        """Return a hash that fits the comparison."""
        return hash(self._values)

    @property
    def _values(self) -> tuple[object, ...]:
        return self.kind, self.host, self.port, self.path, self.uri, self.argv


def parse(text: str) -> AuthorizeTarget:
    """Read the value of --authorize.

    Raises:
        ValueError: The text has none of the three forms.
    """
    scheme, colon, rest = text.partition(":")
    if scheme == EXEC and colon:
        return _read_command(rest)
    if scheme == UNIX and colon:
        return _read_socket(text, rest)
    if scheme == HTTP and rest.startswith("//"):
        return _read_url(text, rest[2:])
    if scheme == "https":
        raise ValueError(
            f'"{text}": an authorizer is asked without TLS; write http:// or '
            "http+unix:, and reach another machine through a proxy on this one"
        )
    raise ValueError(f'"{text}" is not an authorizer; {_FORMS}')


def _read_command(text: str) -> AuthorizeTarget:
    try:
        argv = command_words.split(text)
    except ValueError as error:
        raise ValueError(f'"exec:{text}": {error}') from None
    if not argv or not argv[0]:
        raise ValueError(
            f'"exec:{text}" has no command; write "exec:/usr/bin/COMMAND ARG"'
        )
    if any("\0" in word for word in argv):
        raise ValueError(f'"exec:{text}" has a zero byte; leave it out')
    return AuthorizeTarget(EXEC, argv=argv)


def _read_socket(text: str, rest: str) -> AuthorizeTarget:
    path, _, uri = rest.partition(":/")
    if not path or path[0] != "/" or "\0" in path:
        raise ValueError(
            f'"{text}" has no absolute path; write http+unix:/run/NAME.sock, or '
            "http+unix:/run/NAME.sock:/URI"
        )
    size = len(path.encode(errors="surrogateescape"))
    if size > MAX_SOCKET_PATH:
        raise ValueError(
            f'"{text}" has a path of {size} bytes, and a socket can have '
            f"{MAX_SOCKET_PATH}; write a shorter one"
        )
    return AuthorizeTarget(UNIX, path=path, uri=_uri(text, f"/{uri}"))


def _read_url(text: str, rest: str) -> AuthorizeTarget:
    authority, _, uri = rest.partition("/")
    if "@" in authority:
        raise ValueError(
            "an authorizer's address has no user or password, because ps(1) shows it; "
            "write http://HOST:PORT/PATH"
        )
    if "?" in authority or "#" in authority:
        raise ValueError(f'"{text}" has no path; write a / after the port')
    host, port = _split_authority(text, authority)
    return AuthorizeTarget(HTTP, host=host, port=port, uri=_uri(text, f"/{uri}"))


def _split_authority(text: str, authority: str) -> tuple[str, int]:
    has_port = ":" in authority.rpartition("]")[2]
    whole = authority if has_port else f"{authority}:{HTTP_PORT}"
    try:
        host, port = listen_syntax.split(whole)
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from None
    if not port:
        raise ValueError(f'"{text}" has port 0; write the port of the authorizer')
    if ":" not in host and not _is_name(host):
        raise ValueError(f'"{text}": "{host}" is not a host name; write {HTTP}://HOST/')
    return host, port


def _is_name(host: str) -> bool:
    return host.isascii() and all(c.isalnum() or c in "-._" for c in host)


def _uri(text: str, uri: str) -> str:
    if "#" in uri:
        raise ValueError(f'"{text}" has a #, which is never sent; leave it out')
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        raise ValueError(
            f'"{text}" has a character that no URL has; write %20 for a space'
        )
    return uri


def fields(text: str) -> tuple[str, str]:
    """Read --authorize-fields, from ``Remote-User`` or ``Remote-User,Remote-Groups``.

    Returns:
        The names of the fields of user and groups, in lower case. The second is empty
        without one.

    Raises:
        ValueError: A name is missing, not that of a field, or taken.
    """
    names = text.lower().split(",")
    if len(names) > 2:
        raise ValueError(f'"{text}" has {len(names)} names; write USER or USER,GROUPS')
    for name in names:
        if not values.is_token(name):
            raise ValueError(f'"{name}" is not the name of a field; write Remote-User')
        if not name:
            raise ValueError(f'"{text}" lacks a name; write Remote-User,Remote-Groups')
        if name in _TAKEN:
            raise ValueError(
                f'"{name}" has a meaning of its own in an answer; write Remote-User'
            )
    if len(set(names)) != len(names):
        raise ValueError(f'"{text}" names one field twice; name each field once')
    return names[0], names[1] if len(names) == 2 else ""
