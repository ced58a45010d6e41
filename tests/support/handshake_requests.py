"""Builds requests for tests of handshakes."""

from __future__ import annotations

from chimirror.protocol import handshake, http
from chimirror.protocol.handshake import AcceptedHandshake
from chimirror.protocol.policy import HandshakePolicy
from chimirror.protocol.routes import ResourceRequest

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}

PLAIN = HandshakePolicy(("json", "stdio"))

ROUTABLE = "203.0.113.9"


def request(
    *lines: tuple[str, str],
    method: str = "GET",
    target: str = "/ws",
    host: str = "localhost",
    upgrade: bool = True,
    **changes: str | None,
) -> http.HTTPRequest:
    """Build a request with the parser.

    Args:
        lines: Fields to add.
        method: Its method.
        target: Its target.
        host: Its Host.
        upgrade: Whether it has the fields of an opening handshake.
        changes: Values for these fields, by their names in lower case without dashes.
            None removes the field.
    """
    fields = [("Host", host)]
    for name, value in UPGRADE.items() if upgrade else ():
        changed = changes.get(name.replace("-", "").lower(), value)
        if changed is not None:
            fields.append((name, changed))
    text = f"{method} {target} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in [*fields, *lines]
    )
    found = http.parse(text.encode("latin-1") + b"\r\n")
    assert found is not None
    return found[0]


def decide(
    asked: http.HTTPRequest,
    policy: HandshakePolicy = PLAIN,
    peer_address: str = ROUTABLE,
    peer_port: int = 4711,
) -> AcceptedHandshake | ResourceRequest:
    return handshake.negotiate(asked, policy, peer_address, peer_port)
