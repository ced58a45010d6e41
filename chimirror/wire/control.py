"""JSON-RPC 2.0: requests and answers, one of them, or a batch, in each line.

Pure: what a method does is its caller's matter, and when: a call is answered once, at
once or later (https://www.jsonrpc.org/specification). A notification (no `id`) is
obeyed and not answered; a batch is answered as a batch, when its last answer is there.
"""

from __future__ import annotations

import orjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Params = dict[str, Any] | list[Any]
    Object = dict[str, Any]
    Tell = Callable[[Object | None], None]  # None: no answer is due

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
# Our own, of the range that is left to servers.
BUSY = -32000
NOT_AUTHORIZED = -32001

LONGEST = 1 << 18  # bytes of a line
BATCH = 100  # requests of one: a bound for its answer, and for the time it takes


class Fault(Exception):
    """A request that is answered by an error.

    Attributes:
        code: of the specification's section 5.1, or a method's own.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Call:
    """One request, to be answered once.

    Attributes:
        method, params: what is asked for.
        awaited: whether there is an answer to come; False for a notification.
    """

    __slots__ = ("_identity", "_tell", "awaited", "method", "params")

    def __init__(
        self,
        method: str,
        params: Params,
        identity: object,
        tell: Tell,
        *,
        awaited: bool,
    ) -> None:
        self.method = method
        self.params = params
        self._identity = identity
        self._tell = tell
        self.awaited = awaited

    @property
    def named(self) -> Object:
        """The params, which go by name.

        Raises:
            Fault: they do not.
        """
        if not isinstance(self.params, dict):
            raise Fault(INVALID_PARAMS, "params go by name")
        return self.params

    def answer(self, result: object) -> None:
        """Answer with what JSON has a form for."""
        self.pass_on({"result": result})

    def fail(self, fault: Fault) -> None:
        """Answer with an error."""
        self.pass_on({"error": _error(fault)})

    def pass_on(self, outcome: Object) -> None:
        """Answer with what somebody else has answered: its `result` or `error`."""
        if not self.awaited:
            self._tell(None)
            return
        self._tell({"jsonrpc": "2.0", "id": self._identity, **outcome})


def parse(line: bytes) -> object:
    """What a line says.

    Raises:
        Fault: it is not JSON.
    """
    try:
        return orjson.loads(line)
    except ValueError as error:
        raise Fault(PARSE_ERROR, f"not JSON: {error}") from None


def serve(
    line: bytes, perform: Callable[[Call], None], reply: Callable[[bytes], None]
) -> None:
    """Have what a line asks for performed.

    Args:
        line: what came, with or without its end.
        perform: does what a call says and answers it, or keeps it, or raises Fault.
        reply: given each answer that is due, its line break included.
    """
    try:
        take(parse(line), perform, reply)
    except Fault as fault:
        reply(failure(fault))


def take(
    message: object, perform: Callable[[Call], None], reply: Callable[[bytes], None]
) -> None:
    """Do the same with what has been parsed.

    Raises:
        Fault: a batch that cannot be one.
    """
    if not isinstance(message, list):
        _perform(message, perform, lambda one: reply(encode(one)) if one else None)
        return
    if not 0 < len(message) <= BATCH:
        raise Fault(INVALID_REQUEST, f"a batch has 1 to {BATCH} requests")
    batch = _Batch(len(message), reply)
    for one in message:
        _perform(one, perform, batch.tell)


class _Batch:
    """The answers to a batch, until all are there."""

    __slots__ = ("_answers", "_missing", "_reply")

    def __init__(self, size: int, reply: Callable[[bytes], None]) -> None:
        self._missing = size
        self._reply = reply
        self._answers: list[Object] = []

    def tell(self, answer: Object | None) -> None:
        """One of them is there, or not due."""
        self._missing -= 1
        if answer is not None:
            self._answers.append(answer)
        if not self._missing and self._answers:
            self._reply(encode(self._answers))


def _perform(message: object, perform: Callable[[Call], None], tell: Tell) -> None:
    try:
        call = _read(message, tell)
    except Fault as fault:
        tell(_failed(_identity(message), fault))
        return
    try:
        perform(call)
    except Fault as fault:
        call.fail(fault)


def _identity(message: object) -> object:
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, (str, int, float)) else None


def _read(message: object, tell: Tell) -> Call:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Fault(INVALID_REQUEST, 'a request is an object with "jsonrpc":"2.0"')
    method, params = message.get("method"), message.get("params", {})
    if not isinstance(method, str):
        raise Fault(INVALID_REQUEST, '"method" is not a string')
    if not isinstance(params, (dict, list)):
        raise Fault(INVALID_REQUEST, '"params" is neither an object nor an array')
    return Call(method, params, _identity(message), tell, awaited="id" in message)


def notification(method: str, params: Params) -> bytes:
    """The line that tells something to whoever did not ask."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def failure(fault: Fault) -> bytes:
    """The line that answers a request whose id nobody knows."""
    return encode(_failed(None, fault))


def encode(message: object) -> bytes:
    """A line."""
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def _failed(identity: object, fault: Fault) -> Object:
    return {"jsonrpc": "2.0", "id": identity, "error": _error(fault)}


def _error(fault: Fault) -> Object:
    return {"code": fault.code, "message": str(fault)}
