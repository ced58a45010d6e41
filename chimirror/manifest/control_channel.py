"""The control channel of an application, as AsyncAPI 3.0 describes it.

Describes JSON-RPC 2.0 on a control connection, as in chimirror-protocol(7): one message
for each method, and the responses. Does not describe batches. Knows nothing of the
implementation of the methods, nor of the rest of the document.
"""

from __future__ import annotations

from chimirror.framing.json_framing import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]

CHANNEL = "control"
SUBPROTOCOL = "chimirror.control.v1"
TITLE = "Controls an open session over a second connection"
SCHEMA = "status"  # name of a schema among the components

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
_STREAM_NAMES = {"streams": _STREAMS}
_NAME = {"name": {"type": "string", "enum": [*SIGNALS]}}
_INTERVAL = {"interval": {"type": "number", "minimum": 0.1, "maximum": 3600}}
# Name, summary, params, and whether the params are required.
_METHODS: tuple[tuple[str, str, Object, bool], ...] = (
    (
        "authorize",
        "Names the session, with id and secret from its first message.",
        _SECRETS,
        True,
    ),
    ("manifest", "Returns this document.", {}, False),
    ("status", "Returns the status of the session.", {}, False),
    ("pause", "Pauses these streams, or all.", _STREAM_NAMES, False),
    ("resume", "Resumes these streams, or all.", _STREAM_NAMES, False),
    ("signal", "Sends a signal to the process group.", _NAME, True),
    ("close", "Closes the session.", {}, False),
    (
        "subscribe",
        "Returns the status, and sends it when it changes.",
        _INTERVAL,
        False,
    ),
    ("unsubscribe", "Ends the subscription.", {}, False),
)


_NAMES = [name for name, *_ in _METHODS]


def requests(*, passed_on: bool) -> Object:
    """Return the messages from a client, by name.

    Args:
        passed_on: The application has methods and notifications of its own.
    """
    found: Object = {
        name: {"summary": summary, "payload": _request(name, params, needed=needed)}
        for name, summary, params, needed in _METHODS
    }
    if passed_on:
        payload = _rpc(method={"type": "string", "not": {"enum": _NAMES}})
        payload["properties"]["id"] = _ID
        summary = "Any other method. It is forwarded to the application."
        found["another"] = {"summary": summary, "payload": payload}
    return found


def replies(*, passed_on: bool) -> Object:
    """Return the messages to a client, by name.

    Args:
        passed_on: The application has methods and notifications of its own.
    """
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"type": "integer"}, "message": _TEXT},
    }
    status = {"$ref": f"#/components/schemas/{SCHEMA}"}
    status_message = _rpc(method={"type": "string", "const": "status"}, params=status)
    found: Object = {
        "result": {
            "summary": "Answers a request.",
            "payload": _rpc(id={}, result={} if passed_on else {"type": "object"}),
        },
        "fault": {
            "summary": "Answers a request with an error.",
            "payload": _rpc(id={}, error=error),
        },
        "changed": {
            "summary": "The changed status, after subscribe.",
            "payload": status_message,
        },
    }
    if passed_on:
        payload = _rpc(method={"type": "string", "not": {"enum": _NAMES}})
        summary = "A notification from the application."
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
    """Return the schema of a JSON-RPC object with these members."""
    properties = {"jsonrpc": {"type": "string", "const": "2.0"}, **members}
    return {"type": "object", "required": [*properties], "properties": properties}
