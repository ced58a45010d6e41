"""JSON-RPC 2.0: one line in, one line out (https://www.jsonrpc.org/specification).

Pure: what a method does is its caller's matter. A notification (no `id`) is obeyed and
not answered; a batch is answered as a batch.
"""

from __future__ import annotations

import orjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Params = dict[str, Any] | list[Any]
    Perform = Callable[[str, Params], object]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602


class Fault(Exception):
    """A request that is answered by an error.

    Attributes:
        code: of the specification's section 5.1, or a method's own.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def respond(line: bytes, perform: Perform) -> bytes:
    """The answer to one line, its line break included; empty where none is due.

    Args:
        line: what came, with or without its end.
        perform: does what a method says and returns its result, which JSON has a form
            for; raises Fault.
    """
    try:
        message = orjson.loads(line)
    except ValueError as error:
        return _line(_failed(None, Fault(PARSE_ERROR, f"not JSON: {error}")))
    if not isinstance(message, list):
        answer = _answer(message, perform)
        return b"" if answer is None else _line(answer)
    if not message:
        return _line(_failed(None, Fault(INVALID_REQUEST, "an empty batch")))
    answers = [_answer(one, perform) for one in message]
    due = [one for one in answers if one is not None]
    return _line(due) if due else b""


def _answer(message: object, perform: Perform) -> dict[str, object] | None:
    """The answer to one request; None for a notification."""
    identity = message.get("id") if isinstance(message, dict) else None
    if not isinstance(identity, (str, int, float, type(None))):
        identity = None
    try:
        result = perform(*_read(message))
    except Fault as fault:
        wrong = fault.code == INVALID_REQUEST
        if wrong or (isinstance(message, dict) and "id" in message):
            return _failed(identity, fault)
        return None
    assert isinstance(message, dict)
    if "id" not in message:
        return None
    return {"jsonrpc": "2.0", "id": identity, "result": result}


def _read(message: object) -> tuple[str, Params]:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Fault(INVALID_REQUEST, 'a request is an object with "jsonrpc":"2.0"')
    method, params = message.get("method"), message.get("params", {})
    if not isinstance(method, str):
        raise Fault(INVALID_REQUEST, '"method" is not a string')
    if not isinstance(params, (dict, list)):
        raise Fault(INVALID_REQUEST, '"params" is neither an object nor an array')
    return method, params


def _failed(identity: object, fault: Fault) -> dict[str, object]:
    error = {"code": fault.code, "message": str(fault)}
    return {"jsonrpc": "2.0", "id": identity, "error": error}


def _line(answer: object) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
