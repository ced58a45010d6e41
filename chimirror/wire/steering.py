"""The control part of an application, as AsyncAPI 3.0 describes it.

Law: JSON-RPC 2.0 over a WebSocket of its own, as in chimirror-protocol(7); one message
for each method, and a few for what comes back. Batches of them are not described.
Ignorance: what the methods do, and the rest of the document.
"""

from __future__ import annotations

from .framing import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

CHANNEL = "control"
SUBPROTOCOL = "chimirror.control.v1"
TITLE = "Steers a session that is open, from beside it"
SCHEMA = "status"  # among the components

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_STREAMS = {
    "type": "array",
    "items": {"type": "string", "enum": ["stdin", "stdout", "stderr"]},
}
STATUS: Object = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "application": _TEXT,
        "framing": _TEXT,
        "state": {"type": "string", "enum": ["open", "closing"]},
        **dict.fromkeys(
            ("bytes_in", "bytes_out", "messages_in", "messages_out"), _COUNT
        ),
        "age": {"type": "number", "minimum": 0},
        "backlog_in": _COUNT,
        "backlog_out": _COUNT,
        "paused": _STREAMS,
    },
}
_ID = {"type": ["string", "number", "null"]}
_SECRETS = {"session": _TEXT, "secret": _TEXT}
_STEER = {"streams": _STREAMS}
_NAME = {"name": {"type": "string", "enum": [*SIGNALS]}}
_INTERVAL = {"interval": {"type": "number", "minimum": 0.1, "maximum": 3600}}
# Name, what it does, its params, and whether it needs them.
_METHODS: tuple[tuple[str, str, Object, bool], ...] = (
    (
        "authorize",
        "Says which session: with what its first message told.",
        _SECRETS,
        True,
    ),
    ("manifest", "Returns this document.", {}, False),
    ("status", "Returns how the session is.", {}, False),
    ("pause", "Lets nothing pass on these streams, or on all.", _STEER, False),
    ("resume", "Lets it pass again.", _STEER, False),
    ("signal", "Sends a signal to the process group.", _NAME, True),
    ("close", "Closes the session.", {}, False),
    ("subscribe", "Returns the status, and tells it as it changes.", _INTERVAL, False),
    ("unsubscribe", "Tells it no more.", {}, False),
)


_NAMES = [name for name, *_ in _METHODS]


def requests(*, passed_on: bool) -> Object:
    """What a client sends, by name.

    Args:
        passed_on: The application has methods of its own, and notifications.
    """
    found: Object = {
        name: {"summary": summary, "payload": _request(name, params, needed=needed)}
        for name, summary, params, needed in _METHODS
    }
    if passed_on:
        payload = _rpc(method={"type": "string", "not": {"enum": _NAMES}})
        payload["properties"]["id"] = _ID
        summary = "Whatever else: it is passed on to the application."
        found["another"] = {"summary": summary, "payload": payload}
    return found


def replies(*, passed_on: bool) -> Object:
    """What comes back; the argument is that of `requests`."""
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"type": "integer"}, "message": _TEXT},
    }
    status = {"$ref": f"#/components/schemas/{SCHEMA}"}
    told = _rpc(method={"type": "string", "const": "status"}, params=status)
    found: Object = {
        "result": {
            "summary": "Answers a request.",
            "payload": _rpc(id={}, result={} if passed_on else {"type": "object"}),
        },
        "fault": {
            "summary": "Answers a request that cannot be obeyed.",
            "payload": _rpc(id={}, error=error),
        },
        "changed": {"summary": "The status, after subscribe.", "payload": told},
    }
    if passed_on:
        payload = _rpc(method={"type": "string", "not": {"enum": _NAMES}})
        summary = "What the application says without being asked."
        found["told"] = {"summary": summary, "payload": payload}
    return found


def _request(method: str, params: Object, *, needed: bool) -> Object:
    found = _rpc(method={"type": "string", "const": method})
    found["properties"]["id"] = _ID
    if params:
        found["properties"]["params"] = {"type": "object", "properties": params}
    if needed:
        found["properties"]["params"]["required"] = [*params]
        found["required"].append("params")
    return found


def _rpc(**members: Object) -> Object:
    """An object of JSON-RPC with these members."""
    properties = {"jsonrpc": {"type": "string", "const": "2.0"}, **members}
    return {"type": "object", "required": [*properties], "properties": properties}
