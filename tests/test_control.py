"""JSON-RPC 2.0 by the examples of its specification, and what no peer may do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.wire.control import INVALID_PARAMS, METHOD_NOT_FOUND, Call, Fault, serve

done: list[str] = []
kept: list[Call] = []
NAMED = """{"jsonrpc": "2.0", "method": "subtract",
    "params": {"subtrahend": 23, "minuend": 42}, "id": 1}"""


def perform(call: Call) -> None:
    done.append(call.method)
    params = call.params
    if call.method == "subtract" and isinstance(params, list):
        call.answer(params[0] - params[1])
    elif call.method == "subtract":
        call.answer(call.named["minuend"] - call.named["subtrahend"])
    elif call.method == "picky":
        raise Fault(INVALID_PARAMS, "not so")
    elif call.method == "named":
        call.answer(sorted(call.named))
    elif call.method == "update":
        call.answer(None)
    elif call.method == "later":
        kept.append(call)
    else:
        raise Fault(METHOD_NOT_FOUND, f"no method {call.method}")


def respond(line: bytes) -> bytes:
    """All that is answered at once."""
    answers: list[bytes] = []
    serve(line, perform, answers.append)
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
        ("[]", (-32600, None)),
        ("17", (-32600, None)),
        ("", (-32700, None)),
        ("\u00ff", (-32700, None)),
    ],
)
def test_errors(request_: str, error: tuple[int, object]) -> None:
    assert code(request_) == error


def test_a_notification_is_obeyed_and_not_answered() -> None:
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
