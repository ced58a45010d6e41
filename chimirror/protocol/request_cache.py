"""Turns the bytes of a request into a SessionRequest, and remembers accepted heads.

Clients of one service send the same head again and again, except for the key (RFC
6455, section 4.1). A head that was accepted before is accepted again without parsing.
Decision and variables cost 70 µs of a session's 300, and 4 with the cache. Heads are
compared byte by byte. The key is checked, and values of the peer are computed, each
time. The cache holds no refusals, no heads with credentials, and no heads from a
trusted proxy. It is empty where clients have to be known. Knows no socket, no limit and
no application.
"""

from __future__ import annotations

from chimirror.protocol import cgi, handshake, http, policy
from chimirror.protocol.handshake import is_key, switching_protocols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from chimirror.protocol.routes import ResourceRequest

MAX_ENTRIES = 32  # heads in the cache
MAX_HEAD = 2048  # bytes of one head
_FIELD = b"\r\nSec-WebSocket-Key: "
_CREDENTIALS = [b"\r\n%s:" % field for field in cgi.CREDENTIAL_FIELDS]
_CREDENTIALS.append(b"chimirror.bearer.")
_KEY_VARIABLE = "HTTP_SEC_WEBSOCKET_KEY"
_KEY_SIZE = 24  # 16 bytes in base64


class SessionRequest:
    """A request that passed all checks, with everything that its session needs.

    Attributes:
        framing, subprotocol, terminal_size, wants_alive, peer_address, peer_port: As
            in `handshake.AcceptedHandshake`.
        key: The Sec-WebSocket-Key. Empty: the request asks only whether it would
            open a session.
        target, origin: The request target and the Origin, for the log.
        variables: The CGI variables. The owner may add to them.
        handshake: The accepted one, if the endpoint asks who its clients are.
        size: Bytes of the head.
    """

    __slots__ = (
        "framing",
        "handshake",
        "key",
        "origin",
        "peer_address",
        "peer_port",
        "size",
        "subprotocol",
        "target",
        "terminal_size",
        "variables",
        "wants_alive",
    )

    def __init__(
        self, accept: handshake.AcceptedHandshake, variables: dict[str, str], size: int
    ) -> None:
        request = accept.request
        self.framing = accept.framing
        self.subprotocol = accept.subprotocol
        self.terminal_size = accept.terminal_size
        self.wants_alive = accept.wants_alive
        self.peer_address = accept.peer_address
        self.peer_port = accept.peer_port
        self.key = request.get(b"sec-websocket-key") or b""
        self.target = request.target
        self.origin = request.get(b"origin") or b""
        self.variables = variables
        self.handshake: handshake.AcceptedHandshake | None = None
        self.size = size

    def for_peer(self, key: bytes, peer_address: str, peer_port: int) -> SessionRequest:
        """Return this request for another client with the same head."""
        other = SessionRequest.__new__(SessionRequest)
        other.framing = self.framing
        other.subprotocol = self.subprotocol
        other.terminal_size = self.terminal_size
        other.wants_alive = self.wants_alive
        other.peer_address = peer_address
        other.peer_port = peer_port
        other.key = key
        other.handshake = None
        other.target = self.target
        other.origin = self.origin
        other.variables = {
            **self.variables,
            **cgi.peer_variables(peer_address, peer_port),
        }
        other.variables[_KEY_VARIABLE] = key.decode("ascii")
        other.size = self.size
        return other

    def response(self, fields: bytes = b"") -> bytes:
        """Return the 101 response, with further field lines."""
        return switching_protocols(self.key, self.subprotocol, fields)


class RequestCache:
    """Reader of the requests of one process.

    Args:
        policy: The policy of the endpoint.
        server_software, keep: As in `cgi.variables`.
    """

    __slots__ = ("_keep", "_cache", "_policy", "_server_software")

    def __init__(
        self,
        policy: policy.HandshakePolicy,
        server_software: str,
        keep: Container[str] = (),
    ) -> None:
        self._policy = policy
        self._server_software = server_software
        self._keep = keep
        self._cache: dict[bytes, SessionRequest] = {}

    def read(
        self, data: bytes, peer_address: str, peer_port: int
    ) -> SessionRequest | ResourceRequest | None:
        """Decide about a request from the received bytes, which may reach beyond it.

        Returns:
            The session to open or the resource to send. None while the head is
            incomplete and without error.

        Raises:
            HTTPError: As in `http.parse` and `handshake.negotiate`.
        """
        trusted = self._policy.trusted
        if self._policy.needs_identity or (
            trusted is not None and trusted(peer_address)
        ):
            return self.decide(data, peer_address, peer_port)
        at, head = _cut_key(data)
        cached = self._cache.get(head)
        if cached is not None:
            key = data[at : at + _KEY_SIZE]
            if is_key(key):
                return cached.for_peer(key, peer_address, peer_port)
        found = self.decide(data, peer_address, peer_port)
        if isinstance(found, SessionRequest) and data[at : at + _KEY_SIZE] == found.key:
            self._store(head, found)
        return found

    def decide(
        self, data: bytes, peer_address: str, peer_port: int
    ) -> SessionRequest | ResourceRequest | None:
        """Decide like `read`, without the cache."""
        parsed = http.parse(data)
        if parsed is None:
            return None
        request, size = parsed
        accepted = handshake.negotiate(request, self._policy, peer_address, peer_port)
        if not isinstance(accepted, handshake.AcceptedHandshake):
            return accepted
        variables = cgi.variables(
            accepted,
            server_software=self._server_software,
            keep=self._keep,
            script=self._policy.root,
            base=self._policy.base,
        )
        found = SessionRequest(accepted, variables, size)
        if self._policy.needs_identity:
            found.handshake = accepted
        return found

    def _store(self, head: bytes, request: SessionRequest) -> None:
        low = head.lower()
        if len(head) > MAX_HEAD or any(field in low for field in _CREDENTIALS):
            return
        if len(self._cache) >= MAX_ENTRIES:
            del self._cache[next(iter(self._cache))]  # the oldest
        kept = request.for_peer(request.key, "", 0)
        for name in ("REMOTE_ADDR", "REMOTE_PORT"):
            kept.variables.pop(name, None)
        self._cache[head] = kept


def _cut_key(data: bytes) -> tuple[int, bytes]:
    """Take the key out of a head.

    Returns:
        The position of the key, and the head without it. The position is that of the
        first such field in the remaining head too, so two heads never become equal.
    """
    at = data.find(_FIELD) + len(_FIELD)
    end = data.find(b"\r\n\r\n", at + _KEY_SIZE)
    if at < len(_FIELD) or end < 0:
        return 0, b""
    return at, data[:at] + data[at + _KEY_SIZE : end]
