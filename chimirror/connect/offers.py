"""Chooses the subprotocols to offer, so that a session opens with what a server has.

All framings are offered in one handshake, the best first: a server takes the first that
it serves. A server that serves foreign names alone refuses all of them. Then its
manifest (chimirror-protocol(7), MANIFEST) tells the names.
"""

from __future__ import annotations

import json

from chimirror.client import NotConnected
from chimirror.client.framing import NAMES, Offer
from chimirror.client.handshake import is_token
from chimirror.client.resource import get
from chimirror.connect import text_framings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.client.handshake import ConnectionParams

# stdio carries all bytes, the exit status and signals; json carries standard error.
PREFERENCE = NAMES
DEFAULT = "lines"  # of servers that choose no subprotocol, and of foreign names
MAX_NAME, MAX_NAMES = 64, 16  # names of a manifest that are used
MANIFEST = "asyncapi.json"


def own_offers(name: str | None) -> list[Offer]:
    """Return the offers of a framing, or of all framings.

    The last one accepts a server that chooses no subprotocol.
    """
    kinds = {each: text_framings.create(each) for each in PREFERENCE}
    offers = [Offer(kinds[each].subprotocol, kinds[each]) for each in kinds]
    if name is not None:
        offers = [offer for offer in offers if offer.framing.name == name]
    if name == "stdio":
        return offers
    return [*offers, Offer("", kinds[name or DEFAULT])]


def named_offers(
    subprotocol: str, name: str | None, servers: Sequence[ConnectionParams]
) -> list[Offer]:
    """Return the offers of --subprotocol.

    Args:
        subprotocol: The name to offer.
        name: The framing. None takes the framing in the manifest of the server.
        servers: Parameters for each URL.
    """
    if name is None:
        kinds = [text_framings.create(each) for each in PREFERENCE]
        known = {kind.subprotocol: kind.name for kind in kinds}
        if subprotocol not in known:
            known = served_names(servers)
        name = known.get(subprotocol, DEFAULT)
    kind = text_framings.create(name)
    offers = [Offer(subprotocol, kind)]
    return offers if name == "stdio" else [*offers, Offer("", kind)]


def foreign_offers(
    servers: Sequence[ConnectionParams], name: str | None
) -> list[Offer]:
    """Return the offers for a server that refuses our own names.

    Args:
        servers: Parameters for each URL.
        name: The only framing to offer, None for all.
    """
    kinds = {each: text_framings.create(each) for each in PREFERENCE}
    own = {kind.subprotocol for kind in kinds.values()}
    return [
        Offer(subprotocol, kinds[each])
        for subprotocol, each in served_names(servers).items()
        if name in (None, each) and subprotocol not in own
    ]


def served_names(servers: Sequence[ConnectionParams]) -> dict[str, str]:
    """Return the subprotocols in the manifest of a server, with their framings.

    Those of the best framing come first. Without a manifest there are none.
    """
    try:
        manifest = json.loads(get(servers, _path_on))
    except (NotConnected, ValueError, RecursionError):
        return {}
    found: dict[str, str] = {}
    for name in PREFERENCE:
        field = _member(
            manifest,
            *("channels", name, "bindings", "ws", "headers", "properties"),
            *("Sec-WebSocket-Protocol", "enum"),
        )
        for subprotocol in field[:MAX_NAMES] if isinstance(field, list) else ():
            if isinstance(subprotocol, str) and is_name(subprotocol):
                found.setdefault(subprotocol, name)
    return found


def _path_on(server: ConnectionParams) -> str:
    """Return the path of the manifest."""
    return f"{server.target.uri.path.rstrip('/')}/{MANIFEST}"


def is_name(text: str) -> bool:
    """Whether this can be the name of a subprotocol."""
    return is_token(text) and len(text) <= MAX_NAME


def _member(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
