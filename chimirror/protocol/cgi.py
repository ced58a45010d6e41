"""CGI/1.1 variables that describe the client to the application (RFC 3875).

Passes the peer's bytes to the application unchanged, under names that no peer can
choose freely. HTTP_PROXY never passes (httpoxy). Credentials pass only if the
configuration names them. No field can imitate another with an underscore in its name.
os.fsencode() gives back the peer's bytes. Knows nothing of the rest of the
environment, nor of the start of the application.
"""

from __future__ import annotations

import sys

from chimirror.protocol.http import NAMES, unquote
from chimirror.protocol.policy import add_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from chimirror.protocol.handshake import AcceptedHandshake

_NAME = b"-0123456789abcdefghijklmnopqrstuvwxyz"
_PREFIXES = ("HTTP_", "REMOTE_", "SERVER_", "REQUEST_")
_OTHERS = {"GATEWAY_INTERFACE", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTPS"}
_OTHERS |= {"AUTH_TYPE", "TRACEPARENT", "TRACESTATE", "BAGGAGE"}
# Not all with this prefix: SSL_CERT_FILE is for programs that use OpenSSL.
_OTHERS |= {"SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN"}
# A handshake has no body, and RFC 3875 has names of its own for the last two.
_NEVER = {b"proxy", b"content-length", b"content-type"}
CREDENTIAL_FIELDS = {b"authorization", b"proxy-authorization", b"cookie"}
_ENCODING = sys.getfilesystemencoding()


def _text(value: bytes) -> str:
    """Decode like os.fsdecode(), because an import of `os` costs too much here."""
    return value.decode(_ENCODING, "surrogateescape")


def _variable(field: bytes) -> str:
    """Return the variable of a field, "" if the field must not pass."""
    # Refuses every "_" too: X_Forwarded_For would imitate X-Forwarded-For.
    if field in _NEVER or field.translate(None, _NAME):
        return ""
    return "HTTP_" + field.decode("ascii").upper().replace("-", "_")


_VARIABLES = {name.lower(): _variable(name.lower()) for name in NAMES}


def _fields(
    fields: list[tuple[bytes, bytes]], keep: Container[str]
) -> dict[str, bytes]:
    """Return the header fields as variables. A repeated field becomes one list."""
    named: dict[str, bytes] = {}
    for field, value in fields:
        name = _VARIABLES.get(field) or _variable(field)
        if not name or (field in CREDENTIAL_FIELDS and name not in keep):
            continue
        named[name] = named[name] + b", " + value if name in named else value
    return named


def is_request_variable(name: str) -> bool:
    """Return True if a variable of this name describes a client."""
    return name.startswith(_PREFIXES) or name in _OTHERS


def variables(
    accept: AcceptedHandshake,
    *,
    server_software: str,
    keep: Container[str] = (),
    script: str = "",
    base: str = "",
) -> dict[str, str]:
    """Return the CGI variables of a session's client.

    Args:
        accept: The accepted handshake.
        server_software: The value of SERVER_SOFTWARE, such as "chimirror/1.0".
        keep: Names that `--pass-env` lists. HTTP_AUTHORIZATION,
            HTTP_PROXY_AUTHORIZATION and HTTP_COOKIE pass only if listed here.
        script: The application's own part at the beginning of the path.
        base: The path of a proxy before that.
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
        REQUEST_URI=add_base(request.target, base),
        SCRIPT_NAME=_text(unquote(base.encode("ascii"))) + script,
        PATH_INFO=_text(unquote(request.path[len(script) :].encode("ascii"))),
        QUERY_STRING=request.query,
    )
    environment.update(peer_variables(accept.peer_address, accept.peer_port))
    if "HTTP_TRACEPARENT" in environment or "HTTP_BAGGAGE" in environment:
        from chimirror.protocol import trace_context

        environment.update(trace_context.variables(request))
    return environment


def peer_variables(peer_address: str, peer_port: int) -> dict[str, str]:
    """Return the variables of the client's address, none for a Unix socket."""
    if not peer_address:
        return {}
    if not peer_port:
        return {"REMOTE_ADDR": peer_address}
    return {"REMOTE_ADDR": peer_address, "REMOTE_PORT": str(peer_port)}
