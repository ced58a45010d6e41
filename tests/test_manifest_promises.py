"""What a manifest says is what the socket does: for files that Hypothesis makes.

Law: the manifest is read from the socket that it describes, and is the only thing that
is consulted about what has to happen: which subprotocols are served, which messages go
which way, what they look like, how large they may be. Whole sessions in this process
(`stage`); those of real programs are at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncapi
from applications import FOREIGN, FRAMINGS, Application, Side, applications, toml
from chimirror.connection import OPEN
from peers import Closed, Peer, payload_of, stdin, text, upgrade
from promises import FIELD, Promise, request
from stage import Stage
from test_applications import Way, bridges, servers

KNOWN = [*(f"chimirror.{name}.v1" for name in FRAMINGS), *FOREIGN]


class Staged(Promise):
    """An application in this process, and how to try what its manifest says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with self.stage() as stage:
            stage.ask(request("/game/asyncapi.json"))
            super().__init__(stage.peer.refusal())

    def stage(self) -> Stage:
        return Stage("--apps", str(self._directory))

    @contextmanager
    def session(self, channel: str) -> Iterator[Stage]:
        """An open session over one of the channels."""
        with self.stage() as stage:
            offer = f"{FIELD}: {self.offers(channel)[-1]}"
            stage.open("", offer, target=self.address(channel))
            yield stage


@contextmanager
def promised(application: Application) -> Iterator[Staged]:
    with TemporaryDirectory() as directory:
        Path(directory, "game.toml").write_text(application.text)
        yield Staged(Path(directory))


# What is said, and what it is to the application


def compact(value: Any) -> bytes:
    return json.dumps(value).encode()


def line_of(channel: str, side: Side, value: Any) -> bytes:
    """A value on standard input or output."""
    if channel == "lines" and side.is_text:
        return str(value).encode() + b"\n"
    raw = compact(value)
    if channel == "lsp":
        return b"Content-Length: %d\r\n\r\n%b" % (len(raw), raw)
    return raw + b"\n"


def message_of(channel: str, side: Side, value: Any) -> bytes:
    """A value on the wire, where it is not wrapped."""
    return line_of(channel, side, value).rpartition(b"\r\n")[2].removesuffix(b"\n")


def sayable(
    channel: str, name: str, side: Side
) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Messages of that name, each with what standard input gets of it."""
    if name == "stdin":
        return st.binary(max_size=9).map(lambda data: (compact(stdin(data)), data))
    if name == "eof":
        return st.just((b'{"type":"eof"}', b""))
    if name == "signal":
        return st.just((b'{"type":"signal","name":"USR1"}', b""))
    return side.values.map(
        lambda value: (message_of(channel, side, value), line_of(channel, side, value))
    )


def end(stage: Stage) -> tuple[list[bytes], Closed]:
    """The messages of a session up to its end, and the end."""
    said: list[bytes] = []
    while not isinstance(got := stage.peer.receive(), Closed):
        said.append(got)
    return said, got


@settings(max_examples=60, deadline=None)
@given(applications())
def test_subprotocols(application: Application) -> None:
    with promised(application) as promise:
        channels = {
            name: channel
            for channel in promise.channels
            for name in promise.offers(channel)
        }
        assert channels == application.offered()
        asyncapi.check(promise.document)
        for name in KNOWN:
            with promise.stage() as stage:
                stage.ask(upgrade("/game", "", (f"{FIELD}: {name}",)))
                reply = stage.peer.head()
                if name not in channels:
                    assert reply.status == 400
                    continue
                assert reply.fields[FIELD.lower()] == name
                assert stage.session.framing.name == channels[name]


@settings(max_examples=60, deadline=None)
@given(applications())
def test_who_offers_nothing(application: Application) -> None:
    with promised(application) as promise, promise.stage() as stage:
        stage.open("", target="/game")
        optional = [
            name for name in promise.channels if "required" not in promise.headers(name)
        ]
        assert optional == [stage.session.framing.name]
        assert optional == [promise.contract["default_framing"]]


@settings(max_examples=60, deadline=None)
@given(applications(), st.data())
def test_what_a_client_may_send(application: Application, data: st.DataObject) -> None:
    with promised(application) as promise:
        for channel in promise.channels:
            messages = promise.messages(channel, "receive")
            said = {
                name: data.draw(sayable(channel, name, application.send))
                for name in messages
            }
            with promise.session(channel) as stage:
                for name, (raw, line) in said.items():
                    assert promise.fits(messages[name], raw)
                    stage.say(text(raw))
                    assert stage.application.heard() == line
                stage.exit()
                told, closed = end(stage)
            assert {promise.kind(channel, raw) for raw in told} <= {"session", "exit"}
            assert closed == (1000, "exit 0")


@settings(max_examples=60, deadline=None)
@given(applications(), st.data())
def test_what_a_client_gets(application: Application, data: st.DataObject) -> None:
    with promised(application) as promise:
        for channel in promise.channels:
            messages = promise.messages(channel, "send")
            value = data.draw(application.receive.values)
            line = line_of(channel, application.receive, value)
            with promise.session(channel) as stage:
                stage.print(line)
                if stage.application.stderr >= 0:
                    stage.print(b"\xff\x00", "stderr")
                if "error" in messages:
                    stage.say(text(b"no JSON"))
                stage.exit()
                said, _ = end(stage)
            found = {promise.kind(channel, raw): raw for raw in said}
            assert found.keys() == messages.keys()
            if "stdout" in found:
                assert payload_of(json.loads(found["stdout"])) == line
            if "output" in found:
                expected = message_of(channel, application.receive, value)
                assert found["output"] == expected


@settings(max_examples=60, deadline=None)
@given(applications())
def test_direction(application: Application) -> None:
    with promised(application) as promise:
        direction = promise.contract["direction"]
        assert direction == application.direction
        assert promise.contract["control"] is application.control
        for channel in promise.channels:
            hears = bool(promise.messages(channel, "receive"))
            speaks = {"stdout", "output"} & promise.messages(channel, "send").keys()
            assert (hears, bool(speaks)) == (
                direction != "receive",
                direction != "send",
            )
            if hears:
                continue
            with promise.session(channel) as stage:
                assert os.read(stage.application.stdin, 1) == b""  # its end
                stage.say(text(b'{"type":"eof"}'))
                _, closed = end(stage)
            assert {"code": closed.code, "reason": closed.reason}.items() <= next(
                each.items()
                for each in promise.contract["close"]
                if each["code"] == 1008
            )


@settings(max_examples=60, deadline=None)
@given(applications())
def test_the_largest_message(application: Application) -> None:
    with promised(application) as promise:
        size = promise.contract["max_message"]
        assert size == application.max_message
        for channel in promise.channels:
            if not promise.messages(channel, "receive"):
                continue
            with promise.session(channel) as stage:
                stage.say(text(b'{"type":"signal","name":"USR1"}'.ljust(size)))
                assert stage.session.connection.state == OPEN
                stage.say(text(b'{"type":"signal","name":"USR1"}'.ljust(size + 1)))
                _, closed = end(stage)
            assert closed == (1009, "over --max-message")


# The same by real programs

# Answers whatever it is asked, and says something before.
PILOT = """
import json, os, socket
control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"]))
for line in control.makefile():
    asked = json.loads(line)
    for said in (
        {"jsonrpc": "2.0", "method": "turned", "params": [1]},
        {"jsonrpc": "2.0", "id": asked["id"], "result": [asked["method"]]},
    ):
        control.sendall(json.dumps(said).encode() + b"\\n")
"""
FILES = {
    "cat": """
        command = ["cat"]
        framing = "json,stdio,lines,lsp"
        subprotocol = { mcp = "lines" }
        max-message = 1000
        [interface.send]
        examples = [{ a = 1 }]
    """,
    "pilot": f"""
        command = ["python3", "-c", {toml(PILOT)}]
        framing = "stdio,json"
        direction = "send"
        control = true
    """,
    "terminal": """
        command = ["cat"]
        framing = "stdio,json"
        pty = true
        [interface.send]
        examples = ["hello"]
    """,
    "clock": """
        command = ["sh", "-c", "echo '[12, 0]'; echo noon >&2; exec sleep 60"]
        framing = "lines,json,stdio"
        direction = "receive"
        [interface.receive.schema]
        type = "array"
        items = { type = "integer" }
    """,
    "diary": """
        command = ["sh", "-c", "echo dear diary; exec cat"]
        framing = "stdio,json,lines,lsp"
        direction = "send"
        [interface.send]
        examples = ["slept well"]
    """,
}


@pytest.mark.parametrize("ways", [bridges, servers])
@pytest.mark.parametrize("name", FILES)
def test_by_real_programs(
    ways: Callable[..., AbstractContextManager[Way]], name: str, tmp_path: Path
) -> None:
    directory = tmp_path / "apps"
    directory.mkdir()
    (directory / f"{name}.toml").write_text(FILES[name])
    with ways(directory) as way:
        with way.connect() as peer:
            peer.send_raw(request(f"/{name}/asyncapi.json"))
            promise = Promise(peer.refusal())
        asyncapi.check(promise.document)
        for channel in promise.channels:
            with opened(promise, channel, way) as peer:
                converse(promise, channel, peer)
        with opened(promise, "stdio", way) as peer:
            told = peer.message()
            assert ("secret" in told) == (promise.control is not None)
            if "secret" in told:
                steer(promise, told, way)


def opened(promise: Promise, channel: str, way: Way) -> Peer:
    peer = way.connect()
    offer = f"{FIELD}: {promise.offers(channel)[-1]}"
    reply = peer.open(promise.address(channel), framing="", fields=(offer,))
    assert reply.status == 101
    return peer


def converse(promise: Promise, channel: str, peer: Peer) -> None:
    """Say all that may be said, and hear all that the other side says."""
    expected = set(promise.messages(channel, "send")) - {"error", "stderr", "exit"}
    heard: set[str] = set()
    for message in promise.messages(channel, "receive").values():
        for raw in promise.examples(message):
            peer.send(raw)
    while heard < expected:
        got = peer.receive()
        assert isinstance(got, bytes)
        heard.add(promise.kind(channel, got))
    if promise.contract["direction"] == "receive":
        peer.send(b"{}")
        code, reason = 1008, "this application only sends"
    else:
        peer.send(b" " * (promise.contract["max_message"] + 1))
        code, reason = 1009, "over --max-message"
    while isinstance(got := peer.receive(), bytes):
        assert promise.kind(channel, got) in promise.messages(channel, "send")
    assert got == (code, reason)
    assert {(code, reason)} <= {
        (each["code"], each["reason"]) for each in promise.contract["close"]
    }


def steer(promise: Promise, told: dict[str, Any], way: Way) -> None:
    """Call every method that is told of, in that order, and one that is not."""
    params = {
        "authorize": {"session": told["id"], "secret": told["secret"]},
        "signal": {"name": "CONT"},
    }
    messages = promise.messages("control", "receive")
    methods = [name for name in messages if name != "close"]
    with opened(promise, "control", way) as hand:
        for name in (*filter("another".__ne__, methods), "dance", "close"):
            call: dict[str, Any] = {"jsonrpc": "2.0", "id": name, "method": name}
            if name in params:
                call["params"] = params[name]
            raw = compact(call)
            known = name in messages or promise.contract["control"]
            assert known == any(
                promise.fits(message, raw) for message in messages.values()
            )
            hand.send(raw)
            kind, answer = answered(promise, hand)
            assert answer["id"] == name
            passed_on = promise.contract["control"]
            assert kind == ("fault" if name == "dance" and not passed_on else "result")
            if name in ("status", "subscribe"):
                check_status(promise, answer["result"])
            elif name == "manifest":
                assert answer["result"].items() <= promise.document.items()
        assert hand.receive() == (1000, "control over")


def answered(promise: Promise, hand: Peer) -> tuple[str, dict[str, Any]]:
    """The answer to the last call; something else may have been told in between."""
    kind, answer = "changed", {}
    while kind in ("changed", "told"):
        got = hand.receive()
        assert isinstance(got, bytes)
        kind, answer = promise.kind("control", got), json.loads(got)
        if kind == "changed":
            check_status(promise, answer["params"])
    return kind, answer


def check_status(promise: Promise, status: dict[str, Any]) -> None:
    schema = promise.document["components"]["schemas"]["status"]
    assert status.keys() == schema["properties"].keys()
    assert asyncapi.fits(promise.document, schema, status)
