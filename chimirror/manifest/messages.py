"""The messages of each framing in both directions, as AsyncAPI 3.0 describes them.

Describes input and output of the framings in JSON Schema draft-07. The schemas of an
application describe lines of its input and output. Those of one that is served with lsp
and not with lines describe bodies. A message with a piece of a stream in base64 also
names the schema of the lines or bodies. Knows no channels, no operations and no other
part of the document.
"""

from __future__ import annotations

from chimirror.framing.json_framing import SIGNALS, encode_base64
from chimirror.framing.lsp_header import BODY
from chimirror.manifest.schema import relocate
from chimirror.protocol import MAX_TERMINAL_SIZE, MAX_WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Protocol

    from chimirror.manifest.interface import Interface

    Object = dict[str, Any]
    _Both = tuple[Object, Object]

    class MessageSettings(Protocol):
        """The settings that decide about the messages."""

        @property
        def client_direction(self) -> str: ...

        @property
        def read_only(self) -> bool: ...

        @property
        def stderr(self) -> str | None: ...

        @property
        def max_message(self) -> int: ...

        @property
        def max_line(self) -> int: ...

        @property
        def max_output_message(self) -> int: ...

        @property
        def multiline(self) -> str: ...

        @property
        def pty(self) -> bool: ...

        @property
        def control(self) -> bool: ...

        @property
        def protocol(self) -> str | None: ...

        @property
        def preset(self) -> Mapping[str, str]: ...

        @property
        def session_id_header(self) -> str | None: ...


JSON, TEXT = "application/json", "text/plain"
SCHEMAS = "#/components/schemas/"
_PIECE = "A piece of a byte stream, cut at any byte. Decode each piece, then join them."
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "application/octet-stream",
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
_ERROR = (
    "The last message was not delivered. The text is the reason. So is the decoded "
    "payload, in UTF-8."
)


class _Direction:
    """Schema and examples of an application's lines in one direction.

    A schema of the type string describes the text of a line, and other schemas describe
    the
    JSON in it. For framings with JSON messages alone, every schema describes JSON.

    Args:
        name: The name of the schema among the components.
        schema: The schema, or None for lines of any text.
        examples: Examples of lines.
        has_bodies: The stream consists of headers and bodies of JSON, and not of lines.
    """

    __slots__ = ("_examples", "_has_bodies", "_is_text", "_schema")

    def __init__(
        self,
        name: str,
        schema: object,
        examples: Iterable[object],
        *,
        has_bodies: bool = False,
    ) -> None:
        self._schema = None if schema is None else {"$ref": SCHEMAS + name}
        is_text = not isinstance(schema, dict) or schema.get("type") == "string"
        self._is_text = is_text and not has_bodies
        self._has_bodies = has_bodies
        self._examples = examples

    def any_json(self, summary: str) -> Object:
        """Return a message that is a JSON text."""
        return _message(summary, self._schema or {}, self._examples)

    def any_line(self, summary: str, breaks: str) -> Object:
        """Return a message that is a line without the characters in `breaks`.

        Without `breaks` it is a text of lines.
        """
        if not self._is_text:
            return self.any_json(summary)
        line: Object = {"type": "string"}
        if breaks:
            line["pattern"] = f"^[^{breaks}]*$"
        payload = line if self._schema is None else {"allOf": [self._schema, line]}
        lines = [text for text in self._texts() if not breaks or "\n" not in text]
        return _message(summary, payload, lines) | {"contentType": TEXT}

    def wrapped(self, kind: str, summary: str) -> Object:
        """Return a message that carries a piece of a stream of lines or bodies."""
        pieces = [encode_base64(self._piece(text.encode())) for text in self._texts()]
        examples = [{"type": kind, "payload": piece.decode()} for piece in pieces]
        payload: Object = _BASE64 | {"description": _PIECE}
        if self._schema is not None:
            content = TEXT if self._is_text else JSON
            part = "x-chimirror-body" if self._has_bodies else "x-chimirror-line"
            payload[part] = {"contentType": content, "schema": self._schema}
        return _message(summary, _object(kind, payload=payload), examples)

    def _piece(self, text: bytes) -> bytes:
        return BODY % (len(text), text) if self._has_bodies else text + b"\n"

    def _texts(self) -> Iterator[str]:
        for example in self._examples:
            if self._is_text and isinstance(example, str):
                yield example.removesuffix("\n")
            else:
                import json

                yield json.dumps(example)


def describe(
    framing: str, interface: Interface, settings: MessageSettings, *, has_bodies: bool
) -> tuple[Object, Object]:
    """Return the messages of a framing by name.

    Args:
        framing: A key of the registry.
        interface: Schemas and examples.
        settings: The settings of the application.
        has_bodies: The application is served with lsp, and not with lines.

    Returns:
        The messages from a client, and those to a client.
    """
    input_ = _Direction(
        "input",
        interface.send_schema,
        interface.send_examples,
        has_bodies=has_bodies,
    )
    output = _Direction(
        "output",
        interface.receive_schema,
        interface.receive_examples,
        has_bodies=has_bodies,
    )
    received, sent = _DESCRIPTIONS[framing](input_, output, settings)
    if settings.client_direction == "receive":
        used = ["resize", "window"]
        if not settings.read_only:
            used += ["eof", "signal"]
        received = {name: received[name] for name in used if name in received}
    elif settings.client_direction == "send":
        for name in ("output", "stdout", "stderr"):
            sent.pop(name, None)
    return received, sent


def _json(input_: _Direction, output: _Direction, settings: MessageSettings) -> _Both:
    text = input_.any_json("A JSON text, which becomes a line.")
    return {"text": text}, _wrapped(output, settings)


def _stdio(input_: _Direction, output: _Direction, settings: MessageSettings) -> _Both:
    received = _stdin(input_) | (_terminal() if settings.pty else {})
    wrapped = _wrapped(output, settings)
    first = {"session": _session(settings), "alive": _ALIVE}
    return received, {**first, **wrapped, "exit": _EXIT}


def _lines(input_: _Direction, output: _Direction, settings: MessageSettings) -> _Both:
    if settings.multiline == "split":
        text = "A line for standard input, or several."
        received = {"line": input_.any_line(text, "")}
    else:
        received = {"line": input_.any_line("A line for standard input.", r"\r\n")}
    return received, {"output": output.any_line("A line of standard output.", r"\n")}


def _lsp(input_: _Direction, output: _Direction, _settings: MessageSettings) -> _Both:
    received = {"message": input_.any_json("A body for standard input.")}
    return received, {"output": output.any_json("A body of standard output.")}


# For each framing in the registry: the messages from a client, and those to a client.
_DESCRIPTIONS = {"json": _json, "stdio": _stdio, "lines": _lines, "lsp": _lsp}


def _wrapped(side: _Direction, settings: MessageSettings) -> Object:
    """Return the messages with output in base64, and the error message."""
    found = {"stdout": side.wrapped("stdout", "A piece of standard output.")}
    if settings.stderr in (None, "client") and not settings.pty:
        found["stderr"] = _UNDESCRIBED.wrapped("stderr", "A piece of standard error.")
    error = _UNDESCRIBED.wrapped("error", _ERROR)
    error["payload"]["properties"]["text"] = {"type": "string"}
    return found | {"error": error}


def schemas(interface: Interface) -> Object:
    """Return the schemas to which the messages refer."""
    named = {"input": interface.send_schema, "output": interface.receive_schema}
    return {
        name: relocate(schema, SCHEMAS + name)
        for name, schema in named.items()
        if schema is not None
    }


def _stdin(side: _Direction) -> Object:
    signal = _object("signal", name={"type": "string", "enum": [*SIGNALS]})
    return {
        "stdin": side.wrapped("stdin", "Bytes for standard input, unchanged."),
        "eof": _message("Closes standard input.", _object("eof")),
        "signal": _message("Sends a signal to the process group.", signal),
    }


def _terminal() -> Object:
    size = {"type": "integer", "minimum": 1, "maximum": MAX_TERMINAL_SIZE}
    resize = _object("resize", columns=size, rows=size)
    count = {"type": "integer", "minimum": 0, "maximum": MAX_WINDOW}
    window = _object("window", bytes=count)
    return {
        "resize": _message("Sets the size of the terminal.", resize),
        "window": _message(_WINDOW, window),
    }


def _session(settings: MessageSettings) -> Object:
    members: Object = {
        "id": {"type": "string"},
        "direction": {"type": "string", "const": settings.client_direction},
        "secret": {"type": "string"},
        "ping_interval": {"type": "number", "minimum": 0},
        "ping_timeout": {"type": "number", "minimum": 0},
    }
    if settings.read_only:
        members["read_only"] = {"type": "boolean", "const": True}
    if settings.pty:
        members["pty"] = members["window"] = {"type": "boolean", "const": True}
    optional = ("secret", "ping_interval", "ping_timeout")
    return _message(_FIRST, _object("session", optional, **members))


def _object(kind: str, optional: tuple[str, ...] = (), **members: Object) -> Object:
    """Return the schema of an object with that type and at least these members."""
    properties = {"type": {"type": "string", "const": kind}, **members}
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _message(summary: str, payload: Object, examples: Iterable[object] = ()) -> Object:
    found: Object = {"summary": summary, "payload": payload}
    if shown := [{"payload": example} for example in examples]:
        found["examples"] = shown
    return found


_WINDOW = (
    "Permits that many bytes of output since the start of the session. Never less than "
    "before."
)
_ALIVE = _message(
    "Sent once in a ping interval to a client that offers chimirror.alive.v1.",
    _object("alive"),
)
_UNDESCRIBED = _Direction("", None, ())
_FIRST = (
    "The first message of a session. The id is that of the server's log. The secret, "
    "if there is one, authorizes control connections."
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
