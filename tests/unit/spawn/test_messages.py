"""Messages survive encoding, and other packets are rejected."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.spawn import messages
from chimirror.spawn.messages import Message, MessageError

STATUSES = st.none() | st.integers(-64, 255)
NUMBERS = st.integers(0, (1 << 53) - 1)
PIDS = st.integers(0, messages.MAX_PID)
TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates too
SESSIONS = st.text(max_size=messages.MAX_SESSION_ID // 4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("start", "started", "failed"), NUMBERS),
    **dict.fromkeys(("zygote", "link", "worker", "taken"), NUMBERS),
    "pid": PIDS,
    "signals": st.lists(st.tuples(st.integers(1, 64), PIDS, TEXTS).map(list)),
    **dict.fromkeys(("stderr", "shortage", "pty", "control"), st.booleans()),
    **dict.fromkeys(("more", "ready", "stop"), st.booleans()),
    **dict.fromkeys(("directory", "session", "reason", "refused", "cgroup"), TEXTS),
    "signal": st.integers(1, 64),
    "user": st.just([]) | st.lists(st.integers(0, (1 << 32) - 2), min_size=2),
    "size": st.just([]) | st.lists(st.integers(1, 65535), min_size=2, max_size=2),
    "environment": st.dictionaries(TEXTS, TEXTS),
    "exited": st.lists(st.tuples(PIDS, STATUSES, st.booleans()).map(list)),
    **dict.fromkeys(("adopt", "over", "ended"), st.dictionaries(SESSIONS, PIDS)),
    **dict.fromkeys(("command", "finish"), st.lists(TEXTS)),
}


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, **{name: FIELDS[name] for name in kind._fields})


MESSAGES = st.one_of([messages_of(kind) for kind in get_args(Message)])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    assert messages.decode(messages.encode(message)) == message


@given(MESSAGES)
def test_unknown_members_are_ignored(message: Message) -> None:
    members = json.loads(messages.encode(message))
    assert messages.decode(json.dumps({**members, "new": [1]}).encode()) == message


@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_random_packets_raise_only_message_error(packet: bytes) -> None:
    try:
        messages.decode(packet)
    except MessageError:
        pass


@given(MESSAGES, st.data())
def test_members_of_another_type_are_rejected(
    message: Message, data: st.DataObject
) -> None:
    members = json.loads(messages.encode(message))
    name = data.draw(st.sampled_from(sorted(members)))
    wrong = data.draw(st.sampled_from([1.5, [1], {"a": [2]}, [{}], -200]))
    with pytest.raises(MessageError, match=name):
        messages.decode(json.dumps({**members, name: wrong}).encode())


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no JSON object"),
        (b'{"dance":1}', "'dance' is not a known message"),
        (
            b'{"pid":1,"signal":9}',
            "'pid' is not a known message",
        ),  # the first member names the message
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
        (b'{"signals":[[9,1]]}', "signals is wrong"),
        (b'{"signals":[[9,2147483648,"s"]]}', "signals is wrong"),
        (b'{"adopt":{"\\ud800":1}}', "adopt is wrong"),
        (b'{"over":{"%s":1}}' % (b"s" * 300), "over is wrong"),
        (b'{"start":1,"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
        (b'{"start":1%s}' % (b"0" * 5000), "not JSON"),
        (b'{"start":1%s}' % (b"0" * 100), "start is wrong"),
    ],
)
def test_invalid_messages(packet: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        messages.decode(packet)


def test_optional_members() -> None:
    assert messages.decode(b'{"start":7}') == messages.StartRequest(7, {}, stderr=True)


def test_every_field_has_a_rule() -> None:
    named = {field for kind in get_args(Message) for field in kind._fields}
    assert named == set(messages._RULES) == set(FIELDS)
