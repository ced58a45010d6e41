"""JSON-RPC 2.0 messages, one or a batch in each line.

Each request is answered exactly once, now or later. A notification (without `id`) is
performed and not answered. A batch is answered as one batch, with its last response.
Ids, and the content of relayed messages, are passed on as the text that has arrived.
Knows no methods, no sockets and no clock. Follows
https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import orjson

from chimirror.protocol import json_members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from chimirror.protocol.json_members import Members, Message

    Params = dict[str, Any] | list[Any]
    Object = dict[str, Any]
    Responder = Callable[[bytes | None], None]  # None: no response is due

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# Codes of this server, in the range that the specification leaves to servers.
BUSY = -32000
NOT_AUTHORIZED = -32001
# The message of NOT_AUTHORIZED. It does not tell whether the session exists.
WRONG_SESSION = "no such session, or not its secret"

MAX_LINE = 1 << 18  # bytes of a line
# Requests: bounds the response to a batch and the time that it takes.
MAX_BATCH = json_members.MAX_ITEMS
_MAX_SEARCHED = 4096  # bytes of a refused line in which its id is searched
_MAX_SHOWN = 64  # characters of a text of the peer in an error


class RPCError(Exception):
    """A request that is answered by an error.

    Attributes:
        code: An error code of the specification, section 5.1, or of a method.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class RPCRequest:
    """One request, to be answered exactly once.

    Attributes:
        method, params: The members of the request, decoded: numbers are not exact.
        expects_response: False for a notification.
    """

    __slots__ = ("_members", "_respond", "expects_response", "method", "params")

    def __init__(
        self, method: str, params: Params, members: Members, respond: Responder
    ) -> None:
        self.method = method
        self.params = params
        self._members = members
        self._respond = respond
        self.expects_response = "id" in members

    @property
    def params_by_name(self) -> Object:
        """The params by name.

        Raises:
            RPCError: The params are an array.
        """
        if not isinstance(self.params, dict):
            raise RPCError(INVALID_PARAMS, "params go by name")
        return self.params

    def respond(self, result: object) -> None:
        """Answer with a JSON value."""
        self._respond_with(_member("result", encode(result).decode()))

    def respond_error(self, error: RPCError) -> None:
        """Answer with an error."""
        self._respond_with(_error_member(error))

    def forward_response(self, response: Members) -> None:
        """Answer with the result or the error of another peer's valid response."""
        name = "result" if "result" in response else "error"
        self._respond_with(_member(name, response[name][1]))

    def _respond_with(self, outcome: str) -> None:
        if not self.expects_response:
            self._respond(None)
            return
        self._respond(_response(self._members["id"][1], outcome))

    def relay(self, request_id: int | None = None) -> bytes:
        """Return the line of this request for another peer.

        Args:
            request_id: The id there. None for a notification.
        """
        method = self._members["method"][1]
        params = self._members["params"][1] if "params" in self._members else "{}"
        members = [_VERSION, _member("method", method), _member("params", params)]
        if request_id is not None:
            members.insert(1, _member("id", str(request_id)))
        return _object(members) + b"\n"


class UnknownMethod(RPCError):
    """No peer has the method."""

    def __init__(self, method: str) -> None:
        super().__init__(METHOD_NOT_FOUND, f"no method {method[:_MAX_SHOWN]!r}")


_VERSION = '"jsonrpc":"2.0"'


def _member(name: str, text: str) -> str:
    return f'"{name}":{text}'


def _object(members: list[str]) -> bytes:
    return f"{{{','.join(members)}}}".encode()


def _response(request_id: str, outcome: str) -> bytes:
    return _object([_VERSION, _member("id", request_id), outcome])


def _error_member(error: RPCError) -> str:
    found = {"code": error.code, "message": str(error)}
    return _member("error", encode(found).decode())


def split(line: bytes) -> Message:
    """Split a message into its members, or those of each request of a batch.

    Raises:
        RPCError: The line is not JSON, or exceeds a bound.
    """
    try:
        return json_members.split(line)
    except json_members.TooManyValues as error:
        raise RPCError(INVALID_REQUEST, f"too large: {error}") from None
    except ValueError as error:
        raise RPCError(PARSE_ERROR, f"not JSON: {error}") from None


def handle_line(
    line: bytes, perform: Callable[[RPCRequest], None], reply: Callable[[bytes], None]
) -> None:
    """Perform the requests in a line.

    Args:
        line: The line, with or without its line break.
        perform: Called for each request. Answers it, keeps it for later, or raises
            RPCError.
        reply: Called with each response, its line break included.
    """
    try:
        handle_message(split(line), perform, reply)
    except RPCError as error:
        reply(failure(error, line))


def handle_message(
    message: Message,
    perform: Callable[[RPCRequest], None],
    reply: Callable[[bytes], None],
) -> None:
    """Perform the requests in a message.

    Args:
        message: A request or a batch.
        perform, reply: As in `handle_line`.

    Raises:
        RPCError: The batch is empty.
    """
    if not isinstance(message, list):
        _perform(message, perform, lambda one: reply(one + b"\n") if one else None)
        return
    if not message:
        raise RPCError(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests")
    batch = _Batch(len(message), reply)
    for one in message:
        _perform(one, perform, batch.add)


class _Batch:
    """The responses to a batch, until the last one is known."""

    __slots__ = ("_responses", "_missing", "_reply")

    def __init__(self, size: int, reply: Callable[[bytes], None]) -> None:
        self._missing = size
        self._reply = reply
        self._responses: list[bytes] = []

    def add(self, response: bytes | None) -> None:
        """Called with each response, or with None for a notification."""
        self._missing -= 1
        if response is not None:
            self._responses.append(response)
        if not self._missing and self._responses:
            self._reply(b"[%b]\n" % b",".join(self._responses))


def _perform(
    message: Members | None, perform: Callable[[RPCRequest], None], respond: Responder
) -> None:
    try:
        request = _read(message, respond)
    except RPCError as error:
        respond(_response(_id_text(message), _error_member(error)))
        return
    try:
        perform(request)
    except RPCError as error:
        request.respond_error(error)


def _id_text(message: Members | None) -> str:
    value, text = (message or {}).get("id", _NULL)
    return text if json_members.is_id(value) else _NULL[1]


_NULL = None, "null"


def _read(message: Members | None, respond: Responder) -> RPCRequest:
    if message is None or message.get("jsonrpc", _NULL)[0] != "2.0":
        raise RPCError(INVALID_REQUEST, 'a request is an object with "jsonrpc":"2.0"')
    method, params = message.get("method", _NULL)[0], message.get("params", ({},))[0]
    if not isinstance(method, str):
        raise RPCError(INVALID_REQUEST, '"method" is not a string')
    if not isinstance(params, (dict, list)):
        raise RPCError(INVALID_REQUEST, '"params" is neither an object nor an array')
    if not json_members.is_id(message.get("id", _NULL)[0]):
        raise RPCError(INVALID_REQUEST, '"id" is no string, no number and not null')
    return RPCRequest(method, params, message, respond)


def read_error(response: Members) -> RPCError | None:
    """Return the error of a response, None if it has no valid one."""
    error = response.get("error", _NULL)[0]
    if not isinstance(error, dict):
        return None
    code, message = error.get("code"), error.get("message")
    if type(code) is not int or not isinstance(message, str):
        return None
    return RPCError(code, message)


def notification(method: str, params: Params) -> bytes:
    """Return the line of a notification."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params}) + b"\n"


def failure(error: RPCError, line: bytes = b"") -> bytes:
    """Return the line that answers a refused line, with its id if one is found."""
    found = json_members.find_id(line[:_MAX_SEARCHED])
    return _response(found or _NULL[1], _error_member(error)) + b"\n"


def encode(value: object) -> bytes:
    """Return a value of this server as JSON text.

    orjson refuses integers of more than 64 bits, which application files may have, and
    lone surrogates, which stand for undecodable bytes of a command line.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        import json

        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
