"""The manifest of an application: an AsyncAPI 3.0.0 document for its clients.

The document describes the connection and refers to nothing outside itself. AsyncAPI
takes the side of the application: messages from a client have the action `receive`,
and output has the action `send`. Each framing is a channel at the application's
address, because the subprotocol decides about the messages. Knows no requests, no
files and no clients. Expects schemas without errors (`schema.find_errors`).
"""

from __future__ import annotations

from chimirror.framing.registry import FRAMINGS
from chimirror.manifest import control_channel, messages
from chimirror.protocol import CLOSE_REASONS, LINE_BREAK
from chimirror.protocol.routes import MANIFEST_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from chimirror.manifest.interface import Interface
    from chimirror.manifest.messages import MessageSettings
    from chimirror.protocol.policy import HandshakePolicy

    Object = dict[str, Any]

VERSION = "3.0.0"
_HEADER = "Sec-WebSocket-Protocol"
_TERMINAL_SIZE = (
    "One of these, and chimirror.size.COLUMNSxROWS, such as chimirror.size.80x24, for "
    "the size of the terminal before the application starts."
)


def path(name: str) -> str:
    """Return the path of a manifest. A single application has the name ""."""
    return f"/{name}{MANIFEST_FILE}" if name else MANIFEST_FILE


def document(
    interface: Interface,
    policy: HandshakePolicy,
    settings: MessageSettings,
    url: str = "",
    *,
    controllable: bool = False,
) -> Object:
    """Return the manifest of one application.

    Args:
        interface: The application's own description.
        policy: The policy of the endpoint, with its subprotocols.
        settings: Further settings that clients notice.
        url: The URL of the server, such as "wss://play.example:8443/base", "" if
            unknown.
        controllable: Clients can open control connections. Only stdio sends the secret
            for them.

    Returns:
        A JSON object.
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
        "x-chimirror": _extension(policy, settings),
    }
    has_bodies = "lsp" in framings and "lines" not in framings
    for framing, subprotocols in framings.items():
        binding = _binding(
            subprotocols, optional=framing == policy.framings[0], pty=settings.pty
        )
        directions = messages.describe(
            framing, interface, settings, has_bodies=has_bodies
        )
        _add(found, framing, FRAMINGS[framing].title, binding, directions)
    if controllable and "stdio" in framings:
        binding = _binding([control_channel.SUBPROTOCOL], optional=False)
        directions = (
            control_channel.requests(passed_on=settings.control),
            control_channel.replies(passed_on=settings.control),
        )
        _add(found, control_channel.CHANNEL, control_channel.TITLE, binding, directions)
        found["components"]["schemas"][control_channel.SCHEMA] = control_channel.STATUS
    for channel in found["channels"].values():
        channel["address"] = f"/{interface.name}"
    return found


def _add(
    found: Object,
    name: str,
    title: str,
    binding: Object,
    directions: tuple[Object, Object],
) -> None:
    """Add a channel with its messages in both directions."""
    found["channels"][name] = {
        "title": title,
        "messages": directions[0] | directions[1],
        "bindings": {"ws": binding},
    }
    for action, content in zip(("receive", "send"), directions, strict=True):
        if content:
            found["operations"][f"{action}-{name}"] = _operation(action, name, content)


def _info(interface: Interface) -> Object:
    """Return the title and version, which AsyncAPI requires, and the purpose."""
    title = interface.title or interface.name or "An application"
    found = {"title": title, "version": interface.version or "unknown"}
    if interface.purpose:
        found["description"] = interface.purpose
    return found


def _by_framing(policy: HandshakePolicy) -> dict[str, list[str]]:
    """Return the subprotocols of each framing, the default framing first."""
    found: dict[str, list[str]] = {}
    for subprotocol, framing in policy.subprotocols.items():
        found.setdefault(framing, []).append(subprotocol.decode())
    return found


def _binding(subprotocols: list[str], *, optional: bool, pty: bool = False) -> Object:
    """Return the WebSocket binding. The default framing needs no subprotocol."""
    field = {"type": "string", "enum": subprotocols}
    if pty:
        field["description"] = _TERMINAL_SIZE
    headers: Object = {"type": "object", "properties": {_HEADER: field}}
    if not optional:
        headers["required"] = [_HEADER]
    return {"method": "GET", "headers": headers, "bindingVersion": "0.1.0"}


def _operation(action: str, name: str, content: Object) -> Object:
    channel = f"#/channels/{name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{message}"} for message in content],
    }


def _server(url: str) -> Object:
    scheme, _, rest = url.partition("://")
    host, slash, below = rest.partition("/")
    found = {"host": host, "protocol": scheme}
    if below.strip("/"):
        found["pathname"] = slash + below.strip("/")
    return found


def _extension(policy: HandshakePolicy, settings: MessageSettings) -> Object:
    """Return the settings for which AsyncAPI has no field."""
    direction = settings.client_direction
    scopes = ["", *_by_framing(policy)]
    if not settings.read_only:  # otherwise no message ends the session
        scopes.append(direction)
    closes = [
        (reason.code, reason.pattern, reason.meaning, reason.retry)
        for reason in CLOSE_REASONS
        if reason.scope in scopes
        and not (reason is LINE_BREAK and settings.multiline == "split")
    ]
    return {
        "direction": direction,
        "default_framing": policy.framings[0],
        "protocol": settings.protocol,
        "protocol_options": dict(settings.preset),
        "session_id_header": settings.session_id_header,
        "max_message": settings.max_message,
        "max_line": settings.max_line,
        "max_output_message": settings.max_output_message,
        "control": settings.control,
        "pty": settings.pty,
        "close": [
            {"code": code, "reason": reason, "meaning": meaning, "retry": retry}
            for code, reason, meaning, retry in sorted(closes)
        ],
    }


def catalog_entry(
    interface: Interface, policy: HandshakePolicy, settings: MessageSettings
) -> Object:
    """Return the entry of an application in the catalog."""
    return {
        "name": interface.name,
        "title": interface.title,
        "purpose": interface.purpose,
        "version": interface.version,
        "path": f"{policy.base}/{interface.name}",
        "manifest": policy.base + path(interface.name),
        "framings": [*_by_framing(policy)],
        "subprotocols": [name.decode() for name in policy.subprotocols],
        "protocol": settings.protocol,
        "direction": settings.client_direction,
        "control": settings.control,
        "pty": settings.pty,
    }
