"""Fuzz targets for JSON texts, JSON-RPC lines and the messages to the zygote."""

from __future__ import annotations

import json

from chimirror.protocol import json_members, json_text, jsonrpc
from chimirror.protocol.jsonrpc import RPCError, RPCRequest
from chimirror.spawn import messages


def fuzz_json_text(data: bytes) -> None:
    """Both parsers accept what RFC 8259 allows, and nothing else."""
    if json_text.fast_parse is None:
        json_text.use_orjson()
    found = outcome(data)
    try:
        scanned: object = json_text.scan(data)
    except ValueError:
        scanned = ValueError
    assert same(found, scanned)
    if data.count(b"[") + data.count(b"{") <= 100:
        assert (found is ValueError) == (standard(data) is ValueError)


def outcome(data: bytes) -> object:
    try:
        return json_text.parse(data)
    except ValueError:
        return ValueError


def standard(data: bytes) -> object:
    """Read with the standard library, and refuse what RFC 8259 does not allow."""

    def refuse(text: str) -> object:
        raise ValueError(text)

    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            return ValueError
        return json.loads(text, parse_constant=refuse, parse_int=number_of)
    except ValueError:
        return ValueError


def number_of(text: str) -> float:
    return int(text) if len(text) <= 19 else float(text)


def same(one: object, other: object) -> bool:
    """Compare values: 1 and 1.0 are different, as are 0 and False."""
    return one is other or repr(one) == repr(other)


def fuzz_json_members(data: bytes) -> None:
    """An object is split into members whose texts have their values."""
    try:
        found = json_members.split(data)
    except ValueError:
        found = None
    json_members.find_id(data)
    for item in found if isinstance(found, list) else [found]:
        assert len(item or {}) <= json_members.MAX_MEMBERS
        for value, text in (item or {}).values():
            assert same(json_text.scan(text.encode("utf-8", "surrogatepass")), value)


def fuzz_jsonrpc(data: bytes) -> None:
    """Each line has at most one response, which is JSON."""
    replies: list[bytes] = []

    def perform(request: RPCRequest) -> None:
        relayed = request.relay(7)
        assert relayed.count(b"\n") == 1 or b"\n" in data
        assert json_text.is_json(relayed)
        if len(request.method) % 3 == 0:
            raise RPCError(jsonrpc.INVALID_PARAMS, "no")
        request.respond({"method": request.method})

    jsonrpc.handle_line(data, perform, replies.append)
    assert len(replies) <= 1
    for reply in replies:
        assert reply.endswith(b"\n")
        value = json.loads(reply)
        answers = value if isinstance(value, list) else [value]
        assert 1 <= len(answers) <= jsonrpc.MAX_BATCH
        assert all(answer["jsonrpc"] == "2.0" for answer in answers)


def fuzz_spawn_messages(data: bytes) -> None:
    """A packet is a message that is written and read again, or a MessageError."""
    try:
        message = messages.decode(data)
    except messages.MessageError as error:
        assert len(str(error)) < len(data) * 10 + 100
        return
    packet = messages.encode(message)
    assert messages.encode(messages.decode(packet)) == packet
