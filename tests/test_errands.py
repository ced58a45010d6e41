"""Errands survive their packets, and nothing else passes for one."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.system import errands
from chimirror.system.errands import Errand, Nonsense

STATUSES = st.none() | st.integers(-64, 255)
NUMBERS = st.integers(0, (1 << 53) - 1)
TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("start", "started", "failed"), NUMBERS),
    **dict.fromkeys(("pid", "zygote", "link"), NUMBERS),
    **dict.fromkeys(("stderr", "shortage", "pty", "control"), st.booleans()),
    **dict.fromkeys(("more", "ready", "stop"), st.booleans()),
    **dict.fromkeys(("directory", "session", "reason", "refused"), TEXTS),
    "signal": st.integers(1, 64),
    "environment": st.dictionaries(TEXTS, TEXTS),
    "exited": st.lists(st.tuples(NUMBERS, STATUSES, st.booleans()).map(list)),
    "adopt": st.dictionaries(TEXTS, NUMBERS),
    "over": st.dictionaries(TEXTS, NUMBERS),
    **dict.fromkeys(("command", "finish"), st.lists(TEXTS)),
    "ended": st.dictionaries(TEXTS, NUMBERS),
}


def errand_of(kind: type[Errand]) -> st.SearchStrategy[Errand]:
    return st.builds(kind, **{name: FIELDS[name] for name in kind._fields})


ERRANDS = st.one_of([errand_of(kind) for kind in get_args(Errand)])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ERRANDS)
def test_what_is_encoded_is_decoded(errand: Errand) -> None:
    assert errands.decode(errands.encode(errand)) == errand


@given(ERRANDS)
def test_unknown_members_are_ignored(errand: Errand) -> None:
    members = json.loads(errands.encode(errand))
    assert errands.decode(json.dumps({**members, "new": [1]}).encode()) == errand


@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_garbage_is_nonsense_at_most(packet: bytes) -> None:
    try:
        errands.decode(packet)
    except Nonsense:
        pass


@given(ERRANDS, st.data())
def test_a_member_of_another_type_is_nonsense(
    errand: Errand, data: st.DataObject
) -> None:
    members = json.loads(errands.encode(errand))
    name = data.draw(st.sampled_from(sorted(members)))
    wrong = data.draw(st.sampled_from([1.5, [1], {"a": [2]}, [{}], -200]))
    with pytest.raises(Nonsense, match=name):
        errands.decode(json.dumps({**members, name: wrong}).encode())


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no JSON object"),
        (b'{"dance":1}', "'dance' is no errand"),
        (b'{"pid":1,"signal":9}', "'pid' is no errand"),  # the first member tells
        (b'{"signal":9}', "pid is missing"),
        (b'{"signal":0,"pid":1}', "signal is wrong"),
        (b'{"signal":65,"pid":1}', "signal is wrong"),
        (b'{"start":true}', "start is wrong"),
        (b'{"start":-1}', "start is wrong"),
        (b'{"start":1,"environment":{"A":1}}', "environment is wrong"),
        (b'{"finish":"s"}', "finish is wrong"),
        (b'{"exited":7}', "exited is wrong"),
        (b'{"exited":[7]}', "exited is wrong"),
        (b'{"exited":[[7,0]]}', "exited is wrong"),
        (b'{"exited":[[7,256,true]]}', "exited is wrong"),
        (b'{"exited":[[7,null,0]]}', "exited is wrong"),
        (b'{"finish":["s",1]}', "finish is wrong"),
    ],
)
def test_nonsense(packet: bytes, reason: str) -> None:
    with pytest.raises(Nonsense, match=reason):
        errands.decode(packet)


def test_what_may_be_left_out() -> None:
    assert errands.decode(b'{"start":7}') == errands.Start(7, {}, stderr=True)


def test_every_field_has_a_rule() -> None:
    named = {field for kind in get_args(Errand) for field in kind._fields}
    assert named == set(errands._RULES) == set(FIELDS)
