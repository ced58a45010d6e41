"""The messages of each framing, both ways, as AsyncAPI 3.0 describes them.

Law: what the framings take and give, in JSON Schema draft-07. The schemas of an
application describe lines of its input and output (with lsp, bodies); where a message
carries a piece of a stream, in base64, it names the schema of the lines beside it.
Ignorance: channels, operations and the rest of the document.
"""

from __future__ import annotations

from . import b64
from .framing import LARGEST, SIGNALS
from .schema import moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    from .interface import Interface

    Object = dict[str, Any]

    class Settings(Protocol):
        """What of a configuration decides which messages there are."""

        @property
        def direction(self) -> str: ...

        @property
        def stderr(self) -> str | None: ...

        @property
        def max_message(self) -> int: ...

        @property
        def pty(self) -> bool: ...

        @property
        def control(self) -> bool: ...


JSON, TEXT = "application/json", "text/plain"
SCHEMAS = "#/components/schemas/"
TITLES = {
    "json": "JSON texts in, output in base64",
    "stdio": "Standard input, output and error in base64, signals, exit status",
    "lines": "One message, one line",
    "lsp": "One message, one body of the Language Server Protocol",
}
_PIECE = (
    "Of a stream of bytes: a piece begins and ends anywhere. Decode each, join all."
)
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "application/octet-stream",
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
_ERROR = "The last message was not delivered; decoded, the payload says why, in UTF-8."


class _Side:
    """What an application says of its lines in one direction.

    A schema whose type is string describes the text of a line, any other one the JSON
    in it; but where every message is JSON, it is JSON for both.

    Args:
        name: Of its schema among the components.
        schema: None: lines of any text.
        examples: Of lines.
    """

    __slots__ = ("_examples", "_is_text", "_schema")

    def __init__(self, name: str, schema: object, examples: Iterable[object]) -> None:
        self._schema = None if schema is None else {"$ref": SCHEMAS + name}
        self._is_text = not isinstance(schema, dict) or schema.get("type") == "string"
        self._examples = examples

    def any_json(self, summary: str) -> Object:
        """A message that is a JSON text."""
        return _message(summary, self._schema or {}, self._examples)

    def any_line(self, summary: str, breaks: str) -> Object:
        """A message that is a line; these characters would end it."""
        if not self._is_text:
            return self.any_json(summary)
        line: Object = {"type": "string", "pattern": f"^[^{breaks}]*$"}
        payload = line if self._schema is None else {"allOf": [self._schema, line]}
        lines = [text for text in self._texts() if "\n" not in text]
        return _message(summary, payload, lines) | {"contentType": TEXT}

    def wrapped(self, kind: str, summary: str) -> Object:
        """A message that carries a piece of a stream of lines."""
        pieces = [b64.encode(f"{text}\n".encode()) for text in self._texts()]
        examples = [{"type": kind, "payload": piece.decode()} for piece in pieces]
        payload: Object = _BASE64 | {"description": _PIECE}
        if self._schema is not None:
            content = TEXT if self._is_text else JSON
            line = {"contentType": content, "schema": self._schema}
            payload["x-chimirror-line"] = line
        return _message(summary, _object(kind, payload=payload), examples)

    def _texts(self) -> Iterator[str]:
        for example in self._examples:
            if self._is_text and isinstance(example, str):
                yield example.removesuffix("\n")
            else:
                import json

                yield json.dumps(example)


def of(framing: str, interface: Interface, settings: Settings) -> tuple[Object, Object]:
    """Describe the messages of a framing.

    Returns:
        What a client sends, and what it receives, by name.
    """
    inward = _Side("input", interface.send_schema, interface.send_examples)
    outward = _Side("output", interface.receive_schema, interface.receive_examples)
    if framing == "lines":
        ins = {"line": inward.any_line("A line for standard input.", r"\r\n")}
        outs = {"output": outward.any_line("A line of standard output.", r"\n")}
    elif framing == "lsp":
        ins = {"message": inward.any_json("A body for standard input.")}
        outs = {"output": outward.any_json("A body of standard output.")}
    else:
        ins = _stdin(inward) if framing == "stdio" else _text(inward)
        if framing == "stdio" and settings.pty:
            ins |= _terminal()
        outs = _wrapped(framing, outward, settings)
    if settings.direction == "receive":
        ins = {}
        outs.pop("error", None)
    elif settings.direction == "send":
        for name in ("output", "stdout", "stderr"):
            outs.pop(name, None)
    return ins, outs


def _wrapped(framing: str, side: _Side, settings: Settings) -> Object:
    """What goes out in base64, and what stdio says beside it."""
    found = {"stdout": side.wrapped("stdout", "Standard output, as it comes.")}
    if settings.stderr in (None, "client") and not settings.pty:
        found["stderr"] = _UNTOLD.wrapped("stderr", "Standard error, as it comes.")
    found["error"] = _UNTOLD.wrapped("error", _ERROR)
    if framing == "stdio":
        return {"session": _session(settings), **found, "exit": _EXIT}
    return found


def schemas(interface: Interface) -> Object:
    """The schemas that the messages refer to."""
    named = {"input": interface.send_schema, "output": interface.receive_schema}
    return {
        name: moved(schema, SCHEMAS + name)
        for name, schema in named.items()
        if schema is not None
    }


def _text(side: _Side) -> Object:
    return {"text": side.any_json("A JSON text, which becomes a line.")}


def _stdin(side: _Side) -> Object:
    signal = _object("signal", name={"type": "string", "enum": [*SIGNALS]})
    return {
        "stdin": side.wrapped("stdin", "Bytes for standard input, as they are."),
        "eof": _message("Closes standard input.", _object("eof")),
        "signal": _message("Sends a signal to the process group.", signal),
    }


def _terminal() -> Object:
    size = {"type": "integer", "minimum": 1, "maximum": LARGEST}
    resize = _object("resize", columns=size, rows=size)
    return {"resize": _message("Sets the size of the terminal.", resize)}


def _session(settings: Settings) -> Object:
    members: Object = {"id": {"type": "string"}, "secret": {"type": "string"}}
    if settings.pty:
        members["pty"] = {"type": "boolean", "const": True}
    return _message(_FIRST, _object("session", ("secret",), **members))


def _object(kind: str, optional: tuple[str, ...] = (), **members: Object) -> Object:
    """An object with that type and these members, or more."""
    properties = {"type": {"type": "string", "const": kind}, **members}
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _message(summary: str, payload: Object, examples: Iterable[object] = ()) -> Object:
    found: Object = {"summary": summary, "payload": payload}
    if shown := [{"payload": example} for example in examples]:
        found["examples"] = shown
    return found


_UNTOLD = _Side("", None, ())
_FIRST = (
    "The first message of a session; the id is that of the server's records, and the "
    "secret, where there is one, is for those who may steer it."
)
_EXIT = _message(
    "The last message of a session: how the application ended.",
    {
        **_object("exit"),
        "oneOf": [
            {"required": ["code"], "properties": {"code": {"type": "integer"}}},
            {"required": ["signal"], "properties": {"signal": {"type": "string"}}},
        ],
    },
)
