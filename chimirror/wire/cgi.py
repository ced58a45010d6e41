"""The environment that tells an application who calls: CGI/1.1 (RFC 3875).

Law: the bytes of the peer reach the application unchanged, under names that no
peer can choose freely: HTTP_PROXY (httpoxy) never, credentials only when asked
for, and no field may pose as another through an underscore in its name.
Ignorance: the rest of the environment, and how it is handed over; the values are
such that os.fsencode() gives back the peer's bytes.
"""

from __future__ import annotations

import sys

from chimirror.wire.http import NAMES, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from chimirror.wire.handshake import Accept

_NAME = b"-0123456789abcdefghijklmnopqrstuvwxyz"
# There is no body, and RFC 3875 has names of its own for these two.
_NEVER = {b"proxy", b"content-length", b"content-type"}
ASKED = {b"authorization", b"proxy-authorization", b"cookie"}
_ENCODING = sys.getfilesystemencoding()


def _text(value: bytes) -> str:
    """Decode as os.fsdecode() would, which may not be imported here."""
    return value.decode(_ENCODING, "surrogateescape")


def _variable(field: bytes) -> str:
    """Name a field, empty if it may not pass."""
    # Drops every "_" too: X_Forwarded_For would pass as X-Forwarded-For.
    if field in _NEVER or field.translate(None, _NAME):
        return ""
    return "HTTP_" + field.decode("ascii").upper().replace("-", "_")


_VARIABLES = {name.lower(): _variable(name.lower()) for name in NAMES}


def _fields(
    fields: list[tuple[bytes, bytes]], keep: Container[str]
) -> dict[str, bytes]:
    """Name the header fields; a repeated one becomes one list."""
    named: dict[str, bytes] = {}
    for field, value in fields:
        name = _VARIABLES.get(field) or _variable(field)
        if not name or (field in ASKED and name not in keep):
            continue
        named[name] = named[name] + b", " + value if name in named else value
    return named


def variables(
    accept: Accept,
    *,
    server_software: str,
    keep: Container[str] = (),
    script: str = "",
) -> dict[str, str]:
    """Name what is known about a session's client.

    Args:
        accept: The request.
        server_software: For SERVER_SOFTWARE, such as "chimirror/1.0".
        keep: Names that `--pass-env` lists; it takes one of HTTP_AUTHORIZATION,
            HTTP_PROXY_AUTHORIZATION and HTTP_COOKIE for that field to pass.
        script: What the path begins with: the application's own part of it.
    """
    request = accept.request
    environment = {
        name: _text(value) for name, value in _fields(request.fields, keep).items()
    }
    environment.update(
        GATEWAY_INTERFACE="CGI/1.1",
        SERVER_PROTOCOL="HTTP/1.1",
        SERVER_SOFTWARE=server_software,
        SERVER_NAME=accept.host,
        SERVER_PORT=str(accept.port),
        REQUEST_METHOD=request.method,
        REQUEST_URI=request.target,
        SCRIPT_NAME=script,
        PATH_INFO=_text(unquote(request.path[len(script) :].encode("ascii"))),
        QUERY_STRING=request.query,
    )
    environment.update(caller(accept.peer_address, accept.peer_port))
    return environment


def caller(peer_address: str, peer_port: int) -> dict[str, str]:
    """Name where a client comes from; nothing for one on a Unix socket."""
    if not peer_address:
        return {}
    if not peer_port:
        return {"REMOTE_ADDR": peer_address}
    return {"REMOTE_ADDR": peer_address, "REMOTE_PORT": str(peer_port)}
