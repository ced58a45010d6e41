"""From the bytes of a request to what its session needs; known requests take no judge.

Law: clients of one service send the same head again and again, but for the key (RFC
6455, 4.1). One that was accepted before is accepted again without parsing: verdict and
variables cost 70 us of a session's 300, remembered 4. What is equal is equal to the
byte; the key is checked and what depends on the peer is made anew each time. Refusals
are not remembered, nor are heads with credentials, nor what a trusted proxy passes on.
Ignorance: sockets, limits and the application.
"""

from __future__ import annotations

from chimirror.wire import cgi, handshake, http
from chimirror.wire.key import is_key, switching_protocols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from chimirror.wire.visit import Visit

MOST = 32  # heads that are remembered
LONGEST = 2048  # bytes of one
_FIELD = b"\r\nSec-WebSocket-Key: "
_CREDENTIALS = [b"\r\n%s:" % field for field in cgi.ASKED]
_KEY_VARIABLE = "HTTP_SEC_WEBSOCKET_KEY"
_KEY_SIZE = 24  # 16 bytes in base64


class Opening:
    """A request that may have a session.

    Attributes:
        framing, subprotocol, peer_address, peer_port: See handshake.Accept.
        key: Its Sec-WebSocket-Key.
        target, origin: What it asked for, and from where; for the record.
        variables: See cgi.variables; the owner may add to it.
        size: Length of its head in bytes.
    """

    __slots__ = (
        "framing",
        "key",
        "origin",
        "peer_address",
        "peer_port",
        "size",
        "subprotocol",
        "target",
        "variables",
    )

    def __init__(
        self, accept: handshake.Accept, variables: dict[str, str], size: int
    ) -> None:
        request = accept.request
        self.framing = accept.framing
        self.subprotocol = accept.subprotocol
        self.peer_address = accept.peer_address
        self.peer_port = accept.peer_port
        self.key = request.get(b"sec-websocket-key") or b""
        self.target = request.target
        self.origin = request.get(b"origin") or b""
        self.variables = variables
        self.size = size

    def again(self, key: bytes, peer_address: str, peer_port: int) -> Opening:
        """The same of another client: what of it is not the head's is made anew."""
        other = Opening.__new__(Opening)
        other.framing = self.framing
        other.subprotocol = self.subprotocol
        other.peer_address = peer_address
        other.peer_port = peer_port
        other.key = key
        other.target = self.target
        other.origin = self.origin
        other.variables = {**self.variables, **cgi.caller(peer_address, peer_port)}
        other.variables[_KEY_VARIABLE] = key.decode("ascii")
        other.size = self.size
        return other

    def response(self) -> bytes:
        """Write the 101."""
        return switching_protocols(self.key, self.subprotocol)


class Openings:
    """Reads the requests of one process.

    Args:
        policy: What is allowed.
        server_software, keep: See cgi.variables.
    """

    __slots__ = ("_keep", "_known", "_policy", "_server_software")

    def __init__(
        self, policy: handshake.Policy, server_software: str, keep: Container[str] = ()
    ) -> None:
        self._policy = policy
        self._server_software = server_software
        self._keep = keep
        self._known: dict[bytes, Opening] = {}

    def read(
        self, data: bytes, peer_address: str, peer_port: int
    ) -> Opening | Visit | None:
        """Decide about a request, from what has arrived of it and behind it.

        Returns:
            The session to open, or what somebody just looks at; None while
            the head is unfinished and nothing is wrong with it.

        Raises:
            Refusal: See http.parse and handshake.judge.
        """
        trusted = self._policy.trusted
        if trusted is not None and trusted(peer_address):
            return self.judge(data, peer_address, peer_port)
        at, head = _cut(data)
        known = self._known.get(head)
        if known is not None:
            key = data[at : at + _KEY_SIZE]
            if is_key(key):
                return known.again(key, peer_address, peer_port)
        found = self.judge(data, peer_address, peer_port)
        if isinstance(found, Opening) and data[at : at + _KEY_SIZE] == found.key:
            self._remember(head, found)
        return found

    def judge(
        self, data: bytes, peer_address: str, peer_port: int
    ) -> Opening | Visit | None:
        """Do the same without memory."""
        parsed = http.parse(data)
        if parsed is None:
            return None
        request, size = parsed
        verdict = handshake.judge(request, self._policy, peer_address, peer_port)
        if not isinstance(verdict, handshake.Accept):
            return verdict
        variables = cgi.variables(
            verdict,
            server_software=self._server_software,
            keep=self._keep,
            script=self._policy.root,
        )
        return Opening(verdict, variables, size)

    def _remember(self, head: bytes, opening: Opening) -> None:
        low = head.lower()
        if len(head) > LONGEST or any(field in low for field in _CREDENTIALS):
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]  # the oldest
        kept = opening.again(opening.key, "", 0)
        for name in ("REMOTE_ADDR", "REMOTE_PORT"):
            kept.variables.pop(name, None)
        self._known[head] = kept


def _cut(data: bytes) -> tuple[int, bytes]:
    """Take the key out of a head.

    Returns:
        Where the key is, and the head without it; the place is that of the first
        such field in what is left too, so that no two heads become one.
    """
    at = data.find(_FIELD) + len(_FIELD)
    end = data.find(b"\r\n\r\n", at + _KEY_SIZE)
    if at < len(_FIELD) or end < 0:
        return 0, b""
    return at, data[:at] + data[at + _KEY_SIZE : end]
