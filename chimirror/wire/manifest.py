"""What a client may expect of an application, as a document: AsyncAPI 3.0.0.

Law: the document says what the socket does, and refers to nothing outside itself.
AsyncAPI sees messages from the side of the application that it describes, which is
the one served here: what a client sends, the application receives (its action is
`receive`), and what it prints, it sends. A channel is one framing at the application's
address, since the subprotocol decides which messages there are.
Ignorance: requests, files and who asks. Schemas are without `schema.faults`.
"""

from __future__ import annotations

from . import messages, steering
from .visit import MANIFEST_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .handshake import Policy
    from .interface import Interface
    from .messages import Settings

    Object = dict[str, Any]

VERSION = "3.0.0"
_HEADER = "Sec-WebSocket-Protocol"
_CLOSES = (
    (1000, "exit 0", "the application exited with status 0"),
    (1000, "closed", "the session was closed over its control part"),
    (1001, "idle", "nothing was said for too long"),
    (1001, "time", "the session was too long"),
    (1001, "drain", "the server is going down; connect again"),
    (1002, "protocol", "the client broke RFC 6455"),
    (1003, "binary", "a binary frame"),
    (1007, "not UTF-8", "a message is not UTF-8"),
    (1009, "over --max-message", "a message is too large"),
    (1011, "exit N", "the application exited with another status than 0"),
    (1011, "signal NAME", "a signal ended the application"),
    (1011, "out of memory", "the system had no memory left for the application"),
    (1011, "error ...", "a fault of the server's"),
)
_CLOSES_OF = {
    "lines": (
        (1007, "line break outside JSON", "a message of more than one line is no JSON"),
        (1011, "line not UTF-8", "the application printed what is no text"),
        (1011, "line over --max-message", "the application printed too long a line"),
    ),
    "lsp": (
        (1007, "not JSON", "a message is no JSON text"),
        (1011, "bad header", "the application printed what is no header"),
        (1011, "header over 4096 bytes", "the application printed too long a header"),
        (1011, "body over --max-message", "the application announced too long a body"),
        (1011, "body not UTF-8", "the application printed what is no text"),
        (1011, "output cut off", "the application ended within a body or its header"),
    ),
}
_CLOSES_OF_SPEAKERS = (
    (1008, "this application only sends", "the client sent a message"),
)


def path(name: str) -> str:
    """The path of a manifest; "" is the name of an application that is alone."""
    return f"/{name}{MANIFEST_FILE}" if name else MANIFEST_FILE


def document(
    interface: Interface,
    policy: Policy,
    settings: Settings,
    url: str = "",
    *,
    steerable: bool = False,
) -> Object:
    """Describe one application.

    Args:
        interface: What it is, by its own account.
        policy: Which subprotocols are served.
        settings: What else of its configuration a client notices.
        url: Of the server, such as "wss://play.example:8443"; "" if nobody knows.
        steerable: Sessions can be steered where it is served. Only stdio tells a
            client what it needs for that.

    Returns:
        What to write down as JSON.
    """
    framings = _by_framing(policy)
    found: Object = {
        "asyncapi": VERSION,
        "info": _info(interface),
        **({"servers": {"here": _server(url)}} if url else {}),
        "defaultContentType": messages.JSON,
        "channels": {},
        "operations": {},
        "components": {"schemas": messages.schemas(interface)},
        "x-chimirror": _contract(policy, settings),
    }
    for framing, subprotocols in framings.items():
        binding = _binding(subprotocols, optional=framing == policy.framings[0])
        ways = messages.of(framing, interface, settings)
        _add(found, framing, messages.TITLES[framing], binding, ways)
    if steerable and "stdio" in framings:
        binding = _binding([steering.SUBPROTOCOL], optional=False)
        ways = (
            steering.requests(passed_on=settings.control),
            steering.replies(passed_on=settings.control),
        )
        _add(found, steering.CHANNEL, steering.TITLE, binding, ways)
        found["components"]["schemas"][steering.SCHEMA] = steering.STATUS
    for channel in found["channels"].values():
        channel["address"] = f"/{interface.name}"
    return found


def _add(
    found: Object, name: str, title: str, binding: Object, ways: tuple[Object, Object]
) -> None:
    """A channel, and what passes there each way."""
    found["channels"][name] = {
        "title": title,
        "messages": ways[0] | ways[1],
        "bindings": {"ws": binding},
    }
    for action, way in zip(("receive", "send"), ways, strict=True):
        if way:
            found["operations"][f"{action}-{name}"] = _operation(action, name, way)


def _info(interface: Interface) -> Object:
    """Title and version have to be there; what nobody said is said so."""
    title = interface.title or interface.name or "An application"
    found = {"title": title, "version": interface.version or "unknown"}
    if interface.purpose:
        found["description"] = interface.purpose
    return found


def _by_framing(policy: Policy) -> dict[str, list[str]]:
    """The subprotocols of each framing, the default framing first."""
    found: dict[str, list[str]] = {}
    for subprotocol, framing in policy.subprotocols.items():
        found.setdefault(framing, []).append(subprotocol.decode())
    return found


def _binding(subprotocols: list[str], *, optional: bool) -> Object:
    """The handshake; who offers no subprotocol gets the default framing."""
    field = {"type": "string", "enum": subprotocols}
    headers: Object = {"type": "object", "properties": {_HEADER: field}}
    if not optional:
        headers["required"] = [_HEADER]
    return {"method": "GET", "headers": headers, "bindingVersion": "0.1.0"}


def _operation(action: str, name: str, way: Object) -> Object:
    channel = f"#/channels/{name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{each}"} for each in way],
    }


def _server(url: str) -> Object:
    scheme, _, rest = url.partition("://")
    host, slash, below = rest.partition("/")
    found = {"host": host, "protocol": scheme}
    if below.strip("/"):
        found["pathname"] = slash + below.strip("/")
    return found


def _contract(policy: Policy, settings: Settings) -> Object:
    """What AsyncAPI has no word for."""
    closes = [*_CLOSES]
    for framing in _by_framing(policy):
        closes += _CLOSES_OF.get(framing, ())
    if settings.direction == "receive":
        closes += _CLOSES_OF_SPEAKERS
    return {
        "direction": settings.direction,
        "default_framing": policy.framings[0],
        "max_message": settings.max_message,
        "control": settings.control,
        "close": [
            {"code": code, "reason": reason, "meaning": meaning}
            for code, reason, meaning in sorted(closes)
        ],
    }


def entry(interface: Interface, policy: Policy, settings: Settings) -> Object:
    """Describe one application in few words, for a catalog."""
    return {
        "name": interface.name,
        "title": interface.title,
        "purpose": interface.purpose,
        "version": interface.version,
        "path": f"/{interface.name}",
        "manifest": path(interface.name),
        "framings": [*_by_framing(policy)],
        "subprotocols": [name.decode() for name in policy.subprotocols],
        "direction": settings.direction,
        "control": settings.control,
    }
