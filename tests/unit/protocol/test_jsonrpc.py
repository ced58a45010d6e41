"""JSON-RPC 2.0: the examples of its specification, and errors of peers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.protocol.json_members import MAX_MEMBERS
from chimirror.protocol.jsonrpc import (
    INVALID_PARAMS,
    MAX_BATCH,
    METHOD_NOT_FOUND,
    RPCError,
    RPCRequest,
    encode,
    handle_line,
)
from json_texts import ODD_VALUES, REFUSED_VALUES, shorten

done: list[str] = []
kept: list[RPCRequest] = []
NAMED = """{"jsonrpc": "2.0", "method": "subtract",
    "params": {"subtrahend": 23, "minuend": 42}, "id": 1}"""


def perform(call: RPCRequest) -> None:
    done.append(call.method)
    params = call.params
    if call.method == "subtract" and isinstance(params, list):
        call.respond(params[0] - params[1])
    elif call.method == "subtract":
        call.respond(call.params_by_name["minuend"] - call.params_by_name["subtrahend"])
    elif call.method == "picky":
        raise RPCError(INVALID_PARAMS, "not so")
    elif call.method == "named":
        call.respond(sorted(call.params_by_name))
    elif call.method == "update":
        call.respond(None)
    elif call.method == "later":
        kept.append(call)
    else:
        raise RPCError(METHOD_NOT_FOUND, f"no method {call.method}")


def respond(line: bytes) -> bytes:
    """Return all immediate responses."""
    answers: list[bytes] = []
    handle_line(line, perform, answers.append)
    return b"".join(answers)


def ask(text: str) -> Any:
    answer = respond(text.encode())
    assert answer.count(b"\n") == bool(answer)
    return json.loads(answer) if answer else None


def code(text: str) -> tuple[int, object]:
    answer = ask(text)
    assert answer["jsonrpc"] == "2.0"
    assert "result" not in answer
    return answer["error"]["code"], answer["id"]


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        ('{"jsonrpc":"2.0","method":"subtract","params":[42,23],"id":1}', 19),
        (NAMED, 19),
        ('{"jsonrpc":"2.0","method":"update","id":1}\n', None),
    ],
)
def test_calls(request_: str, result: object) -> None:
    assert ask(request_) == {"jsonrpc": "2.0", "id": 1, "result": result}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ('{"jsonrpc":"2.0","method":"foobar","id":"1"}', (-32601, "1")),
        ('{"jsonrpc":"2.0","method":"picky","id":null}', (-32602, None)),
        ('{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]', (-32700, None)),
        ('{"jsonrpc":"2.0","method":1,"params":"bar"}', (-32600, None)),
        ('{"jsonrpc":"2.0","method":"update","params":"bar","id":3}', (-32600, 3)),
        ('{"jsonrpc":"1.0","method":"update","id":4}', (-32600, 4)),
        ('{"jsonrpc":"2.0","method":7,"id":{}}', (-32600, None)),
        ('{"jsonrpc":"2.0","method":"update","id":[1]}', (-32600, None)),
        ('{"jsonrpc":"2.0","method":"update","id":true}', (-32600, None)),
        ("[]", (-32600, None)),
        ("17", (-32600, None)),
        ("", (-32700, None)),
        ("\u00ff", (-32700, None)),
    ],
)
def test_errors(request_: str, error: tuple[int, object]) -> None:
    assert code(request_) == error


def test_a_notification_is_performed_and_not_answered() -> None:
    done.clear()
    assert ask('{"jsonrpc":"2.0","method":"update","params":[1]}') is None
    assert ask('{"jsonrpc":"2.0","method":"foobar"}') is None
    assert done == ["update", "foobar"]


def test_a_batch_is_answered_as_one() -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "subtract", "params": [3, 1], "id": "1"},
        {"jsonrpc": "2.0", "method": "update"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "id": "5"},
    ]
    answers = ask(json.dumps(batch))
    assert [answer["id"] for answer in answers] == ["1", None, "5"]
    assert ask('[{"jsonrpc":"2.0","method":"update"}]') is None
    assert [one["error"]["code"] for one in ask("[1,2]")] == [-32600, -32600]


IDS = (*ODD_VALUES[2:7], b'"\\"}"', b"1.50", b"-0", b'"\\u00e9 \xc3\xa9"')


@pytest.mark.parametrize("request_id", IDS, ids=shorten)
def test_ids_return_as_they_came(request_id: bytes) -> None:
    call = b'{"id": %b ,"jsonrpc":"2.0","method":"%b"}'
    line = b'{"jsonrpc":"2.0","id":%b,"result":null}'
    assert respond(call % (request_id, b"update")) == line % request_id + b"\n"
    batch = b"[%b]" % (call % (request_id, b"update"))
    assert respond(batch) == b"[%b]\n" % (line % request_id)
    assert b',"id":%b,"error":' % request_id in respond(call % (request_id, b"none"))


@pytest.mark.parametrize("params", [b"[%b]" % one for one in ODD_VALUES], ids=shorten)
def test_params_are_relayed_as_they_came(params: bytes) -> None:
    kept.clear()
    call = b'{"jsonrpc":"2.0","id":1,"method":"later","params": %b }' % params
    assert respond(call) == b""
    line = b'{"jsonrpc":"2.0",%b"method":"later","params":%b}\n'
    assert kept[0].relay(77) == line % (b'"id":77,', params)
    assert kept[0].relay() == line % (b"", params)


@pytest.mark.parametrize("value", REFUSED_VALUES, ids=shorten)
@pytest.mark.parametrize("request_id", [b"3", b'"a,}"'])
def test_a_refused_line_is_answered_with_its_id(
    value: bytes, request_id: bytes
) -> None:
    for line in (b'{"id" : %b , "x":%b}', b'{"x":[{"id":2}],"id":%b,"y":%b}'):
        answer = respond(line % (request_id, value))
        start = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32700,'
        assert answer.startswith(start % request_id)


@pytest.mark.parametrize(
    "line",
    [
        b'{"x":',
        b'{"id":',
        b'{"id":"',
        b'{"id":[1]}}',
        b'["id":1',
        b'{"id" 1}',
        b'{"id":x}',
    ],
)
def test_a_refused_line_without_an_id(line: bytes) -> None:
    assert respond(line).startswith(b'{"jsonrpc":"2.0","id":null,"error"')


def test_large_objects_and_batches_are_refused() -> None:
    members = ",".join(f'"{n}":{n}' for n in range(MAX_MEMBERS))
    assert code(f'{{"id":5,{members}}}') == (-32600, 5)
    one = '{"jsonrpc":"2.0","method":"update","id":1}'
    assert len(ask(f"[{','.join([one] * MAX_BATCH)}]")) == MAX_BATCH
    assert code(f"[{','.join([one] * (MAX_BATCH + 1))}]") == (-32600, None)


@given(st.binary(max_size=200))
def test_garbage_gets_an_answer(line: bytes) -> None:
    answer = respond(line)
    assert answer.endswith(b"\n")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["jsonrpc", "method", "params", "id", "x"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_answered_by_json_or_not_at_all(message: object) -> None:
    answer = ask(json.dumps(message))
    for one in answer if isinstance(answer, list) else [answer]:
        assert one is None or ("result" in one) != ("error" in one)


def test_values_that_orjson_does_not_write() -> None:
    """Command lines may have undecodable bytes, application files large integers."""
    found = {"command": "cat \udcff", "maximum": 2**64, "large": 10**308}
    assert json.loads(encode(found)) == found
