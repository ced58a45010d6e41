"""Trace fields: the examples of W3C pass, and nothing else becomes a variable."""

from __future__ import annotations

import pytest

from chimirror.protocol import trace_context
from chimirror.protocol.http import HTTPRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


def variables(*fields: tuple[str, str]) -> dict[str, str]:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    return trace_context.variables(HTTPRequest("GET", "/", encoded))


def test_a_trace_becomes_variables() -> None:
    found = variables(
        ("traceparent", GOOD),
        ("tracestate", "rojo=00f067aa0ba902b7"),
        ("tracestate", "congo=t61rcWkgMzE"),
        ("baggage", "userId=alice,serverNode=DF%2028;ttl=1;hop,isProduction=false"),
    )
    assert found == {
        "TRACEPARENT": GOOD,
        "TRACESTATE": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        "BAGGAGE": "userId=alice,serverNode=DF%2028;ttl=1;hop,isProduction=false",
    }


@pytest.mark.parametrize(
    "value",
    [
        f"cc-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
    ],
)
def test_these_are_parents(value: str) -> None:
    assert variables(("traceparent", value)) == {"TRACEPARENT": value}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"cc-{TRACE}-{PARENT}-01-\x7f",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00_{TRACE}_{PARENT}_01",
        f"0x-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0é",
    ],
)
def test_these_are_none_and_their_state_counts_not(value: str) -> None:
    assert variables(("traceparent", value), ("tracestate", "a=b")) == {}


def test_several_parents_are_none() -> None:
    assert variables(("traceparent", GOOD), ("traceparent", GOOD)) == {}


@pytest.mark.parametrize(
    "state",
    [
        "a=b",
        "a=b,,c=d ,\te=f",
        "fw529a3039@dt=FfAAAA",
        "0tenant@system=x",
        "a_-*/0=x y!",
        ",".join(f"k{number}=v" for number in range(32)),
        f"{'k' * 256}={'v' * 256}",
    ],
)
def test_these_are_states(state: str) -> None:
    found = variables(("traceparent", GOOD), ("tracestate", state))
    assert found["TRACESTATE"] == state


@pytest.mark.parametrize(
    "state",
    [
        ",",
        "a",
        "a=",
        "=b",
        "A=b",
        "0a=b",
        "a=b,a=c",
        "a=b=c",
        "a@=b",
        "@a=b",
        "a@0=b",
        "a@b@c=d",
        f"{'k' * 257}=v",
        f"k={'v' * 257}",
        f"{'k' * 242}@a=b",
        f"k@{'a' * 15}=b",
        "a=é",
        ",".join(f"k{number}=v" for number in range(33)),
    ],
)
def test_these_are_no_states(state: str) -> None:
    found = variables(("traceparent", GOOD), ("tracestate", state))
    assert found == {"TRACEPARENT": GOOD}


@pytest.mark.parametrize(
    "baggage",
    [
        "a=b",
        "a=",
        "a = b ; c = d ;e",
        "a=b=c",
        ",".join(f"k{number}=v" for number in range(64)),
        f"a={'b' * 8190}",
    ],
)
def test_these_are_baggage(baggage: str) -> None:
    assert variables(("baggage", baggage)) == {"BAGGAGE": baggage}


@pytest.mark.parametrize(
    "baggage",
    [
        "a",
        "=b",
        "a=b,",
        "a b=c",
        'a="b"',
        "a=b c",
        "a=b\\c",
        "a=é",
        "a=b;",
        "a=b;=c",
        ",".join(f"k{number}=v" for number in range(65)),
        f"a={'b' * 8191}",
    ],
)
def test_these_are_no_baggage(baggage: str) -> None:
    assert variables(("baggage", baggage)) == {}
